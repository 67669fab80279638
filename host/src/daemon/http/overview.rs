//! Which pipelines a list shows, and in which order. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::daemon::view::{PipelineState, PipelineView};

/// Which pipelines.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PipelinesQuery {
    /// Only those with this text in their name or description.
    pub search: Option<String>,
    /// Only those in this state, or `failing`: its last run failed, was partial or interrupted, its configuration has
    /// mistakes, it is parked, or it is overdue.
    pub state: Option<String>,
    /// The order.
    #[param(inline)]
    pub sort: Order,
    /// At most so many; all if it is left out.
    pub limit: Option<usize>,
    /// Without the first so many.
    pub offset: usize,
}

/// The order of pipelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// Failing ones first, then those that run, those that wait, and the rest; each by name.
    Attention,
}

/// A page of pipelines.
#[derive(Debug)]
pub struct Page {
    /// Those on it.
    pub pipelines: Vec<PipelineView>,
    /// How many match.
    pub total: usize,
    /// How many of all pipelines are in each state, and `failing`.
    pub states: BTreeMap<&'static str, usize>,
}

/// Picks the pipelines that are asked for.
pub fn build_page(all: Vec<PipelineView>, query: &PipelinesQuery) -> Page {
    let mut states = BTreeMap::new();
    for pipeline in &all {
        *states.entry(word(pipeline.state)).or_default() += 1;
        *states.entry("failing").or_default() += usize::from(is_failing(pipeline));
    }
    let search = query.search.as_deref().unwrap_or_default().to_lowercase();
    let mut pipelines = all;
    pipelines.retain(|it| {
        let found = |text: &str| text.to_lowercase().contains(&search);
        let state = match query.state.as_deref() {
            None | Some("") => true,
            Some("failing") => is_failing(it),
            Some(state) => word(it.state) == state,
        };
        state && (found(&it.name) || found(&it.description))
    });
    match query.sort {
        Order::Name => pipelines.sort_by(|one, other| one.name.cmp(&other.name)),
        Order::Attention => pipelines.sort_by(|one, other| {
            let key = |it: &PipelineView| (urgency(it), it.name.clone());
            key(one).cmp(&key(other))
        }),
    }
    let total = pipelines.len();
    let most = query.limit.unwrap_or(usize::MAX);
    let pipelines = pipelines
        .into_iter()
        .skip(query.offset)
        .take(most)
        .collect();
    Page {
        pipelines,
        total,
        states,
    }
}

/// Whether somebody should look at it. One that was stopped by hand is known to be out of work.
pub fn is_failing(pipeline: &PipelineView) -> bool {
    let state = pipeline.state;
    if state == PipelineState::Disabled {
        return false;
    }
    let ended_badly = pipeline
        .last_load
        .as_deref()
        .is_some_and(|status| matches!(status, "failed" | "partial" | "interrupted"));
    matches!(state, PipelineState::Broken | PipelineState::Parked)
        || ended_badly
        || pipeline.config_error.is_some()
        || pipeline.overdue_since.is_some()
}

fn urgency(pipeline: &PipelineView) -> u8 {
    match pipeline.state {
        _ if is_failing(pipeline) => 0,
        PipelineState::Running => 1,
        PipelineState::Queued => 2,
        PipelineState::Paused | PipelineState::Disabled => 4,
        PipelineState::Idle | PipelineState::Parked | PipelineState::Broken => 3,
    }
}

fn word(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => "running",
        PipelineState::Queued => "queued",
        PipelineState::Idle => "idle",
        PipelineState::Paused => "paused",
        PipelineState::Disabled => "disabled",
        PipelineState::Parked => "parked",
        PipelineState::Broken => "broken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::operations::Operations;
    use crate::daemon::stage_daemon::StageDaemon;

    fn pipeline(name: &str, state: PipelineState, last: &str) -> PipelineView {
        let mut view = StageDaemon::default().pipeline("logins").unwrap();
        name.clone_into(&mut view.name);
        view.description = format!("what {name} is for");
        view.state = state;
        view.last_load = Some(last.to_owned());
        view
    }

    fn all() -> Vec<PipelineView> {
        use PipelineState::{Broken, Disabled, Idle, Queued, Running};
        vec![
            pipeline("orders", Idle, "succeeded"),
            pipeline("waits", Queued, "succeeded"),
            pipeline("runs", Running, "succeeded"),
            pipeline("fails", Idle, "partial"),
            pipeline("mistaken", Broken, "succeeded"),
            pipeline("off", Disabled, "failed"),
        ]
    }

    fn names(query: &PipelinesQuery) -> (Vec<String>, usize) {
        let page = build_page(all(), query);
        let names = page.pipelines.into_iter().map(|it| it.name).collect();
        (names, page.total)
    }

    #[test]
    fn failures_come_first_and_what_was_stopped_last() {
        let (names, _) = names(&PipelinesQuery {
            sort: Order::Attention,
            ..PipelinesQuery::default()
        });
        assert_eq!(
            names,
            ["fails", "mistaken", "runs", "waits", "orders", "off"]
        );
    }

    #[test]
    fn a_page_is_a_part_of_what_matches() {
        let of = |search: &str, state: &str, offset, limit| {
            names(&PipelinesQuery {
                search: Some(search.to_owned()),
                state: Some(state.to_owned()),
                offset,
                limit,
                ..PipelinesQuery::default()
            })
        };
        assert_eq!(of("ORD", "", 0, None), (vec!["orders".to_owned()], 1));
        assert_eq!(of("what runs", "", 0, None).0, ["runs"]);
        assert_eq!(of("", "failing", 0, None).0, ["fails", "mistaken"]);
        assert_eq!(of("", "idle", 0, None).0, ["fails", "orders"]);
        assert_eq!(
            of("", "", 1, Some(2)),
            (vec!["mistaken".to_owned(), "off".to_owned()], 6)
        );
        assert_eq!(of("", "", 9, Some(2)), (Vec::new(), 6));
    }

    #[test]
    fn states_are_counted_over_all_pipelines() {
        let page = build_page(
            all(),
            &PipelinesQuery {
                search: Some("orders".to_owned()),
                ..PipelinesQuery::default()
            },
        );
        assert_eq!(page.states["idle"], 2);
        assert_eq!(page.states["failing"], 2);
        assert_eq!(page.states["disabled"], 1);
    }
}
