//! Sends the spans of runs to an OpenTelemetry collector, if the environment names one.
//!
//! Off without `OTEL_EXPORTER_OTLP_ENDPOINT`: then there is no thread and no connection. A collector that is slow or gone
//! costs traces, never rows: spans wait in a bounded queue, and what does not fit is dropped.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};
use crate::logs::{is_span_of_host, redact};

/// The longest time that a command waits for its last spans to be taken.
const LAST_WORD: Duration = Duration::from_secs(3);
/// How long the collector may take for one answer, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const PATIENCE: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Whether the environment asks for traces.
pub fn are_wanted() -> bool {
    let set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let is = |name: &str, value: &str| {
        env::var(name).is_ok_and(|found| found.trim().eq_ignore_ascii_case(value))
    };
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_TRACES_EXPORTER", "none")
        && !is("OTEL_SDK_DISABLED", "true")
}

/// A layer that sends the spans of runs to the collector that the environment names.
pub fn open_layer<S>() -> Result<impl Layer<S> + Send + Sync + 'static>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let mut exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary);
    let timeouts = [
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    ];
    if timeouts.iter().all(|name| env::var_os(name).is_none()) {
        exporter = exporter.with_timeout(PATIENCE);
    }
    let exporter = exporter.build().map_err(|error| {
        Error::config("traces cannot be sent")
            .caused_by(error)
            .hint("correct OTEL_EXPORTER_OTLP_ENDPOINT, such as http://localhost:4318, or unset it")
    })?;
    let mut resource = Resource::builder();
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("etl-host");
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Redacting::new(exporter))
        .with_resource(resource.build())
        .build();
    let tracer = provider.tracer("etl-host");
    // A second one in the same process (tests) is not waited for at the end.
    let _ = PROVIDER.set(provider);
    Ok(tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_span_of_host)))
}

/// Waits a little until the last spans are sent.
pub fn flush() {
    if let Some(provider) = PROVIDER.get() {
        // What was not taken has been told by the exporter.
        let _ = provider.shutdown_with_timeout(LAST_WORD);
    }
}

/// Takes secrets out of what is sent, and says once if it cannot be sent.
#[derive(Debug)]
struct Redacting<E> {
    exporter: E,
    told: Arc<AtomicBool>,
}

impl<E> Redacting<E> {
    fn new(exporter: E) -> Self {
        Self {
            exporter,
            told: Arc::default(),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Redacting<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            redact_values(&mut span.attributes);
            if let Status::Error { description } = &mut span.status {
                *description = redact(description).into_owned().into();
            }
        }
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "traces cannot be sent; runs go on without them");
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

fn redact_values(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        if let Value::String(text) = &attribute.value {
            let text = redact(text.as_str()).into_owned();
            attribute.value = Value::String(StringValue::from(text));
        }
    }
}
