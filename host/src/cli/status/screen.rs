//! The terminal that `status` draws on: its second screen, without a cursor, keys at once. Left as it was, however the
//! command ends; only `kill -9` and a stop leave it to the shell.

use std::io::{self, Read, Write, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// To the second screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const TO_THE_END_OF_THE_LINE: &str = "\x1b[K";
const TO_THE_END: &str = "\x1b[J";
/// For a terminal that does not tell its size.
const SIZE: (usize, usize) = (80, 24);

/// The terminal.
pub struct Screen {
    /// As it was; `None` if there is no keyboard.
    before: Option<Termios>,
    ends: Receiver<()>,
    drawn_at: Instant,
}

impl Screen {
    /// Takes the terminal. The signals that end the command are taken note of on this runtime.
    pub fn open(runtime: &Runtime) -> Result<Self> {
        let (sender, ends) = channel();
        let _entered = runtime.enter();
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            let listening = signal(kind)
                .map_err(|error| Error::internal("cannot listen for signals").caused_by(error))?;
            runtime.spawn(wait_for(listening, sender.clone()));
        }
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = tcsetattr(stdin(), OptionalActions::Now, &keys);
            // It ends with the process: nothing interrupts a read.
            std::thread::spawn(move || listen(&sender));
        }
        let screen = Self {
            before,
            ends,
            drawn_at: Instant::now(),
        };
        write(ENTER)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => SIZE,
        }
    }

    /// Draws a page over the last one, without a flicker.
    pub fn draw(&mut self, page: &[String]) -> Result<()> {
        self.drawn_at = Instant::now();
        let mut text = HOME.to_owned();
        for (index, line) in page.iter().enumerate() {
            if index > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str(TO_THE_END_OF_THE_LINE);
        }
        text.push_str(TO_THE_END);
        write(&text)
    }

    /// Waits until the next page is due; `true` if somebody wants no more.
    pub fn wait_for_end(&self, pace: Duration) -> bool {
        let left = pace.saturating_sub(self.drawn_at.elapsed());
        !matches!(self.ends.recv_timeout(left), Err(RecvTimeoutError::Timeout))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

async fn wait_for(mut signal: Signal, ends: Sender<()>) {
    while signal.recv().await.is_some() {
        let _ = ends.send(());
    }
}

fn listen(ends: &Sender<()>) {
    let mut key = [0];
    while stdin().lock().read(&mut key).is_ok_and(|read| read == 1) {
        if matches!(key, [b'q' | b'Q']) {
            let _ = ends.send(());
        }
    }
}

fn write(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error: io::Error| {
        Error::internal("the terminal cannot be written to").caused_by(error)
    })
}
