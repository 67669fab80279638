//! What a process has used: time by the clock, time of the processor, memory.

use std::time::{Duration, Instant};

use etl_testkit::process::{Finished, Program, Running};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub rows: u64,
    pub wall: Duration,
    /// Of the process that is measured, with those it started.
    pub client: Duration,
    pub source: Duration,
    pub sink: Duration,
    /// The most that the client held at a time.
    pub memory: u64,
}

impl Line {
    /// Each figure's own median; the rows are the same in all.
    pub fn median(taken: &[Self]) -> Self {
        fn of<T: Ord + Copy>(taken: &[Line], figure: fn(&Line) -> T) -> T {
            let mut figures: Vec<T> = taken.iter().map(figure).collect();
            figures.sort_unstable();
            figures[figures.len() / 2]
        }
        Self {
            rows: of(taken, |line| line.rows),
            wall: of(taken, |line| line.wall),
            client: of(taken, |line| line.client),
            source: of(taken, |line| line.source),
            sink: of(taken, |line| line.sink),
            memory: of(taken, |line| line.memory),
        }
    }

    pub fn rate(&self) -> f64 {
        self.rows as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of the client's processor for a row.
    pub fn client_per_row(&self) -> f64 {
        self.client.as_secs_f64() * 1e6 / self.rows as f64
    }

    pub fn source_per_row(&self) -> f64 {
        self.source.as_secs_f64() * 1e6 / self.rows as f64
    }

    pub fn sink_per_row(&self) -> f64 {
        self.sink.as_secs_f64() * 1e6 / self.rows as f64
    }
}

/// Time of the processor since the machine knows these processes, and those that they waited for.
pub fn cpu_of(processes: &[u32]) -> Duration {
    let of_one = |pid: &u32| {
        (14..=17)
            .filter_map(|number| field(*pid, number))
            .sum::<u64>()
    };
    ticks(processes.iter().map(of_one).sum())
}

/// The same of a process, of those that it started, and of those of them that ended.
pub fn cpu_of_tree(root: u32) -> Duration {
    let mut below = children(root);
    loop {
        let cpu = cpu_of(&below) + cpu_of(&[root]);
        // One that ends in between would be counted twice or not at all.
        let now = children(root);
        if now == below {
            return cpu;
        }
        below = now;
    }
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (field(pid, 4)? == u64::from(parent)).then_some(pid)
    });
    processes.collect()
}

/// Time of the processor that children of this process have used which ended.
pub fn cpu_of_ended_children() -> Duration {
    let pid = std::process::id();
    ticks(field(pid, 16).unwrap_or(0) + field(pid, 17).unwrap_or(0))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does; one behind the name.
fn field(pid: u32, number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number - 3)?.parse().ok()
}

/// How often the memory of a client is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs a client to its end; what it wrote, and the most that it and the processes it started held at a time.
fn watch(client: Running) -> (Finished, u64) {
    let root = client.id();
    let mut most = 0;
    while !client.wait_for_end(LOOK_AGAIN) {
        let below = children(root).into_iter().map(resident);
        most = most.max(resident(root) + below.sum::<u64>());
    }
    (client.finish().unwrap(), most)
}

/// Bytes of a process in memory; 0 if it has ended. What several processes share is divided among them, if this process
/// may look (`Pss` in proc(5)).
fn resident(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let shared = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    if let Some(kilobytes) = shared.and_then(|text| text.trim().strip_suffix(" kB")) {
        return kilobytes.parse::<u64>().unwrap() * 1024;
    }
    let sizes = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = sizes
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Runs a client and says what it has used; `rows` finds in its output how many rows it moved.
pub fn line(servers: &super::Servers, client: Program, rows: impl FnOnce(&str) -> u64) -> Line {
    let before = (
        cpu_of_ended_children(),
        cpu_of(&servers.source_processes()),
        cpu_of_tree(servers.sink_process()),
    );
    let begin = Instant::now();
    let (finished, memory) = watch(client.start().unwrap());
    let wall = begin.elapsed();
    let finished = finished.require_code(0).unwrap();
    Line {
        rows: rows(&finished.stdout),
        wall,
        client: cpu_of_ended_children().saturating_sub(before.0),
        source: cpu_of(&servers.source_processes()).saturating_sub(before.1),
        sink: cpu_of_tree(servers.sink_process()).saturating_sub(before.2),
        memory,
    }
}
