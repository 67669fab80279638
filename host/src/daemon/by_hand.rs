//! What people do to what is loaded: look at checkpoints and dead letters, reset, replay, and load a past range again.
//!
//! The same rules hold for the command line; they are in [`checkpoint::by_hand`](crate::checkpoint::by_hand),
//! [`replay`](crate::runtime::replay) and [`backfill`](crate::backfill).

use std::sync::Arc;
use std::time::Duration;

use super::view::BackfillRequest;
use super::{Daemon, Refusal, lock};
use crate::backfill;
use crate::checkpoint::by_hand::ByHand;
use crate::checkpoint::view::CheckpointsView;
use crate::config::Config;
use crate::dead_letter::view::LetterView;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::launch::Launch;
use crate::runtime::replay::ReplayReport;
use crate::sink::{LetterFilter, Sink, build_sink};
use crate::stage::blocking;
use crate::state::Trigger;

/// How long the sink may take to say what it knows before a backfill is accepted without.
const PATIENCE: Duration = Duration::from_secs(5);

impl Daemon {
    /// How far a pipeline has been read.
    pub async fn checkpoints(&self, name: &str) -> Result<CheckpointsView, Refusal> {
        let (config, sink) = self.sink_of(name).await?;
        let stored = sink.load_checkpoints(&config.name).await?;
        Ok(CheckpointsView::of(&config.name, &stored))
    }

    /// Forgets a partition's position; says how far the pipeline has been read then.
    pub async fn reset_checkpoint(
        &self,
        name: &str,
        partition: &str,
        allow_duplicates: bool,
    ) -> Result<CheckpointsView, Refusal> {
        let (config, sink) = self.sink_of(name).await?;
        ByHand::new(sink.as_ref(), &config, allow_duplicates)
            .reset(partition)
            .await?;
        tracing::info!(
            pipeline = name,
            partition,
            "the checkpoint was reset by hand"
        );
        let stored = sink.load_checkpoints(&config.name).await?;
        Ok(CheckpointsView::of(&config.name, &stored))
    }

    /// Dead letters with their rows, in the order of their numbers.
    pub async fn dead_letters(
        &self,
        name: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<LetterView>, Refusal> {
        let (config, sink) = self.sink_of(name).await?;
        let letters = sink.load_dead_letters(&config.name, filter).await?;
        Ok(letters.iter().map(LetterView::with_row).collect())
    }

    /// Loads dead letters again; returns when the last one is through.
    pub async fn replay(&self, name: &str, filter: LetterFilter) -> Result<ReplayReport, Refusal> {
        let launch = self.launch(name).await?;
        let going = self.replays.begin(name);
        let _going = going.ok_or_else(|| {
            Refusal::Conflict(format!("a replay of {name}'s dead letters goes on already"))
        })?;
        let opening = launch.clone();
        let stages = blocking(move || Ok(opening.open())).await??;
        let cancel = self.shared.shutdown.child_token();
        let replay = launch.build_replay(stages, &self.pools, &cancel).await?;
        replay.run(filter).await.map_err(|error| {
            // A run has one of the partitions.
            if *error.kind() == ErrorKind::Busy {
                return Refusal::NotReady(error.into());
            }
            error.into()
        })
    }

    /// Loads a past range again, in a run of the pipeline; answers with its identifier once it is accepted.
    pub async fn backfill(&self, name: &str, request: BackfillRequest) -> Result<String, Refusal> {
        let launch = self.launch(name).await?;
        let options = backfill::options(
            request.from,
            request.to,
            request.window,
            request.partitions,
            request.restart,
        );
        let config = &launch.loaded.config;
        let wrong = |error: Error| Refusal::Invalid(error.into());
        backfill::check(config, &options, None).map_err(wrong)?;
        let sink = build_sink(&config.sink, &self.pools);
        let asked = tokio::time::timeout(PATIENCE, sink.load_checkpoints(&config.name)).await;
        // The run tells what is wrong with a sink that does not answer.
        if let Ok(Ok(stored)) = asked {
            backfill::check(config, &options, Some(&stored)).map_err(wrong)?;
        }
        self.order(name, Trigger::Backfill, options).await
    }

    /// The pipeline, if it may run: configured without mistakes, and not parked.
    async fn launch(&self, name: &str) -> Result<Launch, Refusal> {
        let (session, found) = (self.session.clone(), self.known(name)?.found);
        let loaded = blocking(move || Ok(Launch::load(&lock(&session), found, None))).await?;
        loaded.map_err(|failure| match failure {
            // It is parked.
            Failure::Host(error) if *error.kind() == ErrorKind::Plugin => {
                Refusal::NotReady(error.into())
            }
            failure => failure.into(),
        })
    }

    /// A pipeline's configuration, and its sink by the daemon's own pools.
    async fn sink_of(&self, name: &str) -> Result<(Config, Box<dyn Sink>), Refusal> {
        let found = self.known(name)?.found;
        let session = Arc::clone(&self.session);
        let loaded = blocking(move || Ok(lock(&session).load_config(&found))).await??;
        let sink = build_sink(&loaded.config.sink, &self.pools);
        Ok((loaded.config, sink))
    }
}
