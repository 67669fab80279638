//! `etl-host schema`: each column's way from the source to the sink, and the statements that a run would execute there.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use etl_plugin_api::Delivery;
use serde::Serialize;

use super::preview::{look, show};
use super::run::IsolationFlag;
use super::table::{indented, table};
use super::{Failure, Globals};
use crate::config::{Sink as SinkConfig, SinkConnector};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Purpose, RunOptions};
use crate::policy::next_step;
use crate::runtime::preview::Preview;
use crate::sample::ShownColumn;
use crate::sink::{ColumnLayout, Sink, TableLayout, TablePreview, TableSpec, build_layout};

/// Longest wait for a sink: without its answer, the table is shown as it would be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of `schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// The pipeline
    pipeline: String,
    /// By this partition's columns, instead of the first one's
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Where the plugin's code runs, in place of what the configuration says
    #[arg(long, value_enum)]
    isolation: Option<IsolationFlag>,
}

/// The columns of a pipeline.
#[derive(Serialize)]
struct Columns {
    pipeline: String,
    /// The partition whose source was asked.
    partition: String,
    /// The kind of the sink.
    sink: &'static str,
    /// Why the sink could not be asked.
    sink_error: Option<String>,
    tables: Vec<Table>,
}

#[derive(Serialize)]
struct Table {
    #[serde(rename = "table")]
    name: String,
    /// Whether it is there; `None` if that is not known, or the plugin's loader writes elsewhere.
    exists: Option<bool>,
    columns: Vec<Column>,
    /// What a run would execute.
    statements: Vec<String>,
    /// What a run would say.
    warnings: Vec<String>,
    /// Why a run would fail.
    problem: Option<Problem>,
}

impl Table {
    /// The columns that the pipeline gives and the table does not take.
    fn left_out(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter();
        columns
            .filter(|column| column.transform_type.is_some() && column.sink_type.is_none())
            .map(|column| column.name.as_str())
    }
}

#[derive(Serialize)]
struct Problem {
    message: String,
    next_step: Option<String>,
}

/// One column's way.
#[derive(Default, Serialize)]
struct Column {
    name: String,
    /// The type in the source.
    source_type: Option<String>,
    /// The Arrow type as it is read.
    extract_type: Option<String>,
    /// The Arrow type behind the transformer.
    transform_type: Option<String>,
    /// The type in the sink.
    sink_type: Option<String>,
    not_null: bool,
    key: bool,
}

/// Shows the columns.
pub fn schema(globals: &Globals, command: Schema) -> Result<u8, Failure> {
    let options = RunOptions {
        purpose: Purpose::Preview,
        partitions: command.partition.into_iter().collect(),
        full_refresh: true,
        limit: Some(0),
        dry_run: true,
        ..RunOptions::default()
    };
    let work = async |seen: Preview, sink: Arc<dyn Sink>, config: &SinkConfig| {
        columns(&seen, sink.as_ref(), config).await
    };
    let (looked, stopped_by) = look(globals, &command.pipeline, command.isolation, options, work)?;
    show(globals, looked, stopped_by, to_text)
}

async fn columns(seen: &Preview, sink: &dyn Sink, config: &SinkConfig) -> Result<Columns> {
    let mut sink_error = seen.sink_error.clone();
    let mut tables = Vec::new();
    for spec in &seen.tables {
        let mut table = Table {
            name: spec.name.to_string(),
            exists: None,
            columns: Vec::new(),
            statements: Vec::new(),
            warnings: Vec::new(),
            problem: None,
        };
        let mut layout = None;
        if seen.delivery == Delivery::Transactional {
            let asked = match sink_error {
                None => ask(seen, sink, spec, &mut table).await,
                Some(_) => Ok(None),
            };
            match asked {
                Ok(found) => layout = found,
                Err(error) => sink_error = Some(error.to_string()),
            }
            if layout.is_none() {
                match build_layout(config, spec) {
                    Ok((planned, statement)) => {
                        table.statements = vec![statement];
                        layout = Some(planned);
                    }
                    Err(error) => table.problem = Some(problem(&error)),
                }
            } else {
                table.exists = layout.as_ref().map(|layout| layout.exists);
            }
        }
        let layout = layout.map_or_else(Vec::new, |layout: TableLayout| layout.columns);
        let same = match config.connector {
            SinkConnector::Sqlite { .. } => str::eq_ignore_ascii_case,
            SinkConnector::Postgres(_) => <str as PartialEq>::eq,
        };
        table.columns = join(&seen.source_columns, spec, layout, same);
        tables.push(table);
    }
    Ok(Columns {
        pipeline: seen.pipeline.clone(),
        partition: seen.partition.clone(),
        sink: config.connector.kind(),
        sink_error,
        tables,
    })
}

