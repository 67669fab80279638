//! Runs a program the way a person at a terminal would: arguments, environment, output, signals, exit code.
//! Every wait ends with an event or with the deadline, never with a guess at a duration. It knows nothing of
//! what the program does.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

pub use rustix::process::Signal;

const DEFAULT_DEADLINE: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A program that is about to be started.
#[derive(Debug)]
pub struct Program {
    command: Command,
    deadline: Duration,
}

/// A program that was started. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    name: String,
    until: Instant,
    watched: Arc<Watched>,
    watchers: Vec<JoinHandle<()>>,
    seen: [usize; 2],
}

/// What a program left behind when it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; `None` when a signal ended the program.
    pub code: Option<i32>,
    /// The number of the signal that ended the program.
    pub signal: Option<i32>,
    /// Everything it wrote to standard output.
    pub stdout: String,
    /// Everything it wrote to standard error.
    pub stderr: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out = 0,
    Err = 1,
}

#[derive(Debug, Default)]
struct Watched {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    out: Captured,
    err: Captured,
    exited: bool,
}

#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Program {
    /// The program at `path`, with no input and a deadline of two minutes.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        command.stdin(Stdio::null());
        Self {
            command,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets one variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes one variable out of the environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts it in this directory.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// How long it may live, counted from its start.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes it the leader of a process group, as a shell does, for [`Running::signal_group`].
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Result<Finished> {
        self.start()?.finish()
    }

    /// Starts it.
    pub fn start(mut self) -> Result<Running> {
        let name = self.command.get_program().to_string_lossy().into_owned();
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_child(&child);
        let watched = Arc::new(Watched::default());
        let mut watchers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            watchers.push(watch_stream(&watched, Stream::Out, pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            watchers.push(watch_stream(&watched, Stream::Err, pipe));
        }
        watchers.push(watch_exit(&watched, pid));
        Ok(Running {
            child,
            pid,
            name,
            until: Instant::now() + self.deadline,
            watched,
            watchers,
            seen: [0, 0],
        })
    }
}

impl Running {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output that fits, and returns it. The next call starts behind that line.
    pub fn wait_for_stdout(&mut self, fits: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for(Stream::Out, &fits)
    }

    /// Waits for a line of standard error that fits, and returns it. The next call starts behind that line.
    pub fn wait_for_stderr(&mut self, fits: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for(Stream::Err, &fits)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.watched.lock().exited
    }

    /// Waits for its end for a while; whether it has ended.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.watched.lock();
        while !state.exited {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return false;
            };
            state = self.watched.wait(state, left);
        }
        true
    }

    /// Sends a signal. A program that has ended already is left alone, and that is no error.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The process is reaped only with `self`, so the id cannot belong to another one by now.
        kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Sends a signal to its process group, as a terminal does for Ctrl-C. It must have a group of its own.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        kill_process_group(self.pid, signal)
            .with_context(|| format!("cannot signal the group of {}", self.name))
    }

    /// Waits for its end and for the end of its output. Past the deadline it is killed, and that is an error.
    ///
    /// A descendant that outlives the program and keeps its output open counts as not ended.
    pub fn finish(mut self) -> Result<Finished> {
        let mut state = self.watched.lock();
        while !(state.exited && state.out.ended && state.err.ended) {
            let Some(left) = self.until.checked_duration_since(Instant::now()) else {
                let what = if state.exited {
                    "ended, but a process it started still holds its output open"
                } else {
                    "did not end before its deadline"
                };
                bail!("{} {what}{}", self.name, state.describe());
            };
            state = self.watched.wait(state, left);
        }
        let (stdout, stderr) = (state.out.text(), state.err.text());
        drop(state);
        let status = self.child.wait().context("cannot collect the exit code")?;
        Ok(Finished {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
        })
    }

    fn wait_for(&mut self, stream: Stream, fits: &dyn Fn(&str) -> bool) -> Result<String> {
        let [seen_out, seen_err] = &mut self.seen;
        let seen = match stream {
            Stream::Out => seen_out,
            Stream::Err => seen_err,
        };
        let mut state = self.watched.lock();
        loop {
            while let Some(line) = state.captured(stream).next_line(seen) {
                if fits(&line) {
                    return Ok(line);
                }
            }
            if state.captured(stream).ended {
                bail!(
                    "{} closed its output without the awaited line{}",
                    self.name,
                    state.describe()
                );
            }
            let left = self
                .until
                .checked_duration_since(Instant::now())
                .ok_or_else(|| {
                    anyhow!(
                        "{} did not write the awaited line before its deadline{}",
                        self.name,
                        state.describe()
                    )
                })?;
            state = self.watched.wait(state, left);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `finish` these are no-ops. The exit watcher must be gone before the id is given back.
        let _ = self.child.kill();
        if let Some(exit_watcher) = self.watchers.pop() {
            let _ = exit_watcher.join();
        }
        let _ = self.child.wait();
    }
}

impl Finished {
    /// True when the exit code is 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Itself when the exit code is this one; otherwise an error that shows the output.
    pub fn require_code(self, code: i32) -> Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let mut message = format!("expected exit code {code}, got ");
        let _ = match (self.code, self.signal) {
            (Some(code), _) => write!(message, "{code}"),
            (None, signal) => write!(message, "signal {}", signal.unwrap_or_default()),
        };
        bail!(
            "{message}\n--- stdout ---\n{}\n--- stderr ---\n{}",
            self.stdout,
            self.stderr
        )
    }

    /// Standard output, read as one JSON document.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("standard output is not one JSON document:\n{}", self.stdout))
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl State {
    fn captured(&self, stream: Stream) -> &Captured {
        match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        }
    }

    fn captured_mut(&mut self, stream: Stream) -> &mut Captured {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn describe(&self) -> String {
        format!(
            "\n--- stdout ---\n{}\n--- stderr ---\n{}",
            self.out.text(),
            self.err.text()
        )
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The next whole line behind `seen`. A carriage return ends a line as well, as progress bars use it; the
    /// last line of a stream that has ended needs no end.
    fn next_line(&self, seen: &mut usize) -> Option<String> {
        let rest = self.bytes.get(*seen..)?;
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, taken) = match end {
            Some(end) => (rest.get(..end)?, end + 1),
            None if self.ended && !rest.is_empty() => (rest, rest.len()),
            None => return None,
        };
        *seen += taken;
        Some(String::from_utf8_lossy(line).into_owned())
    }
}

fn watch_stream(
    watched: &Arc<Watched>,
    stream: Stream,
    mut pipe: impl Read + Send + 'static,
) -> JoinHandle<()> {
    let watched = Arc::clone(watched);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => watched.change(|state| {
                    let read = buffer.get(..count).unwrap_or_default();
                    state.captured_mut(stream).bytes.extend_from_slice(read);
                }),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        watched.change(|state| state.captured_mut(stream).ended = true);
    })
}

/// Waits until a process has ended that somebody else has started. Past the limit that is an error.
///
/// Nobody tells of the end of such a process, so it is looked for again and again.
pub fn wait_for_stranger(id: u32, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    while lives(id) {
        if Instant::now() >= until {
            bail!("process {id} still lives after {} s", limit.as_secs_f64());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Whether the process is there and not only waits to be collected (`proc_pid_stat(5)`).
fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Notices the exit but leaves the process to be reaped by its owner, so that its id stays valid for signals.
fn watch_exit(watched: &Arc<Watched>, pid: Pid) -> JoinHandle<()> {
    let watched = Arc::clone(watched);
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(Errno::INTR)) {}
        watched.change(|state| state.exited = true);
    })
}
