//! Gathers what `status` shows: pipelines from plugins, configuration and state, runs from the history, how far they are
//! from what their processes tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::workers_to_json;
use crate::cli::{Failure, Globals};
use crate::daemon::view::{DaemonView, PartitionView, PipelineState, RunView};
use crate::daemon::{Known, Roster, load_roster, process_of};
use crate::process::Usage;
use crate::progress::{self, Progress};
use crate::schedule::{Origin, Schedule};
use crate::session::{Folders, Session};
use crate::state::{RunRecord, RunningRecord};
use crate::worker::{Running, workers_of};

/// How long what was read of plugins and configurations holds.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// All that is shown.
#[derive(Debug)]
pub struct Overview {
    /// When it was so.
    pub at: Timestamp,
    /// The daemon of this state folder.
    pub daemon: Option<DaemonLine>,
    /// Each pipeline.
    pub pipelines: Vec<PipelineLine>,
    /// Runs that go on, oldest first.
    pub running: Vec<RunLine>,
    /// Runs that wait for their turn.
    pub queued: Vec<RunView>,
}

/// The daemon of a state folder.
#[derive(Debug)]
pub struct DaemonLine {
    /// Its process.
    pub process: u32,
    /// What it tells of itself; `None` in its first second.
    pub told: Option<DaemonView>,
    /// What its process uses.
    pub usage: Option<Usage>,
}

/// A pipeline.
#[derive(Debug)]
pub struct PipelineLine {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: PipelineState,
    /// Its schedule in words.
    pub schedule: Option<String>,
    /// When the daemon starts it next.
    pub next_run: Option<Timestamp>,
    /// The last run that ended.
    pub last_run: Option<RunRecord>,
}

/// A run that goes on.
#[derive(Debug)]
pub struct RunLine {
    /// The run.
    pub record: RunningRecord,
    /// What its process tells of it; `None` in its first second.
    pub told: Option<RunView>,
    /// Rows read per second: since the last look, or since it began.
    pub rows_per_second: Option<u64>,
    /// What the process uses, all its runs together.
    pub host: Option<Usage>,
    /// Its workers.
    pub workers: Vec<Running>,
}

impl RunLine {
    /// Its partitions, as far as they are told.
    pub fn partitions(&self) -> &[PartitionView] {
        self.told.as_ref().map_or(&[], |told| &told.partitions)
    }

    /// Rows read.
    pub fn extracted(&self) -> Option<u64> {
        let told = self.told.as_ref()?;
        Some(told.partitions.iter().map(|part| part.extracted).sum())
    }

    /// Memory of its workers; of its host if it has none.
    pub fn memory(&self) -> Option<u64> {
        if self.workers.is_empty() {
            return self.host.map(|usage| usage.resident_bytes);
        }
        let workers = self.workers.iter();
        Some(workers.map(|worker| worker.usage.resident_bytes).sum())
    }
}

/// Looks again and again.
pub struct Watch {
    folders: Folders,
    only: Option<String>,
    session: Session,
    roster: Roster,
    read_at: Instant,
    /// By run, when it had read so many rows, and how many a second it read before.
    seen: BTreeMap<String, (Timestamp, u64, Option<u64>)>,
}

impl Watch {
    /// Reads plugins and configurations.
    pub fn open(globals: &Globals, only: Option<&str>) -> Result<Self, Failure> {
        let folders = globals.folders();
        let session = Session::open(&folders)?;
        let roster = load_roster(&session, &Roster::new(), true)?;
        Ok(Self {
            folders,
            only: only.map(str::to_owned),
            session,
            roster,
            read_at: Instant::now(),
            seen: BTreeMap::new(),
        })
    }

