//! Starts a worker process, listens to what it prints, and learns how it ended.
//!
//! Workers are started by one thread that lives as long as the host: a worker dies with the thread that started it
//! (`PR_SET_PDEATHSIG`, prctl(2)). Each is the leader of a process group, so that a signal typed at the host's terminal
//! does not reach it, and so that whatever it may have started ends with it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::ending::{Ending, Limits};
use super::fence::Fence;
use super::frame::{Broken, Channel, Kind};
use super::message::{Hello, Start};
use crate::capabilities::Redactor;
use crate::error::{Error, Result};
use crate::logs::Facts;
use crate::plugin::cache::StoredCopy;
use crate::process::Usage;

/// How long a worker that is not needed any more may take to end by itself.
pub const GRACE: Duration = Duration::from_secs(2);
/// How long the end of a process whose socket was closed is waited for.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// Lines of a worker's output that are kept for the case that it crashes.
const LINES_KEPT: usize = 20;
/// Lines of a worker's output that go to the log.
const LINES_LOGGED: usize = 1_000;
const LONGEST_LINE: usize = 2_000;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The host's own program.
    pub program: PathBuf,
    /// The plugin's file, which nobody removes while it may be started once more.
    pub copy: StoredCopy,
    /// The pipeline's number in the plugin; `None` to learn only what the plugin says of itself.
    pub pipeline: Option<u32>,
    /// The pipeline's settings, JSON.
    pub settings: String,
    /// What the worker may do.
    pub fence: Fence,
    /// For whom it works, as `ps` and the log show it.
    pub label: Label,
    /// Hides the granted secrets in what it prints.
    pub redactor: Arc<Redactor>,
    /// Longest time from its start until the plugin is loaded.
    pub patience: Duration,
}

impl Launch {
    /// What the worker is allowed, for the words about its end.
    pub fn limits(&self) -> Limits {
        Limits {
            memory: self.fence.memory,
            cpu_seconds: self.fence.cpu_time.map(|time| time.as_secs().max(1)),
        }
    }
}

/// For whom a worker works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The pipeline, or the file that is tried.
    pub pipeline: String,
    /// The partition; empty for what concerns the whole pipeline.
    pub partition: String,
}

/// A worker process with the plugin loaded.
pub struct Worker {
    control: Mutex<Option<UnixStream>>,
    process: Arc<Process>,
    hello: Hello,
}

/// Why a worker did not come to its first word.
pub enum NotStarted {
    /// The host could not start a process.
    Host(Error),
    /// It ended instead.
    Ended(Ending),
    /// It took too long.
    TooLate(Ending),
    /// It said something else.
    Garbage(String),
}

impl Worker {
    /// Starts a worker and waits until it has loaded the plugin.
    pub fn launch(launch: &Launch) -> Result<Self, NotStarted> {
        let cannot = |error: io::Error| {
            NotStarted::Host(Error::internal("cannot start a worker process").caused_by(error))
        };
        let (control, theirs) = UnixStream::pair().map_err(cannot)?;
        let (printed, out) = io::pipe().map_err(cannot)?;
        let mut command = Command::new(&launch.program);
        command
            .arg0("etl-host")
            .args(["worker", &launch.label.pipeline, &launch.label.partition])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(out.try_clone().map_err(cannot)?)
            .stderr(Stdio::from(out));
        let child = spawn(command).map_err(cannot)?;
        let process = Process::watch(child, printed, launch);
        let deadline = Instant::now() + launch.patience;
        let mut channel = Channel::new(control);
        let start = Start {
            copy: launch.copy.to_path_buf(),
            pipeline: launch.pipeline,
            settings: launch.settings.clone(),
            fence: launch.fence.clone(),
            host: std::process::id(),
        };
        let hello = channel
            .send(Kind::Call, &start, &[], Some(deadline))
            .and_then(|()| {
                Ok(Hello {
                    measures: channel.receive(Some(deadline))?.head()?,
                    loaded: channel.receive(Some(deadline))?.head()?,
                })
            });
        match hello {
            Ok(hello) => Ok(Self {
                control: Mutex::new(Some(channel.into_stream())),
                process,
                hello,
            }),
            Err(broken) => {
                if !matches!(broken, Broken::Gone(_)) {
                    process.kill();
                }
                let ending = process.ending();
                Err(match broken {
                    Broken::Gone(_) => NotStarted::Ended(ending),
                    Broken::TooLate => NotStarted::TooLate(ending),
                    Broken::Garbage(what) | Broken::Unsendable(what) => NotStarted::Garbage(what),
                })
            }
        }
    }