/// What a run would do with a table, and the table as it is. Fails if the sink cannot be asked.
async fn ask(
    seen: &Preview,
    sink: &dyn Sink,
    spec: &TableSpec,
    table: &mut Table,
) -> Result<Option<TableLayout>> {
    let specs = std::slice::from_ref(spec);
    let asking = async {
        let layout = sink.load_layouts(specs).await?.pop();
        let before = &seen.checkpoint.columns;
        Ok::<_, Error>((
            layout,
            sink.preview_tables(&seen.partition, before, specs).await,
        ))
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    let (layout, preview) = asked.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("the sink did not answer within {} s", PATIENCE.as_secs()),
        ))
    })?;
    match preview {
        Ok(TablePreview {
            statements,
            warnings,
        }) => {
            table.statements = statements;
            table.warnings = warnings;
        }
        Err(error) => table.problem = Some(problem(&error)),
    }
    Ok(layout)
}

fn problem(error: &Error) -> Problem {
    Problem {
        message: error.to_string(),
        next_step: next_step(error),
    }
}

/// Each column once: as the pipeline gives them, then those that it leaves out, then those that only the table has.
/// `same` says whether two names mean the same column of the sink.
fn join(
    source: &[ShownColumn],
    spec: &TableSpec,
    layout: Vec<ColumnLayout>,
    same: impl Fn(&str, &str) -> bool,
) -> Vec<Column> {
    let read = |name: &str| source.iter().find(|column| column.name == name);
    let with_source = |name: &str| {
        let read = read(name);
        Column {
            name: name.to_owned(),
            source_type: read.and_then(|column| column.source_type.clone()),
            extract_type: read.map(|column| column.data_type.clone()),
            ..Column::default()
        }
    };
    let mut columns: Vec<Column> = Vec::new();
    for field in spec.schema.fields() {
        columns.push(Column {
            transform_type: Some(field.data_type().to_string()),
            ..with_source(field.name())
        });
    }
    for column in source {
        if spec.schema.column_with_name(&column.name).is_none() {
            columns.push(with_source(&column.name));
        }
    }
    for there in layout {
        let given = |column: &Column| column.transform_type.is_some();
        let at = columns
            .iter()
            .position(|column| given(column) && same(&column.name, &there.name));
        let at = at.unwrap_or_else(|| {
            columns.push(Column {
                name: there.name,
                ..Column::default()
            });
            columns.len() - 1
        });
        let Some(place) = columns.get_mut(at) else {
            continue;
        };
        place.sink_type = there.sql_type;
        place.not_null = there.not_null;
        place.key = there.key;
    }
    columns
}

fn to_text(seen: &Columns) -> String {
    let mut text = String::new();
    for one in &seen.tables {
        let there = match one.exists {
            Some(false) => ", which is not there yet",
            Some(true) | None => "",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "{}: partition {}, into {} table {}{there}",
            seen.pipeline, seen.partition, seen.sink, one.name
        );
        let mut lines = table(&["column", "source", "extract", "transform", "sink"], &[]);
        for column in &one.columns {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            lines.add_row([
                column.name.escape_debug().to_string(),
                or_none(&column.source_type),
                or_none(&column.extract_type),
                or_none(&column.transform_type),
                in_sink(column),
            ]);
        }
        text.push_str(&indented(&lines));
        if let Some(error) = &seen.sink_error {
            let _ = writeln!(
                text,
                "the sink cannot be asked, so this is the table as a run would make it: {error}"
            );
        }
        if let Some(problem) = &one.problem {
            let _ = writeln!(text, "a run would fail: {}", problem.message);
            if let Some(next) = &problem.next_step {
                let _ = writeln!(text, "  next: {next}");
            }
        } else if one.exists.is_some() {
            let left_out: Vec<&str> = one.left_out().collect();
            if !left_out.is_empty() {
                let _ = writeln!(
                    text,
                    "a run would leave out {}, which the table does not have",
                    left_out.join(", ")
                );
            } else if one.statements.is_empty() {
                text.push_str("the table takes these columns as it is\n");
            }
        }
        if !one.statements.is_empty() {
            text.push_str("a run would execute\n");
            for statement in &one.statements {
                let _ = writeln!(text, "  {statement}");
            }
        }
        for warning in &one.warnings {
            let _ = writeln!(text, "a run would warn: {warning}");
        }
    }
    text
}

/// Such as `bigint NOT NULL, key`.
fn in_sink(column: &Column) -> String {
    let Some(sql_type) = &column.sink_type else {
        return "-".to_owned();
    };
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    let key = if column.key { ", key" } else { "" };
    format!("{sql_type}{not_null}{key}")
}
