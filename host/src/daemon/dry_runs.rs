//! The last dry runs. They change nothing and so leave no trace in the history, but whoever asked for one wants to see
//! how it ended.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde_json::Value;

use super::active::ActiveRun;
use super::lock;
use super::view::RunSummary;
use crate::runtime::report::RunReport;

/// As many as a daemon remembers until it ends.
const KEPT: usize = 50;

/// Dry runs that are over, the oldest first.
#[derive(Default)]
pub struct DryRuns {
    kept: Mutex<VecDeque<(RunSummary, Value)>>,
}

impl DryRuns {
    /// Remembers how one has ended.
    pub fn keep(&self, run: &ActiveRun, report: &RunReport) {
        let Ok(json) = serde_json::to_value(report) else {
            return;
        };
        let summary = RunSummary {
            run_id: report.run_id.clone(),
            pipeline: report.pipeline.clone(),
            status: report.status.word().to_owned(),
            trigger: run.trigger.word().to_owned(),
            scheduled_for: run.scheduled_for.map(|due| due.to_string()),
            started_at: report.started_at.clone(),
            finished_at: Some(report.finished_at.clone()),
            loaded: Some(report.rows.loaded),
            seconds: Some(report.seconds),
            extracted: Some(report.rows.extracted),
            quarantined: Some(report.rows.quarantined),
            attempts: Some(report.attempts),
            error: report
                .failures()
                .next()
                .map(|failure| failure.message.clone()),
        };
        let mut kept = lock(&self.kept);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((summary, json));
    }

    /// The summary of one, as the history has it of other runs.
    pub fn summary(&self, run_id: &str) -> Option<RunSummary> {
        self.find(run_id, |(summary, _)| summary.clone())
    }

    /// The report of one.
    pub fn report(&self, run_id: &str) -> Option<Value> {
        self.find(run_id, |(_, report)| report.clone())
    }

    fn find<T>(&self, run_id: &str, of: impl Fn(&(RunSummary, Value)) -> T) -> Option<T> {
        let kept = lock(&self.kept);
        kept.iter().find(|(run, _)| run.run_id == run_id).map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::launch::never_started;
    use crate::state::Trigger;
    use etl_plugin_api::Manifest;

    #[test]
    fn the_last_ones_are_remembered() {
        let runs = DryRuns::default();
        let ended: Vec<String> = (0..=KEPT)
            .map(|_| {
                let run = ActiveRun::new("copy", Trigger::Manual, None);
                let manifest = Manifest::new("copy", "1.0.0");
                let error = Error::internal("the shard is away");
                let mut report = never_started(&manifest, true, error);
                report.run_id.clone_from(&run.run_id);
                runs.keep(&run, &report);
                run.run_id
            })
            .collect();
        assert!(runs.summary(&ended[0]).is_none());
        let summary = runs.summary(&ended[1]).unwrap();
        assert_eq!(summary.status, "failed");
        assert!(summary.error.unwrap().contains("the shard is away"));
        assert_eq!(runs.report(&ended[KEPT]).unwrap()["dry_run"], true);
    }
}
