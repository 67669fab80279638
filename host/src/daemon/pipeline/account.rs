//! The sink's account of due instants, and how a pipeline's task and it are brought together.
//!
//! What is claimed here is carried out, and its end told, by the task itself.

use jiff::Timestamp;

use super::{KEEP, MOST_QUEUED, MOST_TRIES, ON_TIME, PRUNE_EVERY, PipelineTask, Unnoted};
use crate::config::{CatchUp, Overlap};
use crate::daemon::agenda::{Fate, fates};
use crate::daemon::notify::{EndedRun, Observation};
use crate::daemon::shared::{LEASE, Spec};
use crate::error::Result;
use crate::sink::due::{Claimed, DueClaim, DueNote, DueRecord, DueRun, DueStatus};

impl PipelineTask {
    pub(super) async fn reconcile(&mut self, spec: &Spec) -> Result<()> {
        let now = self.shared.clock.now();
        self.note_all(spec).await?;
        if self.seen.is_none() {
            let latest = self.latest_due(spec, now).await?;
            self.last = self.last_of_sink(spec).await?;
            self.seen = Some(latest.unwrap_or(spec.since).max(spec.since));
        }
        if self.is_busy() {
            spec.due_runs.renew_due(&self.shared.holder, LEASE).await?;
        }
        if !spec.enabled {
            return Ok(());
        }
        self.recover(spec).await?;
        self.claim_passed(spec, now).await?;
        if std::mem::take(&mut self.is_last_stale) {
            self.last = self.last_of_sink(spec).await?;
        }
        let prune_at = self.pruned_at.map(|at| at.saturating_add(PRUNE_EVERY));
        if prune_at.is_none_or(|at| at.unwrap_or(Timestamp::MAX) <= now) {
            let before = now.saturating_sub(KEEP).unwrap_or(Timestamp::MIN);
            spec.due_runs.prune_due(&self.name, before).await?;
            self.pruned_at = Some(now);
        }
        Ok(())
    }

    /// The newest instant that is accounted for. One in the future was claimed by a clock that was wrong; it is met again
    /// when its time comes.
    async fn latest_due(&self, spec: &Spec, now: Timestamp) -> Result<Option<Timestamp>> {
        let latest = spec.due_runs.latest_due(&self.name).await?;
        let Some(ahead) = latest.filter(|latest| *latest > now) else {
            return Ok(latest);
        };
        tracing::warn!(
            pipeline = self.name,
            "a due run of the future is claimed already, for {ahead}: look at the clocks of the machines"
        );
        let records = spec.due_runs.due_runs(&self.name, 1_000).await?;
        let past = records.into_iter().find(|it| it.scheduled_for <= now);
        Ok(past.map(|it| it.scheduled_for))
    }

    /// How the last run ended: by the sink, which other machines write too, or by this machine's history.
    async fn last_of_sink(&self, spec: &Spec) -> Result<Option<DueStatus>> {
        let records = spec.due_runs.due_runs(&self.name, 200).await?;
        let ran = records.iter().map(|record| record.status).find(|status| {
            matches!(
                status,
                DueStatus::Succeeded
                    | DueStatus::Partial
                    | DueStatus::Failed
                    | DueStatus::Cancelled
                    | DueStatus::Interrupted
            )
        });
        match ran {
            Some(status) => Ok(Some(status)),
            None => Ok(self.shared.executor.last_status(&self.name).await),
        }
    }

    /// Takes up what a daemon that died has left, and looks what other daemons do.
    async fn recover(&mut self, spec: &Spec) -> Result<()> {
        let before = std::mem::take(&mut self.foreign);
        for record in spec.due_runs.unfinished_due(&self.name).await? {
            let due = DueRun::new(&self.name, record.scheduled_for);
            if record.holder == self.shared.holder {
                // The answer to a claim was lost.
                if !self.knows(&due) {
                    self.push(due, spec);
                }
            } else if record.is_abandoned() {
                self.take_over(due, &record, spec).await?;
            } else {
                self.foreign.insert(record.scheduled_for, record.status);
            }
        }
        // Another daemon's run is over.
        self.is_last_stale |= before.keys().any(|it| !self.foreign.contains_key(it));
        Ok(())
    }