    /// What goes on now.
    pub fn look(&mut self) -> Result<Overview, Failure> {
        if self.read_at.elapsed() >= READ_AGAIN {
            self.session = Session::open(&self.folders)?;
            self.roster = load_roster(&self.session, &self.roster, true)?;
            self.read_at = Instant::now();
        }
        let told = progress::load_all(&self.folders.state_dir);
        let mut records = self.session.state.running()?;
        records.retain(|record| self.is_wanted(&record.pipeline));
        let records = records.into_iter();
        let running: Vec<RunLine> = records.map(|record| self.run_line(record, &told)).collect();
        self.seen
            .retain(|run_id, _| running.iter().any(|run| run.record.run_id == *run_id));
        let queued: Vec<RunView> = told
            .iter()
            .flat_map(|process| &process.runs)
            .filter(|run| run.started_at.is_none() && self.is_wanted(&run.pipeline))
            .cloned()
            .collect();
        let daemon = process_of(&self.folders.state_dir).map(|process| {
            let mut told = told.iter();
            let told = told.find(|it| it.holder.process() == process);
            DaemonLine {
                process,
                told: told.and_then(|it| it.daemon.clone()),
                usage: Usage::of(process),
            }
        });
        let at = Timestamp::now();
        let mut pipelines = Vec::new();
        for (name, known) in &self.roster {
            if !self.is_wanted(name) {
                continue;
            }
            let current = if running.iter().any(|run| run.record.pipeline == *name) {
                Some(PipelineState::Running)
            } else {
                let waits = queued.iter().any(|run| run.pipeline == *name);
                waits.then_some(PipelineState::Queued)
            };
            pipelines.push(PipelineLine {
                name: name.clone(),
                state: current.unwrap_or_else(|| known.state()),
                schedule: in_words(known),
                next_run: known.next_after(at).filter(|_| daemon.is_some()),
                last_run: self.session.state.last_ended(name)?,
            });
        }
        Ok(Overview {
            at,
            daemon,
            pipelines,
            running,
            queued,
        })
    }

    fn is_wanted(&self, pipeline: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == pipeline)
    }

    fn run_line(&mut self, record: RunningRecord, told: &[Progress]) -> RunLine {
        let told = told.iter().find_map(|process| {
            let run = process.runs.iter();
            let mut run = run.filter(|run| run.run_id == record.run_id);
            run.next().map(|run| (process.at, run.clone()))
        });
        let workers = workers_of(record.process)
            .into_iter()
            .filter(|worker| worker.label.pipeline == record.pipeline)
            .collect();
        let mut line = RunLine {
            told: None,
            rows_per_second: None,
            host: Usage::of(record.process),
            workers,
            record,
        };
        if let Some((at, run)) = told {
            line.told = Some(run);
            let rows = line.extracted().unwrap_or_default();
            line.rows_per_second = self.rate(&line.record, at, rows);
        }
        line
    }

    fn rate(&mut self, record: &RunningRecord, at: Timestamp, rows: u64) -> Option<u64> {
        let before = match self.seen.get(&record.run_id) {
            // Nothing new was told since.
            Some((then, _, rate)) if *then == at => return *rate,
            Some((then, rows, _)) => Some((*then, *rows)),
            None => record.started_at.parse().ok().map(|began| (began, 0)),
        };
        let rate = before.and_then(|(then, before)| {
            let seconds = at.duration_since(then).as_secs_f64();
            // A partition that is tried again counts anew.
            per_second(rows.saturating_sub(before), seconds)
        });
        self.seen.insert(record.run_id.clone(), (at, rows, rate));
        rate
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is rounded"
)]
fn per_second(rows: u64, seconds: f64) -> Option<u64> {
    (seconds > 0.0).then(|| (rows as f64 / seconds).round() as u64)
}

/// The schedule for people.
fn in_words(known: &Known) -> Option<String> {
    if known.effective.origin == Origin::External {
        return Some("by a timer outside of etl-host".to_owned());
    }
    let schedule = known.effective.schedule.as_ref()?;
    Schedule::new(schedule)
        .ok()
        .map(|schedule| schedule.describe())
}

impl Overview {
    /// As `--output json` gives it.
    pub fn to_json(&self) -> serde_json::Value {
        let running: Vec<_> = self.running.iter().map(run_to_json).collect();
        let pipelines: Vec<_> = self
            .pipelines
            .iter()
            .map(|line| {
                json!({
                    "name": line.name,
                    "state": line.state,
                    "schedule": line.schedule,
                    "next_run": line.next_run,
                    "last_run": line.last_run,
                })
            })
            .collect();
        json!({
            "daemon": self.daemon.as_ref().map(|daemon| json!({
                "process": daemon.process,
                "started_at": daemon.told.as_ref().map(|told| told.started_at),
                "usage": daemon.usage,
            })),
            "pipelines": pipelines,
            "running": running,
            "queued": self.queued,
        })
    }
}

fn run_to_json(run: &RunLine) -> serde_json::Value {
    json!({
        "run_id": run.record.run_id,
        "pipeline": run.record.pipeline,
        "started_at": run.record.started_at,
        "process": run.record.process,
        "usage": run.host,
        "workers": workers_to_json(&run.workers),
        "partitions": run.partitions(),
        "rows_per_second": run.rows_per_second,
    })
}
