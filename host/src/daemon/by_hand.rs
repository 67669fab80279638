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

/// Dead letters that are read from the sink at a time: rows may be large.
const AT_A_TIME: u32 = 20;

/// So many bytes of rows fill a page of dead letters.
const PAGE_BYTES: usize = 8 << 20;

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
            .await
            .map_err(busy)?;
        tracing::info!(
            pipeline = name,
            partition,
            "the checkpoint was reset by hand"
        );
        let stored = sink.load_checkpoints(&config.name).await?;
        Ok(CheckpointsView::of(&config.name, &stored))
    }

    /// Dead letters with their rows, in the order of their numbers: as many as the filter says, or fewer where rows are
    /// large. The flag says that there are more.
    pub async fn dead_letters(
        &self,
        name: &str,
        filter: &LetterFilter,
    ) -> Result<(Vec<LetterView>, bool), Refusal> {
        let (config, sink) = self.sink_of(name).await?;
        let most = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut filter = filter.clone();
        let (mut views, mut bytes) = (Vec::new(), 0);
        loop {
            filter.limit = AT_A_TIME;
            let letters = sink.load_dead_letters(&config.name, &filter).await?;
            let is_last = letters.len() < AT_A_TIME as usize;
            for letter in letters {
                if views.len() == most || bytes > PAGE_BYTES {
                    return Ok((views, true));
                }
                bytes += letter.payload.len();
                filter.after = letter.id;
                views.push(LetterView::with_row(&letter));
            }
            if is_last {
                return Ok((views, false));
            }
        }
    }

    /// Loads dead letters again; returns when the last one is through.
    pub async fn replay(&self, name: &str, filter: LetterFilter) -> Result<ReplayReport, Refusal> {
        let replayed = self.replay_letters(name, filter).await;
        // Nobody may wait for the answer any more.
        if let Err(Refusal::Failed(failure) | Refusal::Invalid(failure)) = &replayed {
            tracing::error!(
                pipeline = name,
                "dead letters were not replayed: {}",
                failure.to_text()
            );
        }
        replayed
    }

    async fn replay_letters(
        &self,
        name: &str,
        filter: LetterFilter,
    ) -> Result<ReplayReport, Refusal> {
        let launch = self.launch(name).await?;
        let going = self.replays.begin(name);
        let _going = going.ok_or_else(|| {
            Refusal::Conflict(format!("a replay of {name}'s dead letters goes on already"))
        })?;
        let opening = launch.clone();
        let stages = blocking(move || Ok(opening.open())).await??;
        let cancel = self.shared.shutdown.child_token();
        let replay = launch.build_replay(stages, &self.pools, &cancel).await?;
        replay.run(filter).await.map_err(busy)
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

/// A run has one of the partitions: that is no fault of anybody.
fn busy(error: Error) -> Refusal {
    if *error.kind() == ErrorKind::Busy {
        return Refusal::NotReady(error.into());
    }
    error.into()
}
