//! Turns events into records. Where they go is the matter of whoever takes them.

use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::facts::Facts;
use super::record::Record;

/// Hands each event to a function, with what its spans say.
pub struct Told<F>(F);

impl<F: Fn(&Record) + 'static> Told<F> {
    /// The function must not log: it would be told of itself.
    pub fn to(tell: F) -> Self {
        Self(tell)
    }
}

/// Whether it is a span of the host's; those are known to whoever tells of events, whatever their level.
pub fn is_span_of_host(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && *metadata.level() <= tracing::Level::INFO
        && metadata.target().starts_with("etl_host")
}

impl<S, F> Layer<S> for Told<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(&Record) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        // Another one of these may have been here before.
        if span.extensions().get::<Facts>().is_some() {
            return;
        }
        let mut facts = span
            .parent()
            .map(|parent| Facts::of(&parent))
            .unwrap_or_default();
        attributes.record(&mut facts);
        span.extensions_mut().insert(facts);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let facts = context
            .event_span(event)
            .map_or_else(Facts::of_task, |span| Facts::of(&span));
        (self.0)(&Record::of(event, facts));
    }
}
