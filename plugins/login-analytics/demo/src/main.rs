//! Makes the shards that the demo of login-analytics reads.

mod report;
mod shard;
mod sink;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use login_analytics_demo::world::World;

use crate::report::Report;
use crate::shard::Done;

/// Makes SQLite shards of user logins for the demo.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the shards go; made if it is missing.
    #[arg(long, default_value = "data")]
    dir: PathBuf,
    /// Logins in each shard.
    #[arg(long, default_value_t = 250_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    rows: u32,
    /// How many shards.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: u32,
    /// Add this many newer logins to the first shard, and do nothing else.
    #[arg(long, value_name = "N", conflicts_with_all = ["rows", "shards"], value_parser = clap::value_parser!(u32).range(1..))]
    append: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Report(Report),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Report(report)) = &arguments.command {
        print!("{}", report.text()?);
        return Ok(());
    }
    let world = World::new()?;
    if let Some(rows) = arguments.append {
        let path = shard_path(&arguments.dir, 1);
        shard::append(&world, &path, 1, rows)?;
        println!("{}: {rows} newer logins added", path.display());
        return Ok(());
    }
    fs::create_dir_all(&arguments.dir)
        .with_context(|| format!("cannot make {}", arguments.dir.display()))?;
    thread::scope(|scope| {
        let makers: Vec<_> = (1..=arguments.shards)
            .map(|number| {
                let (world, arguments) = (&world, &arguments);
                scope.spawn(move || make(world, arguments, number))
            })
            .collect();
        for maker in makers {
            match maker.join() {
                Ok(line) => println!("{}", line?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

fn make(world: &World, arguments: &Arguments, number: u32) -> Result<String> {
    let path = shard_path(&arguments.dir, number);
    let start = Instant::now();
    let rows = arguments.rows;
    Ok(match shard::make(world, &path, number, rows)? {
        Done::Made => format!(
            "{}: {rows} logins made in {:.1?}",
            path.display(),
            start.elapsed()
        ),
        Done::Kept => format!(
            "{}: {rows} logins are there already, left as it is",
            path.display()
        ),
    })
}

fn shard_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("shard-{number}.db"))
}
