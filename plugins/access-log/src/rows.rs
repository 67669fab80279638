//! Columns out of lines. A line that no server writes is set aside by its file and number.

use std::sync::Arc;

use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::types::Int64Type;
use etl_plugin_api::arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use etl_plugin_api::arrow::schema::TimeUnit;
use etl_plugin_api::prelude::*;

use crate::extract::{FILE, LINE, TEXT};
use crate::line::{Line, Request};

/// The transformer.
#[derive(Clone, Copy, Debug)]
pub struct ParseLines {
    ignore_further_fields: bool,
}

impl ParseLines {
    /// Of the combined or the common format, perhaps with more behind it.
    pub fn new(ignore_further_fields: bool) -> Self {
        Self {
            ignore_further_fields,
        }
    }
}

impl Transformer for ParseLines {
    fn open(&mut self, _: &dyn Context, _: &Schema) -> Result<Vec<TableSchema>> {
        Ok(vec![TableSchema::configured(schema())])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let (files, texts) = (texts(&input, FILE)?, texts(&input, TEXT)?);
        let numbers = column(&input, LINE)?.as_primitive::<Int64Type>();
        let (mut lines, mut origin, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for (row, text) in (0_u32..).zip(texts.iter().flatten()) {
            match Line::parse(text, self.ignore_further_fields) {
                Ok(line) => {
                    lines.push(line);
                    origin.push(row);
                }
                Err(broken) => {
                    let at = row as usize;
                    let (file, number) = (files.value(at), numbers.value(at));
                    rejected.push(Rejection {
                        row,
                        column: Some(broken.column.to_owned()),
                        reason: format!("{file}, line {number}: {broken}"),
                    });
                }
            }
        }
        let named = origin.iter().map(|row| files.value(*row as usize));
        let output = Output {
            table: 0,
            batch: batch(cx.partition(), &lines, named)?,
            origin: Origin::Rows(origin),
        };
        Ok(Transformed {
            outputs: vec![output],
            rejected,
            ..Transformed::default()
        })
    }
}

fn batch<'a>(
    log: &str,
    lines: &[Line<'_>],
    files: impl Iterator<Item = &'a str>,
) -> Result<RecordBatch> {
    let requests = || lines.iter().map(|line| line.request.as_ref());
    let micros = lines.iter().map(|line| line.time.as_microsecond());
    let of_request = |part: for<'r> fn(&'r Request<'r>) -> Option<&'r str>| {
        optional_texts(requests().map(|request| request.and_then(part)))
    };
    let columns: Vec<ArrayRef> = vec![
        all_texts(lines.iter().map(|_| log)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")),
        all_texts(lines.iter().map(|line| line.client)),
        optional_texts(lines.iter().map(|line| line.user)),
        of_request(|request| request.method.as_deref()),
        of_request(|request| Some(&request.path)),
        of_request(|request| request.protocol.as_deref()),
        Arc::new(Int32Array::from_iter_values(
            lines.iter().map(|line| line.status),
        )),
        Arc::new(Int64Array::from_iter_values(
            lines.iter().map(|line| line.bytes),
        )),
        optional_texts(lines.iter().map(|line| line.referer.as_deref())),
        optional_texts(lines.iter().map(|line| line.user_agent.as_deref())),
        all_texts(files),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        text("log", false),
        Field::new("time", time, false),
        text("client", false),
        text("user_name", true),
        text("method", true),
        text("path", true),
        text("protocol", true),
        Field::new("status", DataType::Int32, false),
        Field::new("bytes", DataType::Int64, false),
        text("referer", true),
        text("user_agent", true),
        text("file", false),
    ]))
}

fn all_texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn optional_texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| StageError::fatal(format!("a batch has no column {name}")))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    Ok(column(batch, name)?.as_string::<i32>())
}
