//! Columns out of lines, with the client's location and device. A line that no server writes is set aside by its file and
//! number.

use std::sync::Arc;

use enrich::device::Devices;
use enrich::location::Locator;
use etl_plugin_api::arrow::array::types::Int64Type;
use etl_plugin_api::arrow::array::{
    ArrayRef, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use etl_plugin_api::arrow::schema::TimeUnit;
use etl_plugin_api::columns::{texts, values};
use etl_plugin_api::prelude::*;

use crate::extract::{FILE, LINE, TEXT};
use crate::line::{Line, Request};

/// The transformer.
pub struct ParseLines {
    locator: Locator,
    devices: Devices,
    ignore_further_fields: bool,
}

impl ParseLines {
    /// Of the combined or the common format, perhaps with more behind it.
    pub fn new(locator: Locator, devices: Devices, ignore_further_fields: bool) -> Self {
        Self {
            locator,
            devices,
            ignore_further_fields,
        }
    }
}

impl Transformer for ParseLines {
    fn open(&mut self, _: &dyn Context, _: &Schema) -> Result<Vec<TableSchema>> {
        Ok(vec![TableSchema::configured(schema())])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let numbers = values::<Int64Type>(&input, LINE)?;
        let (mut lines, mut origin, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let rows = texts(&input, FILE)?.zip(numbers).zip(texts(&input, TEXT)?);
        for (row, ((file, number), text)) in (0_u32..).zip(rows) {
            let (file, number) = (file.unwrap_or_default(), number.unwrap_or_default());
            match Line::parse(text.unwrap_or_default(), self.ignore_further_fields) {
                Ok(line) => {
                    lines.push((file, line));
                    origin.push(row);
                }
                Err(broken) => rejected.push(Rejection {
                    row,
                    column: Some(broken.column.to_owned()),
                    reason: format!("{file}, line {number}: {broken}"),
                }),
            }
        }
        let output = Output {
            table: 0,
            batch: self.batch(cx.partition(), &lines)?,
            origin: Origin::Rows(origin),
        };
        Ok(Transformed {
            outputs: vec![output],
            rejected,
            ..Transformed::default()
        })
    }
}

impl ParseLines {
    fn batch(&mut self, log: &str, lines: &[(&str, Line<'_>)]) -> Result<RecordBatch> {
        let each = || lines.iter().map(|(_, line)| line);
        let of_request = |part: for<'r> fn(&'r Request<'r>) -> Option<&'r str>| {
            optional(each().map(|line| line.request.as_ref().and_then(part)))
        };
        let times = each().map(|line| line.time.as_microsecond());
        let mut columns = vec![
            always(each().map(|_| log)),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            always(each().map(|line| line.client)),
            optional(each().map(|line| line.user)),
            of_request(|request| request.method.as_deref()),
            of_request(|request| Some(&request.path)),
            of_request(|request| request.protocol.as_deref()),
            Arc::new(Int32Array::from_iter_values(each().map(|line| line.status))),
            Arc::new(Int64Array::from_iter_values(each().map(|line| line.bytes))),
            optional(each().map(|line| line.referer.as_deref())),
            optional(each().map(|line| line.user_agent.as_deref())),
            always(lines.iter().map(|(file, _)| *file)),
        ];
        columns.extend(self.locations(each().map(|line| line.client))?);
        columns.extend(self.devices(each().map(|line| line.user_agent.as_deref()))?);
        Ok(RecordBatch::try_new(schema(), columns)?)
    }

    fn locations<'a>(&self, clients: impl Iterator<Item = &'a str>) -> Result<[ArrayRef; 4]> {
        let places = Distinct::try_of(clients.map(|client| self.locator.locate(Some(client))))
            .map_err(|error| StageError::fatal(error.to_string()))?;
        Ok([
            places.column(|place| place.country_code)?,
            places.column(|place| Some(place.to_string()))?,
            places.column(|place| place.region)?,
            places.column(|place| place.city)?,
        ])
    }

    fn devices<'a>(
        &mut self,
        user_agents: impl Iterator<Item = Option<&'a str>>,
    ) -> Result<[ArrayRef; 3]> {
        let devices = Distinct::of(user_agents).map(|text| self.devices.recognise(*text));
        Ok([
            devices.column(|device| Some(device.class.as_str()))?,
            devices.column(|device| device.os.as_deref())?,
            devices.column(|device| device.browser.as_deref())?,
        ])
    }
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
        Distinct::field("country_code", true),
        Distinct::field("location", false),
        Distinct::field("region", true),
        Distinct::field("city", true),
        Distinct::field("device", false),
        Distinct::field("os", true),
        Distinct::field("browser", true),
    ]))
}

fn always<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn optional<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}
