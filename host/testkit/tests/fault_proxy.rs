//! The fault proxy breaks what it is told to break, where it is told to, and nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use etl_testkit::fault_proxy::{Direction, Fault, FaultProxy};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that sends back what it gets, and tells what each connection got and how it ended.
struct Echo {
    port: u16,
    got: mpsc::Receiver<(Vec<u8>, std::io::Result<()>)>,
}

fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, got) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, tell) = (socket.unwrap(), tell.clone());
            std::thread::spawn(move || {
                let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
                let ended = loop {
                    match socket.read(&mut buffer) {
                        Ok(0) => break Ok(()),
                        Ok(read) => {
                            all.extend_from_slice(&buffer[..read]);
                            if socket.write_all(&buffer[..read]).is_err() {
                                break Ok(());
                            }
                        }
                        Err(error) => break Err(error),
                    }
                };
                let _ = tell.send((all, ended));
            });
        }
    });
    Echo { port, got }
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    let socket = TcpStream::connect((proxy.host.as_str(), proxy.port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends it all, says that there is no more, and reads to the end.
fn talk(proxy: &FaultProxy, message: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut socket = connect(proxy);
    // The proxy may have gone by then.
    let _ = socket.write_all(message);
    let _ = socket.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let ended = socket.read_to_end(&mut answer).map(drop);
    (answer, ended)
}

fn is_reset(ended: &std::io::Result<()>) -> bool {
    matches!(ended, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn an_honest_proxy_changes_nothing() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    let message: Vec<u8> = (0..200_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let sent = message.clone();
    let mut socket = connect(&proxy);
    let mut writer = socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    writing.join().unwrap();
    assert!(answer == message);
    assert_eq!(proxy.forwarded(Direction::ToServer), 200_000);
    assert_eq!(proxy.forwarded(Direction::ToClient), 200_000);
    assert_eq!((proxy.connections(), proxy.fired()), (1, 0));
}

#[test]
fn a_cut_ends_both_sides_in_order_after_exactly_so_many_bytes() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    let fired = proxy.order(Fault::Cut.at(Direction::ToServer, 7));
    let mut socket = connect(&proxy);
    socket.write_all(b"0123456789").unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let (got, ended) = echo.got.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&got[..], ended.is_ok()), (&b"0123456"[..], true));
    assert_eq!(fired.count(), 1);
    // Once was ordered.
    assert_eq!(talk(&proxy, b"0123456789").0, b"0123456789");
    assert_eq!(fired.count(), 1);
}

#[test]
fn a_reset_is_a_reset_on_both_sides() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    proxy.order(Fault::Reset.at(Direction::ToClient, 3));
    let (answer, ended) = talk(&proxy, b"0123456789");
    assert!(
        answer.len() <= 3 && is_reset(&ended),
        "{answer:?} {ended:?}"
    );
    let (got, _) = echo.got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(got, b"0123456789");
}

#[test]
fn an_answer_is_lost_after_the_server_has_said_it() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    let fired = proxy.order(
        Fault::LoseAnswer
            .after(Direction::ToServer, *b"COMMIT\0")
            .skip(1),
    );
    let mut socket = connect(&proxy);
    let mut answer = [0; 8];
    socket.write_all(b"COMMIT\0!").unwrap();
    socket.read_exact(&mut answer).unwrap();
    socket.write_all(b"COMMIT\0?").unwrap();
    let mut rest = Vec::new();
    let ended = socket.read_to_end(&mut rest).map(drop);
    assert!(rest.is_empty() && is_reset(&ended), "{rest:?} {ended:?}");
    let (got, _) = echo.got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(got, b"COMMIT\0!COMMIT\0?");
    assert_eq!(fired.count(), 1);
}

#[test]
fn a_half_open_connection_says_nothing_until_it_is_released() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    proxy.order(Fault::HalfOpen.at(Direction::ToServer, 4));
    let mut socket = connect(&proxy);
    socket.write_all(b"0123").unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    socket.write_all(b"4567").unwrap();
    proxy.wait_until_fired(1, PATIENCE).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let silent = socket.read(&mut answer).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);
    assert!(
        echo.got.try_recv().is_err(),
        "the server's side is open too"
    );
    proxy.release();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_reset(&socket.read(&mut answer).map(drop)));
    let (got, _) = echo.got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(got, b"0123");
}

#[test]
fn what_is_held_goes_on_when_it_is_released() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    // An earlier release is none for this one.
    proxy.release();
    proxy.order(Fault::Hold.at(Direction::ToServer, 2));
    let mut socket = connect(&proxy);
    socket.write_all(b"0123").unwrap();
    proxy.wait_until_fired(1, PATIENCE).unwrap();
    let mut answer = [0; 2];
    socket.read_exact(&mut answer).unwrap();
    proxy.release();
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"23");
}

#[test]
fn delays_and_throttles_take_their_time_and_lose_nothing() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    proxy.order(Fault::Delay(Duration::from_millis(200)).at(Direction::ToClient, 5));
    let throttle = Fault::Throttle {
        bytes_per_second: 1_000,
    };
    proxy.order(throttle.at(Direction::ToServer, 0));
    let start = Instant::now();
    let (answer, ended) = talk(&proxy, &[7; 300]);
    assert!(answer == [7; 300] && ended.is_ok());
    // Six portions; the delay falls into the same time.
    assert!(start.elapsed() >= Duration::from_millis(290));
    assert_eq!(proxy.fired(), 2);
}

#[test]
fn a_flip_changes_one_bit_of_one_byte() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    proxy.order(Fault::Flip.at(Direction::ToServer, 3));
    let (answer, _) = talk(&proxy, &[0; 6]);
    assert_eq!(answer, [0, 0, 0, 0x10, 0, 0]);
}

#[test]
fn a_refused_connection_is_reset_and_the_next_one_is_served() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    proxy.order(Fault::Refuse.at_connect().times(2));
    for _ in 0..2 {
        // Who notices the reset, the write or the read, is a matter of luck.
        assert!(talk(&proxy, b"x").0.is_empty());
    }
    assert_eq!(talk(&proxy, b"x").0, b"x");
    assert_eq!((proxy.fired(), proxy.connections()), (2, 3));
}

#[test]
fn a_fault_that_never_struck_is_told() {
    let echo = echo();
    let proxy = FaultProxy::start("127.0.0.1", echo.port).unwrap();
    let fired = proxy.order(Fault::Cut.at(Direction::ToServer, 1_000));
    assert_eq!(talk(&proxy, b"too little").0, b"too little");
    assert_eq!(fired.count(), 0);
    let limit = Duration::from_millis(10);
    let error = proxy.wait_until_fired(1, limit).unwrap_err().to_string();
    assert!(error.starts_with("of 1 faults 0"), "{error}");
    assert!(!proxy.wait_for_bytes(Direction::ToServer, 1_000, limit));
}