    async fn take_over(&mut self, due: DueRun, record: &DueRecord, spec: &Spec) -> Result<()> {
        let claim = self.claim(due.clone(), DueStatus::Queued, None);
        if !spec.due_runs.take_over_due(&claim, record).await? {
            return Ok(());
        }
        if record.status == DueStatus::Running && record.tries >= MOST_TRIES {
            let reason = format!(
                "the daemon died in each of {MOST_TRIES} tries; look at the log of run {}",
                record.run_id.as_deref().unwrap_or("-")
            );
            tracing::error!(pipeline = self.name, "{due} is given up: {reason}");
            self.shared
                .notifier
                .tell(Observation::Ended(EndedRun::interrupted(
                    &self.name,
                    record.run_id.as_deref().unwrap_or("-"),
                    &record.started_at.unwrap_or(record.claimed_at).to_string(),
                    Some(due.scheduled_for),
                )));
            self.unnoted.push(Unnoted {
                due,
                status: DueStatus::Interrupted,
                run_id: None,
                reason: Some(reason),
            });
            return Ok(());
        }
        tracing::info!(
            pipeline = self.name,
            "{due} was left by {} and is taken up",
            record.holder
        );
        self.push(due, spec);
        Ok(())
    }

    /// Claims the instants that have passed.
    async fn claim_passed(&mut self, spec: &Spec, now: Timestamp) -> Result<()> {
        let seen = self.seen.unwrap_or(spec.since).max(spec.since);
        self.seen = Some(seen);
        let decided = fates(&spec.agenda.passed(seen, now), now, spec.catch_up);
        let missed: Vec<DueClaim> = decided
            .iter()
            .filter(|(_, fate)| *fate == Fate::Missed)
            .map(|(instant, _)| {
                let reason = "nobody could start it when it was due, and `catch_up` leaves it out";
                let due = DueRun::new(&self.name, *instant);
                self.claim(due, DueStatus::Missed, Some(reason))
            })
            .collect();
        if let Some(last) = missed.last() {
            let claimed = spec.due_runs.claim_each_due(&missed).await?;
            self.seen = Some(last.due.scheduled_for);
            for (claim, claimed) in missed.iter().zip(claimed) {
                if claimed {
                    self.tell_not_run(&claim.due, DueStatus::Missed, claim.reason.as_deref());
                }
            }
        }
        for (instant, fate) in decided {
            if fate == Fate::Missed {
                continue;
            }
            // Those that are made up for are not in each other's way.
            let on_time = instant.saturating_add(ON_TIME).unwrap_or(instant) >= now;
            let overlap = match spec.catch_up {
                CatchUp::All(_) if !on_time => Overlap::Queue,
                _ => spec.overlap,
            };
            if overlap == Overlap::Queue && self.queue.len() >= MOST_QUEUED {
                break;
            }
            let due = DueRun::new(&self.name, instant);
            self.claim_due(due, overlap, spec).await?;
            self.seen = Some(instant);
        }
        Ok(())
    }

    async fn claim_due(&mut self, due: DueRun, overlap: Overlap, spec: &Spec) -> Result<()> {
        let busy = self.is_busy() || !self.foreign.is_empty();
        let left_out = match overlap {
            Overlap::Skip if busy => Some("an earlier run was not over"),
            _ => None,
        };
        let status = match left_out {
            Some(_) => DueStatus::Skipped,
            None => DueStatus::Queued,
        };
        let claim = self.claim(due, status, left_out);
        match spec.due_runs.claim_due(&claim).await? {
            Claimed::New if left_out.is_some() => {
                self.tell_not_run(&claim.due, status, left_out);
            }
            Claimed::New => {
                if overlap == Overlap::Cancel {
                    self.stop_all("a newer run was due");
                }
                self.push(claim.due, spec);
            }
            Claimed::Exists(record) if record.status.is_final() => self.is_last_stale = true,
            Claimed::Exists(record) if record.holder == self.shared.holder => {
                if !self.knows(&claim.due) {
                    self.push(claim.due, spec);
                }
            }
            Claimed::Exists(record) => {
                self.foreign.insert(record.scheduled_for, record.status);
            }
        }
        Ok(())
    }

    fn claim(&self, due: DueRun, status: DueStatus, reason: Option<&str>) -> DueClaim {
        DueClaim {
            due,
            holder: self.shared.holder.clone(),
            lease: LEASE,
            status,
            reason: reason.map(str::to_owned),
        }
    }

    /// Tells the sink what it has not been told yet.
    pub(super) async fn note_all(&mut self, spec: &Spec) -> Result<()> {
        while let Some(unnoted) = self.unnoted.first() {
            let note = DueNote {
                due: &unnoted.due,
                holder: &self.shared.holder,
                status: unnoted.status,
                run_id: unnoted.run_id.as_deref(),
                reason: unnoted.reason.as_deref(),
            };
            if !spec.due_runs.note_due(&note).await? {
                tracing::warn!(
                    pipeline = self.name,
                    "{} ended as {}, and another daemon has it by now",
                    unnoted.due,
                    unnoted.status
                );
            }
            self.unnoted.remove(0);
        }
        Ok(())
    }
}
