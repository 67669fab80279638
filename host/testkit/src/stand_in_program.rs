//! `etl-testkit stand-in`: a stand-in for SQL Server to try a pipeline on, until it is told to stop.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use etl_testkit::stand_in::{StandInOptions, StandInServer, StandInTls};
use tokio::signal::unix::{SignalKind, signal};

pub const USAGE: &str = "\
etl-testkit stand-in [--port PORT] [--name NAME] [--database NAME]… [--seed FILE.sql]… [--logins ROWS | --synthesise ROWS]
                     [--tls off|optional|required] [--tls-dir DIR]

  A server that speaks TDS on 127.0.0.1, for trying a pipeline without SQL Server; its data is gone with it.
  The user is sa, the password is taken from ETL_STAND_IN_PASSWORD. Seeds run in the first database (logins
  where none is named), with GO between batches; --logins makes and fills the table user_logins there; --synthesise
  makes it with any number of rows, of which few are kept, for measuring; --tls-dir gets ca.pem, the authority of its
  certificate. It ends at SIGTERM, at SIGINT or when a piped stdin closes.";

const PASSWORD_VARIABLE: &str = "ETL_STAND_IN_PASSWORD";

#[derive(Default)]
struct Wanted {
    options: StandInOptions,
    seeds: Vec<PathBuf>,
    logins: u64,
    synthesise: u64,
    tls_dir: Option<PathBuf>,
}

/// Runs it to its end.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let wanted = parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // Before the long work, or a signal in its midst would leave files behind.
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (ended, mut end) = tokio::sync::mpsc::channel::<()>(1);
        if stdin_is_a_pipe() {
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                let _ = ended.blocking_send(());
            });
        } else {
            // Kept, so that it never says that it has ended.
            std::mem::forget(ended);
        }
        let server = tokio::task::spawn_blocking(move || start(wanted));
        let server = tokio::select! {
            server = server => server??,
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        };
        println!(
            "the stand-in for SQL Server is ready: {}:{}, user {}, password as in {PASSWORD_VARIABLE}",
            server.host, server.port, server.user
        );
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
            _ = end.recv() => {}
        }
        Ok(())
    })
}

/// A terminal or `/dev/null` says nothing about who started it.
fn stdin_is_a_pipe() -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata("/dev/stdin").is_ok_and(|it| it.file_type().is_fifo())
}

fn parse(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    while let Some(argument) = arguments.next() {
        let argument = argument.to_string_lossy().into_owned();
        let Some(value) = arguments.next() else {
            bail!("{argument} wants a value\n{USAGE}");
        };
        let text = value.to_string_lossy().into_owned();
        match argument.as_str() {
            "--port" => wanted.options.port = text.parse().context("--port")?,
            "--name" => wanted.options.server_name = text,
            "--database" => wanted.options.databases.push(text),
            "--seed" => wanted.seeds.push(value.into()),
            "--logins" => wanted.logins = text.parse().context("--logins")?,
            "--synthesise" => wanted.synthesise = text.parse().context("--synthesise")?,
            "--tls-dir" => wanted.tls_dir = Some(value.into()),
            "--tls" => {
                wanted.options.tls = match text.as_str() {
                    "off" => StandInTls::Off,
                    "optional" => StandInTls::OptionalFresh,
                    "required" => StandInTls::RequiredFresh,
                    _ => bail!("--tls is off, optional or required"),
                }
            }
            _ => bail!("{argument} is not known\n{USAGE}"),
        }
    }
    if wanted.options.databases.is_empty() {
        wanted.options.databases.push("logins".to_owned());
    }
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) if !password.is_empty() => wanted.options.password = Some(password),
        _ => bail!("set {PASSWORD_VARIABLE} to the password that clients will use"),
    }
    // Nobody asks for them, and a benchmark sends many.
    wanted.options.keep_statements = false;
    Ok(wanted)
}

fn start(wanted: Wanted) -> Result<StandInServer> {
    let database = wanted
        .options
        .databases
        .first()
        .cloned()
        .unwrap_or_default();
    let server = StandInServer::start(wanted.options)?;
    if let (Some(dir), Some(ca)) = (&wanted.tls_dir, server.ca_pem()) {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join("ca.pem");
        fs::write(&file, ca).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for seed in &wanted.seeds {
        run_seed(&server, &database, seed)?;
    }
    if wanted.logins > 0 {
        server.make_logins(&database, wanted.logins)?;
    }
    if wanted.synthesise > 0 {
        server.synthesise_logins(&database, wanted.synthesise)?;
    }
    Ok(server)
}

fn run_seed(server: &StandInServer, database: &str, file: &Path) -> Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut batch = String::new();
    for line in text.lines().chain(std::iter::once("GO")) {
        if line.trim().eq_ignore_ascii_case("go") {
            if !batch.trim().is_empty() {
                server
                    .execute(database, &batch)
                    .with_context(|| file.display().to_string())?;
            }
            batch.clear();
        } else {
            batch.push_str(line);
            batch.push('\n');
        }
    }
    Ok(())
}
