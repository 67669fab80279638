//! One connection through the proxy: forwards both ways until both have ended or a fault ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::Shared;
use super::order::{Direction, Fault, Seen};

const BUFFER: usize = 16 * 1024;
/// Longest wait for a side to end after it was told that the other has.
const FAREWELL: Duration = Duration::from_secs(5);
/// Portions in a second of a throttled direction.
const PORTIONS: u32 = 20;

/// How a connection ended.
enum Ending {
    /// By itself.
    Natural,
    Cut,
    Reset,
    /// Until the test releases it.
    HalfOpen(watch::Receiver<u64>),
}

/// What the two directions of a connection tell each other.
#[derive(Default)]
struct Both {
    answer_is_lost: AtomicBool,
}

/// Forwards between a client and the server, which is connected here.
pub(super) async fn serve(shared: Arc<Shared>, mut client: TcpStream) {
    let upstream = (shared.upstream.0.as_str(), shared.upstream.1);
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        // Nobody listens behind the proxy: the client sees what it would see without.
        reset(client);
        return;
    };
    // Small messages must not wait for more: the faults count bytes, not time.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ending = forward(&shared, &mut client, &mut server).await;
    match ending {
        Ending::Natural => {}
        Ending::Cut => {
            let _ = tokio::join!(client.shutdown(), server.shutdown());
            // Closed with bytes unread, a socket would be reset.
            let _ = tokio::time::timeout(FAREWELL, async {
                tokio::join!(drain(&mut client), drain(&mut server))
            })
            .await;
        }
        Ending::Reset => {
            reset(client);
            reset(server);
        }
        Ending::HalfOpen(mut released) => {
            let _ = released.changed().await;
            reset(client);
            reset(server);
        }
    }
}

/// Closes with RST.
pub(super) fn reset(socket: TcpStream) {
    let _ = socket.set_zero_linger();
    drop(socket);
}

async fn drain(socket: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

async fn forward(shared: &Shared, client: &mut TcpStream, server: &mut TcpStream) -> Ending {
    let both = Both::default();
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let up = pump(
        shared,
        &both,
        Direction::ToServer,
        client_read,
        server_write,
    );
    let down = pump(
        shared,
        &both,
        Direction::ToClient,
        server_read,
        client_write,
    );
    tokio::pin!(up, down);
    let (mut up_ended, mut down_ended) = (false, false);
    while !(up_ended && down_ended) {
        let ended = tokio::select! {
            ended = &mut up, if !up_ended => { up_ended = true; ended }
            ended = &mut down, if !down_ended => { down_ended = true; ended }
        };
        match ended {
            Ok(Ending::Natural) => {}
            Ok(ending) => return ending,
            // One side has broken its connection: so does the other.
            Err(_) => return Ending::Reset,
        }
    }
    Ending::Natural
}

async fn pump(
    shared: &Shared,
    both: &Both,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> io::Result<Ending> {
    let mut buffer = vec![0; BUFFER];
    let mut seen = Seen::nothing(direction);
    let mut limit = None;
    let mut released = shared.released.subscribe();
    loop {
        let read = from.read(&mut buffer).await?;
        if direction == Direction::ToClient && both.answer_is_lost.load(Ordering::SeqCst) {
            return Ok(Ending::Reset);
        }
        if read == 0 {
            to.shutdown().await?;
            return Ok(Ending::Natural);
        }
        let mut rest = buffer.get_mut(..read).unwrap_or_default();
        // What was released before is no answer to a fault that strikes now.
        released.borrow_and_update();
        while let Some(strike) = shared.orders.strike(&mut seen, rest) {
            shared.notify();
            let (now, later) = rest.split_at_mut(strike.after);
            if strike.fault == Fault::LoseAnswer {
                // Before the server can answer.
                both.answer_is_lost.store(true, Ordering::SeqCst);
            }
            send(shared, &mut to, &mut seen, now, limit).await?;
            rest = later;
            match strike.fault {
                Fault::Cut => return Ok(Ending::Cut),
                Fault::Reset | Fault::Refuse => return Ok(Ending::Reset),
                Fault::HalfOpen => return Ok(Ending::HalfOpen(released)),
                Fault::LoseAnswer => {}
                Fault::Hold => {
                    let _ = released.changed().await;
                }
                Fault::Delay(duration) => tokio::time::sleep(duration).await,
                Fault::Throttle { bytes_per_second } => limit = Some(bytes_per_second),
                Fault::Flip => {
                    if let Some(byte) = rest.first_mut() {
                        *byte ^= 0x10;
                    }
                }
            }
        }
        send(shared, &mut to, &mut seen, rest, limit).await?;
    }
}

async fn send(
    shared: &Shared,
    to: &mut WriteHalf<'_>,
    seen: &mut Seen,
    bytes: &[u8],
    limit: Option<u32>,
) -> io::Result<()> {
    let keep = shared.orders.tail_length();
    let portion = limit.map_or(BUFFER, |limit| (limit / PORTIONS).max(1) as usize);
    for part in bytes.chunks(portion) {
        to.write_all(part).await?;
        seen.add(part, keep);
        shared.count(seen.direction(), part.len() as u64);
        if limit.is_some() {
            tokio::time::sleep(Duration::from_secs(1) / PORTIONS).await;
        }
    }
    Ok(())
}
