//! Where an event belongs: the pipeline, run, partition and attempt that its spans name.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Span, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

tokio::task_local! {
    static OF_TASK: Facts;
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
}

impl Facts {
    /// What the span says that this thread is in. For threads and tasks that may outlive the span.
    pub fn current() -> Self {
        let known = Span::current().with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<Registry>()?;
            Some(Self::of(&registry.span(id)?))
        });
        known.flatten().unwrap_or_else(Self::of_task)
    }

    /// What is known where no span is: what [`within`](Self::within) and [`along`](Self::along) were given.
    pub(super) fn of_task() -> Self {
        OF_TASK.try_get().unwrap_or_default()
    }

    /// Does work that is about these.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        OF_TASK.sync_scope(self, work)
    }

    /// Makes a task be about these.
    pub fn along<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        OF_TASK.scope(self, work)
    }

    /// What a span and those around it say.
    pub(super) fn of<'a, S: Subscriber + LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Self {
        let mut scope = span.scope();
        scope
            .find_map(|span| span.extensions().get::<Self>().cloned())
            .unwrap_or_default()
    }

    /// Takes a field of a span or an event, if it is a fact.
    pub(super) fn take_text(&mut self, name: &str, value: &str) -> bool {
        let fact = match name {
            "pipeline" => &mut self.pipeline,
            "run_id" => &mut self.run_id,
            "partition" => &mut self.partition,
            "attempt" => {
                self.attempt = value.parse().ok();
                return true;
            }
            _ => return false,
        };
        // What concerns no partition says so with an empty name.
        if !value.is_empty() {
            *fact = Some(value.to_owned());
        }
        true
    }
}

/// Takes the facts out of the fields of a span.
impl Visit for Facts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take_text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(
            field.name(),
            "pipeline" | "run_id" | "partition" | "attempt"
        ) {
            self.take_text(field.name(), &format!("{value:?}"));
        }
    }
}
