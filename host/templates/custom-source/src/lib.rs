//! Copies the events of an API.

mod client;

use std::sync::Arc;

use etl_plugin_api::arrow::array::{ArrayRef, Int64Array, StringArray};
use etl_plugin_api::prelude::*;

use client::{Client, Event};

/// The pipeline. It reads the API itself, and leaves the loading to the host.
pub struct {{type_name}};

impl Pipeline for {{type_name}} {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
    }

    fn extractor(&self, _: &NoSettings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(Pages {
            client: Client,
            last: 0,
        })))
    }
}

/// Reads page after page.
struct Pages {
    client: Client,
    /// The last event that was read.
    last: i64,
}

impl Extractor for Pages {
    /// Called once: finds where the last run ended, and says which columns will come.
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        if let Some(Cursor::Integer(last)) = cx.attempt().from {
            self.last = last;
        }
        Ok(columns())
    }

    /// Called until there is nothing more.
    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        let events = self.client.page(self.last)?;
        let Some(last) = events.last() else {
            return Ok(None);
        };
        self.last = last.id;
        // Shown at the end of the run.
        cx.count("pages", 1);
        Ok(Some(Extracted {
            batch: to_batch(&events)?,
            // Committed together with these rows: the next run goes on behind them.
            resume: Resume::After(Cursor::Integer(self.last)),
        }))
    }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("action", DataType::Utf8, true),
    ]))
}

fn to_batch(events: &[Event]) -> Result<RecordBatch> {
    let ids = Int64Array::from_iter_values(events.iter().map(|event| event.id));
    let users = StringArray::from_iter_values(events.iter().map(|event| &event.user));
    let actions: StringArray = events.iter().map(|event| event.action.as_deref()).collect();
    let arrays: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(users), Arc::new(actions)];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}

etl_plugin_api::export_pipelines!({{type_name}});
