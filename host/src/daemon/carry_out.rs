//! One run of the daemon from its claim to its end: what it waits for, and how it begins.
//!
//! Whether it is to be run at all is decided before, in [`pipeline`](super::pipeline); what it does, by the
//! [`Executor`](super::shared::Executor).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::active::ActiveRun;
use super::notify::Observation;
use super::shared::{Ended, FIRST_WAIT, LAST_WAIT, PATIENCE, Shared, Spec};
use super::view::Event;
use crate::plan::RunOptions;
use crate::sink::due::{DueNote, DueRun, DueStatus};

/// What became of an order.
pub enum Outcome {
    /// It was carried out.
    Ended(Ended),
    /// It was left out, for this reason.
    Skipped(String),
    /// It was stopped before it began.
    Stopped,
    /// Another daemon has it.
    Lost,
}

/// A run from its claim to its end: waits for its jitter, for what goes before it, and for its turn.
pub async fn carry_out(
    shared: Arc<Shared>,
    spec: Arc<Spec>,
    run: Arc<ActiveRun>,
    due: Option<DueRun>,
    options: RunOptions,
) -> Outcome {
    let ready = async {
        let Some(due) = &due else {
            return shared.place(&run).await.map(Begin::Place);
        };
        let instant = due.scheduled_for;
        run.wait_for("its jitter");
        let delay = spec.agenda.start_delay(&run.pipeline, instant);
        let start = instant.saturating_add(delay).unwrap_or(instant);
        shared.clock.sleep_until(start).await;
        for dependency in &spec.depends_on {
            run.wait_for(format!("the pipeline {}", dependency.pipeline));
            shared.standings.wait(dependency, instant).await?;
        }
        begin_due(&shared, &spec, &run, due).await
    };
    let _place = tokio::select! {
        biased;
        () = run.stop.drain.cancelled() => return Outcome::Stopped,
        ready = ready => match ready {
            Ok(Begin::Place(place)) => place,
            Ok(Begin::Lost) => return Outcome::Lost,
            Err(reason) => return Outcome::Skipped(reason),
        },
    };
    run.begin(shared.clock.now());
    if let Some(due) = &due {
        shared.notifier.tell(Observation::Begun {
            due: due.clone(),
            run_id: run.run_id.clone(),
        });
    }
    let delay = due.as_ref().and_then(|due| {
        let late = shared.clock.now().duration_since(due.scheduled_for);
        Duration::try_from(late).ok()
    });
    shared.metrics.run_started(&run.pipeline, delay);
    // Nobody may be listening, here and below.
    let _ = shared.events.send(Event::RunStarted {
        run_id: run.run_id.clone(),
        pipeline: run.pipeline.clone(),
    });
    let ended = shared.executor.run(&run, options).await;
    let _ = shared.events.send(Event::RunEnded {
        run_id: run.run_id.clone(),
        pipeline: run.pipeline.clone(),
        status: ended.status.word().to_owned(),
    });
    Outcome::Ended(ended)
}

/// What a run that wants to begin gets.
enum Begin {
    /// A place among the runs that go on at once, for as long as it is kept.
    Place(OwnedSemaphorePermit),
    /// Another daemon has its due run.
    Lost,
}

/// Notes in the sink that a run begins. Without that it does not: the sink may know of another daemon that has it. While
/// the sink does not answer, the place is left to others.
async fn begin_due(
    shared: &Shared,
    spec: &Spec,
    run: &ActiveRun,
    due: &DueRun,
) -> Result<Begin, String> {
    let note = DueNote {
        due,
        holder: &shared.holder,
        status: DueStatus::Running,
        run_id: Some(&run.run_id),
        reason: None,
    };
    let mut wait = FIRST_WAIT;
    loop {
        let place = shared.place(run).await?;
        run.wait_for("the sink to note that it begins");
        let noted = tokio::time::timeout(PATIENCE, spec.due_runs.note_due(&note)).await;
        match noted {
            Ok(Ok(true)) => return Ok(Begin::Place(place)),
            Ok(Ok(false)) => return Ok(Begin::Lost),
            Ok(Err(error)) => tracing::warn!(
                pipeline = run.pipeline,
                "the sink cannot be told that {due} begins: {error}; trying again"
            ),
            Err(_) => {
                tracing::warn!(
                    pipeline = run.pipeline,
                    "the sink does not answer; trying again"
                );
            }
        }
        drop(place);
        shared.clock.sleep(wait).await;
        wait = wait.saturating_mul(2).min(LAST_WAIT);
    }
}

impl Shared {
    /// A place among the runs that go on at once.
    async fn place(&self, run: &ActiveRun) -> Result<OwnedSemaphorePermit, String> {
        run.wait_for("a run of another pipeline to end");
        let permit = self.permits.clone().acquire_owned().await;
        permit.map_err(|_| "the daemon has ended".to_owned())
    }
}