    /// Its first word.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// A socket to one more stage.
    pub fn open_channel(&self) -> io::Result<Channel> {
        let control = lock(&self.control);
        let control = control
            .as_ref()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the worker was ended"))?;
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&theirs));
        sendmsg(
            control,
            &[IoSlice::new(b"+")],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(Channel::new(ours))
    }

    /// Whether it could take one more stage.
    pub fn is_alive(&self) -> bool {
        let state = lock(&self.process.state);
        lock(&self.control).is_some() && state.status.is_none() && !state.doomed
    }

    /// Nothing more is wanted of it: it ends by itself once its stages are dropped, or is ended.
    pub fn end(&self) {
        if lock(&self.control).take().is_none() {
            return;
        }
        let process = self.process.clone();
        let waiting = thread::Builder::new()
            .name("worker-end".to_owned())
            .spawn(move || {
                if process.wait(GRACE).is_none() {
                    process.kill();
                }
            });
        if waiting.is_err() {
            self.process.kill();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A worker's process: its life, and what it printed.
pub struct Process {
    pid: Pid,
    label: Label,
    limits: Limits,
    redactor: Arc<Redactor>,
    /// For what it prints: its threads must not keep open the span that it works in.
    facts: Facts,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How it ended; until it is set, the process number is its own.
    status: Option<ExitStatus>,
    last_lines: VecDeque<String>,
    /// All that it printed has been read.
    silent: bool,
    /// It was told to end.
    doomed: bool,
}

impl Process {
    fn watch(child: Child, printed: PipeReader, launch: &Launch) -> Arc<Self> {
        let process = Arc::new(Self {
            pid: Pid::from_child(&child),
            label: launch.label.clone(),
            limits: launch.limits(),
            redactor: launch.redactor.clone(),
            facts: Facts::current(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (reader, waiter) = (process.clone(), process.clone());
        // Without these threads nothing is known of the process, but it ends all the same.
        let _ = thread::Builder::new()
            .name("worker-output".to_owned())
            .spawn(move || reader.read_lines(printed));
        let _ = thread::Builder::new()
            .name("worker-wait".to_owned())
            .spawn(move || waiter.reap(child));
        process
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// What it was allowed.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it uses; `None` once it has ended.
    pub fn usage(&self) -> Option<Usage> {
        let state = lock(&self.state);
        if state.status.is_some() {
            return None;
        }
        Usage::of(self.pid())
    }

    /// Ends it and whatever it started.
    pub fn kill(&self) {
        let mut state = lock(&self.state);
        state.doomed = true;
        if state.status.is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Waits for its end.
    pub fn wait(&self, patience: Duration) -> Option<ExitStatus> {
        let state = lock(&self.state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, patience, |state| state.status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.status
    }

    /// How it ended, for whoever has seen its socket close. If it still lives by then, it is ended.
    pub fn ending(&self) -> Ending {
        let state = lock(&self.state);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, LAST_BREATH, |state| {
                state.status.is_none() || !state.silent
            })
            .unwrap_or_else(PoisonError::into_inner);
        let ending = Ending {
            status: state.status,
            last_lines: state.last_lines.iter().cloned().collect(),
            limits: self.limits,
        };
        drop(state);
        self.kill();
        // Who comes next must not find it dying.
        self.wait(LAST_BREATH);
        ending
    }

    fn reap(&self, mut child: Child) {
        // Its number stays taken until it is collected, which happens where `kill` cannot be in between.
        let _ = waitid(
            WaitId::Pid(self.pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        let mut state = lock(&self.state);
        // What it has started goes too.
        let _ = kill_process_group(self.pid, Signal::KILL);
        state.status = child.wait().ok();
        drop(state);
        self.changed.notify_all();
    }

    fn read_lines(&self, mut printed: PipeReader) {
        let mut chunk = [0; 8192];
        let mut line = Vec::new();
        let mut lines = 0;
        while let Ok(read @ 1..) = printed.read(&mut chunk) {
            for byte in chunk.iter().take(read) {
                if *byte == b'\n' {
                    self.keep_line(&line, &mut lines);
                    line.clear();
                } else if line.len() < LONGEST_LINE {
                    line.push(*byte);
                }
            }
        }
        self.keep_line(&line, &mut lines);
        lock(&self.state).silent = true;
        self.changed.notify_all();
    }

    fn keep_line(&self, line: &[u8], lines: &mut usize) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        // A worker has no environment that the advice could be followed in.
        if line.is_empty() || line.starts_with("note: run with `RUST_BACKTRACE") {
            return;
        }
        let line = self.redactor.redact(line);
        *lines += 1;
        let Label {
            pipeline,
            partition,
        } = &self.label;
        let Facts {
            run_id, attempt, ..
        } = &self.facts;
        match *lines {
            ..=LINES_LOGGED => {
                tracing::info!(target: "plugin", pipeline, partition, run_id, attempt, "{line}");
            }
            more if more == LINES_LOGGED + 1 => tracing::warn!(
                target: "plugin",
                pipeline,
                partition,
                run_id,
                attempt,
                "the plugin has printed {LINES_LOGGED} lines; more are not logged"
            ),
            _ => {}
        }
        let mut state = lock(&self.state);
        if state.last_lines.len() == LINES_KEPT {
            state.last_lines.pop_front();
        }
        state.last_lines.push_back(line.into_owned());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it has left it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process from the thread that lives as long as the host.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static ORDERS: OnceLock<io::Result<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let orders = ORDERS.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("worker-start".to_owned())
            .spawn(move || {
                for (mut command, done) in taken {
                    let child = command.spawn();
                    // The host's ends of the child's descriptors are closed before anybody waits for them.
                    drop(command);
                    let _ = done.send(child);
                }
            })
            .map(|_| orders)
    });
    let orders = orders.as_ref().map_err(|_| gone())?;
    let (done, child) = mpsc::sync_channel(1);
    orders.send((command, done)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
