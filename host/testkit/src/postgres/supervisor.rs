//! The Rust end of `supervise.sh`: a process that outlives this one by just the time it takes to stop the
//! server and remove its directory. It does not know what is in the server.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

const PORTS_TO_TRY: usize = 5;

/// Owns a server directory through a child process. Dropping it waits until both are gone.
#[derive(Debug)]
pub(super) struct Supervisor {
    dir: PathBuf,
    child: Child,
    /// Closed by the kernel when this process ends; that is the signal to clean up. No child inherits it, as
    /// the standard library opens its pipes close-on-exec.
    verbs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Makes the directory and starts the process that owns it from now on.
    pub(super) fn start(bin: &Path, user: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("etl-test-postgres-")
            // The password lies in it.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a directory for PostgreSQL")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("supervise.sh"), "supervise"])
            .args([bin, dir.path(), Path::new(user)])
            // The tests' directory need not be readable for the server's user.
            .current_dir("/")
            .env("LC_ALL", "C")
            // Out of reach of signals that are meant for the tests' group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .spawn()
            .context("cannot start the supervisor of PostgreSQL")?;
        let (Some(verbs), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the supervisor of PostgreSQL has no pipes");
        };
        Ok(Self {
            dir: dir.keep(),
            child,
            verbs: Some(verbs),
            answers: BufReader::new(answers),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The library that the server is started with from now on.
    pub(super) fn preload(&self, library: &Path) -> Result<()> {
        // Beside the server, whose user need not be able to read the original.
        std::fs::copy(library, self.dir.join("preload.so"))
            .map(drop)
            .with_context(|| format!("cannot copy {}", library.display()))
    }

    /// The file whose existence tells the library that the disk is full.
    pub(super) fn full_disk_file(&self) -> PathBuf {
        self.dir.join("disk-is-full")
    }

    /// Makes the database cluster from the files in the directory.
    pub(super) fn init(&mut self) -> Result<()> {
        self.order("init")
    }

    /// Starts the server on this port and waits until it takes connections.
    pub(super) fn listen_on(&mut self, port: u16) -> Result<()> {
        self.order(&format!("start {port}"))
    }

    /// Starts the server on a port that nobody has.
    pub(super) fn listen_on_free_port(&mut self, address: &str) -> Result<u16> {
        let mut tries = 1;
        loop {
            let port = free_port(address)?;
            match self.listen_on(port) {
                Ok(()) => return Ok(port),
                // Somebody took the port between our look and the server's.
                Err(_) if tries < PORTS_TO_TRY && self.log()?.contains("already in use") => {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops the server without a goodbye to anybody.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.order("stop")
    }

    /// What the server and the programs around it have said.
    pub(super) fn log(&self) -> Result<String> {
        let mut log = String::new();
        for name in ["supervisor.log", "server.log"] {
            match std::fs::read(self.dir.join(name)) {
                Ok(bytes) => log += &String::from_utf8_lossy(&bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("cannot read the log of PostgreSQL"),
            }
        }
        Ok(log)
    }

    fn order(&mut self, verb: &str) -> Result<()> {
        let verbs = self.verbs.as_mut().context("the supervisor is gone")?;
        writeln!(verbs, "{verb}").context("cannot reach the supervisor of PostgreSQL")?;
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .context("cannot hear the supervisor of PostgreSQL")?;
        if answer.trim_end() != "ok" {
            bail!("PostgreSQL: `{verb}` failed. Its log:\n{}", self.log()?);
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.verbs.take());
        let _ = self.child.wait();
    }
}

fn free_port(address: &str) -> Result<u16> {
    let listener = TcpListener::bind((address, 0)).context("no free port on loopback")?;
    let address = listener.local_addr().context("a port without a number")?;
    Ok(address.port())
}
