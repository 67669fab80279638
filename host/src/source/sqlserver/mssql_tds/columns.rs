//! Where the driver writes the values of a row: each into its column as it is decoded.
//!
//! What becomes of a value is what `decode` says for the other driver. Only money is exact here at any size.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mssql_tds::datatypes::column_values::{
    ColumnValues, SqlDate, SqlDateTime, SqlDateTime2, SqlDateTimeOffset, SqlMoney,
    SqlSmallDateTime, SqlSmallMoney, SqlTime, SqlXml,
};
use mssql_tds::datatypes::decoder::DecimalParts;
use mssql_tds::datatypes::row_writer::RowWriter;
use mssql_tds::datatypes::sql_json::SqlJson;
use mssql_tds::datatypes::sql_string::{EncodingType, SqlString};
use mssql_tds::datatypes::sql_vector::SqlVector;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::super::batches::{Batches, beyond_refused, misplaced_cursor};
use super::super::bind::{DATETIME_PARTS, DAYS_TO_1900};
use super::super::decode::{Fault, decimal, json_of, text_of, wrong, wrong_time};
use super::super::types::{MONEY_SCALE, SqlType};
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::pool::mssql_tds::{column_data, decode_text, decode_xml, signed, ten_thousandths};
use crate::source::batch::{ColumnBuilder as To, CursorBuilder, Misfit};
use crate::source::time::{
    DAYS_TO_1970, LAST_TICK, TICKS_PER_DAY, TICKS_PER_SECOND, TICKS_TO_1970, TimeForm,
};

/// Bytes that a value which is no text counts as.
const WORD: usize = size_of::<i64>();

/// The columns of a statement while its rows come in.
pub struct Columns {
    pub batches: Batches,
    pub names: Vec<String>,
    types: Vec<SqlType>,
    /// What is known of the running row's values besides what the columns hold.
    noted: Vec<Noted>,
    /// The running row's values that do not fit, for quarantine.
    misfits: BTreeMap<usize, (String, Json)>,
    /// About the bytes of the running row.
    bytes: usize,
    /// A text before it goes into its column.
    text: String,
    failed: Option<Error>,
}

/// A value, as far as cursors and quarantine need it and a column may not have it.
#[derive(Clone, Copy, Debug)]
enum Noted {
    Null,
    Bool(bool),
    Whole(i64),
    Float(f64),
    Real(f32),
    /// Since 0001-01-01, or since midnight.
    Ticks(i64),
    /// Eight bytes.
    Version(u64),
    /// The column has it all.
    Other,
}

impl Columns {
    pub fn new(batches: Batches, names: Vec<String>, types: Vec<SqlType>) -> Self {
        Self {
            noted: vec![Noted::Null; types.len()],
            batches,
            names,
            types,
            misfits: BTreeMap::new(),
            bytes: 0,
            text: String::new(),
            failed: None,
        }
    }

    /// Fails if the last row must end the run.
    pub fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn column(&mut self, col: usize) -> Option<&mut To> {
        self.batches.builder.columns.get_mut(col)
    }

    fn note(&mut self, col: usize, noted: Noted, bytes: usize) {
        if let Some(place) = self.noted.get_mut(col) {
            *place = noted;
        }
        self.bytes += bytes;
    }

    /// A value that its column does not take as it is: one of a `sql_variant`, or of another type.
    #[cold]
    fn put_aside(&mut self, col: usize, value: ColumnValues) {
        let value = match column_data(value) {
            Ok(value) => value,
            Err(error) => return self.fail(error),
        };
        if self.types.get(col) == Some(&SqlType::Variant)
            && let Some(To::Utf8(builder)) = self.batches.builder.columns.get_mut(col)
            && let Some(text) = text_of(&value)
        {
            builder.append_value(&text);
            return self.note(col, Noted::Other, text.len());
        }
        self.misfit(col, wrong(&value), || json_of(&value));
    }

    #[cold]
    fn misfit(&mut self, col: usize, fault: Fault, value: impl FnOnce() -> Json) {
        if let Some(column) = self.column(col) {
            column.append_null();
        }
        self.note(col, Noted::Other, WORD);
        match fault {
            Fault::Row(reason) => {
                self.misfits.insert(col, (reason, value()));
            }
            Fault::Run(reason) => {
                let name = self.names.get(col).map_or("", String::as_str);
                let error = beyond_refused(name, &reason);
                self.fail(error);
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// A time since 0001-01-01; `None` is one that no calendar has.
    fn put_time(&mut self, col: usize, ticks: Option<i64>, value: impl FnOnce() -> ColumnValues) {
        let in_range = ticks.filter(|ticks| (0..=LAST_TICK).contains(ticks));
        let Batches {
            builder, decoder, ..
        } = &mut self.batches;
        let appended = match (builder.columns.get_mut(col), in_range) {
            (Some(To::Timestamp(builder, _)), Some(ticks)) => decoder
                .micros(col, ticks - TICKS_TO_1970)
                .map(|micros| builder.append_value(micros)),
            (Some(To::Date32(builder)), Some(ticks)) => {
                let days = i32::try_from(ticks / TICKS_PER_DAY - DAYS_TO_1970);
                days.map_or_else(
                    |_| Err(wrong_time()),
                    |days| {
                        builder.append_value(days);
                        Ok(())
                    },
                )
            }
            (Some(To::Timestamp(..) | To::Date32(_)), None) => Err(wrong_time()),
            _ => return self.put_aside(col, value()),
        };
        match (appended, in_range) {
            (Ok(()), Some(ticks)) => self.note(col, Noted::Ticks(ticks), WORD),
            (Ok(()), None) => {}
            (Err(fault), ticks) => {
                self.misfit(col, fault, || {
                    column_data(value()).map_or(Json::Null, |value| json_of(&value))
                });
                // A cursor keeps all its digits, also of a row that is set aside.
                if let Some(ticks) = ticks {
                    self.note(col, Noted::Ticks(ticks), 0);
                }
            }
        }
    }

    fn put_decimal(
        &mut self,
        col: usize,
        value: i128,
        scale: u8,
        own: impl FnOnce() -> ColumnValues,
    ) {
        match self.column(col) {
            Some(To::Decimal(builder, _, wanted)) if i16::from(scale) == i16::from(*wanted) => {
                builder.append_value(value);
                let noted = match i64::try_from(value) {
                    Ok(value) if scale == 0 => Noted::Whole(value),
                    _ => Noted::Other,
                };
                self.note(col, noted, WORD);
            }
            Some(To::Decimal(_, _, wanted)) => {
                let reason = format!("a decimal of scale {scale} in a column of scale {wanted}");
                self.misfit(col, reason.into(), || json!(decimal(value, scale)));
            }
            _ => self.put_aside(col, own()),
        }
    }

    fn put_parts(&mut self, col: usize, value: DecimalParts) {
        match signed(&value) {
            Ok(digits) => {
                self.put_decimal(col, digits, value.scale, || ColumnValues::Decimal(value));
            }
            Err(error) => self.fail(error),
        }
    }

    /// What `decode` has put into `text`.
    fn put_text(&mut self, col: usize, decode: impl FnOnce(&mut String) -> Result<()>) -> bool {
        let Some(To::Utf8(builder)) = self.batches.builder.columns.get_mut(col) else {
            return false;
        };
        self.text.clear();
        match decode(&mut self.text) {
            Ok(()) => builder.append_value(&self.text),
            Err(error) => {
                builder.append_null();
                self.failed.get_or_insert(error);
            }
        }
        self.note(col, Noted::Other, self.text.len());
        true
    }

    fn append_cursor(&mut self) {
        let (Some((column, id)), Some(cursors)) =
            (self.batches.cursor, &mut self.batches.builder.cursors)
        else {
            return;
        };
        let noted = |at: usize| self.noted.get(at).copied().unwrap_or(Noted::Null);
        let appended = match (&mut *cursors, noted(column)) {
            (CursorBuilder::Integer(values), Noted::Whole(value))
            | (CursorBuilder::Time(values, _), Noted::Ticks(value)) => {
                values.push(value);
                true
            }
            (CursorBuilder::Rowversion(values), Noted::Version(value)) => {
                values.push(value);
                true
            }
            (CursorBuilder::Keyset(times, ids), Noted::Ticks(ticks)) => {
                match (times.as_mut(), noted(id.unwrap_or_default())) {
                    (CursorBuilder::Time(values, _), Noted::Whole(id)) => {
                        values.push(ticks);
                        ids.push(id);
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        if !appended {
            let name = self.names.get(column).map_or("", String::as_str);
            let error = misplaced_cursor(name, matches!(noted(column), Noted::Null));
            self.fail(error);
        }
    }

    /// The row as JSON, from what was noted and from the ends of the columns.
    #[cold]
    fn payload(&self) -> Json {
        let cell = |at: usize| match self.misfits.get(&at) {
            Some((_, value)) => value.clone(),
            None => self.cell(at),
        };
        let cells = self.names.iter().enumerate();
        Json::Object(cells.map(|(at, name)| (name.clone(), cell(at))).collect())
    }

    fn cell(&self, at: usize) -> Json {
        match self.noted.get(at) {
            None | Some(Noted::Null) => Json::Null,
            Some(Noted::Bool(value)) => json!(value),
            Some(Noted::Whole(value)) => json!(value),
            Some(Noted::Float(value)) if value.is_finite() => json!(value),
            Some(Noted::Float(value)) => json!(value.to_string()),
            Some(Noted::Real(value)) if value.is_finite() => json!(value),
            Some(Noted::Real(value)) => json!(value.to_string()),
            Some(Noted::Ticks(ticks)) => match self.types.get(at) {
                Some(SqlType::Time(digits)) => {
                    let text = TimeForm::local(*digits).write(*ticks);
                    json!(text.get(11..).unwrap_or_default())
                }
                sql_type => {
                    let form = sql_type.and_then(|sql_type| sql_type.time_form());
                    json!(form.unwrap_or(TimeForm::local(7)).write(*ticks))
                }
            },
            Some(Noted::Version(value)) => json!({ "hex": hex(&value.to_be_bytes()) }),
            Some(Noted::Other) => match self.batches.builder.columns.get(at) {
                Some(To::Utf8(builder)) => {
                    let bytes = last(builder.offsets_slice(), builder.values_slice());
                    json!(String::from_utf8_lossy(bytes))
                }
                Some(To::Binary(builder)) => {
                    let bytes = last(builder.offsets_slice(), builder.values_slice());
                    json!({ "hex": hex(bytes) })
                }
                Some(To::Decimal(builder, _, scale)) => {
                    let value = builder.values_slice().last().copied().unwrap_or_default();
                    json!(decimal(value, u8::try_from(*scale).unwrap_or_default()))
                }
                _ => Json::Null,
            },
        }
    }
}

/// The bytes of the last value.
fn last<'a>(offsets: &[i32], values: &'a [u8]) -> &'a [u8] {
    let start = offsets.iter().rev().nth(1).copied().unwrap_or_default();
    let start = usize::try_from(start).unwrap_or_default();
    values.get(start..).unwrap_or_default()
}

/// Ticks since 0001-01-01. The driver counts ticks, whatever the name of its field says.
fn ticks(days: u32, time: &SqlTime) -> Option<i64> {
    ticks_of(i64::from(days), ticks_in_day(time)?)
}

/// `None` for what no calendar has; the protocol has room for it.
fn ticks_of(days: i64, in_day: i64) -> Option<i64> {
    let in_day = Some(in_day).filter(|ticks| *ticks < TICKS_PER_DAY)?;
    days.checked_mul(TICKS_PER_DAY)?.checked_add(in_day)
}

fn ticks_in_day(time: &SqlTime) -> Option<i64> {
    let ticks = i64::try_from(time.time_nanoseconds).ok()?;
    (ticks < TICKS_PER_DAY).then_some(ticks)
}

macro_rules! whole {
    ($name:ident, $value:ty, $builder:ident, $widened:ty, $own:ident) => {
        fn $name(&mut self, col: usize, val: $value) {
            if let Some(To::$builder(builder)) = self.column(col) {
                builder.append_value(<$widened>::from(val));
                self.note(col, Noted::Whole(i64::from(val)), WORD);
            } else {
                self.put_aside(col, ColumnValues::$own(val));
            }
        }
    };
}

macro_rules! plain {
    ($name:ident, $value:ty, $builder:ident, $noted:ident, $own:ident) => {
        fn $name(&mut self, col: usize, val: $value) {
            if let Some(To::$builder(builder)) = self.column(col) {
                builder.append_value(val);
                self.note(col, Noted::$noted(val), WORD);
            } else {
                self.put_aside(col, ColumnValues::$own(val));
            }
        }
    };
}

impl RowWriter for Columns {
    whole!(write_u8, u8, Int16, i16, TinyInt);
    whole!(write_i16, i16, Int16, i16, SmallInt);
    whole!(write_i32, i32, Int32, i32, Int);
    whole!(write_i64, i64, Int64, i64, BigInt);
    plain!(write_bool, bool, Boolean, Bool, Bit);
    plain!(write_f32, f32, Float32, Real, Real);
    plain!(write_f64, f64, Float64, Float, Float);

    fn write_null(&mut self, col: usize) {
        if let Some(column) = self.column(col) {
            column.append_null();
        }
        self.note(col, Noted::Null, 1);
    }

    fn write_string(&mut self, col: usize, bytes: Cow<'_, [u8]>, encoding_type: EncodingType) {
        if !self.put_text(col, |text| decode_text(&bytes, encoding_type, text)) {
            let value = SqlString::new(bytes.into_owned(), encoding_type);
            self.put_aside(col, ColumnValues::String(value));
        }
    }

    fn write_xml(&mut self, col: usize, val: SqlXml) {
        if !self.put_text(col, |text| decode_xml(&val.bytes, text)) {
            self.put_aside(col, ColumnValues::Xml(val));
        }
    }

    fn write_uuid(&mut self, col: usize, val: Uuid) {
        let mut buffer = Uuid::encode_buffer();
        let digits = val.hyphenated().encode_lower(&mut buffer);
        let put = |text: &mut String| {
            text.push_str(digits);
            Ok(())
        };
        if !self.put_text(col, put) {
            self.put_aside(col, ColumnValues::Uuid(val));
        }
    }

    fn write_bytes(&mut self, col: usize, bytes: Cow<'_, [u8]>) {
        if let Some(To::Binary(builder)) = self.column(col) {
            builder.append_value(&bytes);
            let version = <[u8; 8]>::try_from(bytes.as_ref()).map(u64::from_be_bytes);
            let noted = version.map_or(Noted::Other, Noted::Version);
            self.note(col, noted, bytes.len());
        } else {
            self.put_aside(col, ColumnValues::Bytes(bytes.into_owned()));
        }
    }

    fn write_decimal(&mut self, col: usize, val: DecimalParts) {
        self.put_parts(col, val);
    }

    fn write_numeric(&mut self, col: usize, val: DecimalParts) {
        self.put_parts(col, val);
    }

    fn write_money(&mut self, col: usize, val: SqlMoney) {
        let value = i128::from(ten_thousandths(&val));
        self.put_decimal(col, value, MONEY_SCALE, || ColumnValues::Money(val));
    }

    fn write_smallmoney(&mut self, col: usize, val: SqlSmallMoney) {
        let value = i128::from(val.int_val);
        self.put_decimal(col, value, MONEY_SCALE, || ColumnValues::SmallMoney(val));
    }

    fn write_date(&mut self, col: usize, val: SqlDate) {
        let ticks = ticks_of(i64::from(val.get_days()), 0);
        self.put_time(col, ticks, || ColumnValues::Date(val));
    }

    fn write_time(&mut self, col: usize, val: SqlTime) {
        let Batches {
            builder, decoder, ..
        } = &mut self.batches;
        let Some(To::Time(builder)) = builder.columns.get_mut(col) else {
            return self.put_aside(col, ColumnValues::Time(val));
        };
        let micros = ticks_in_day(&val)
            .ok_or_else(wrong_time)
            .and_then(|ticks| Ok((ticks, decoder.micros(col, ticks)?)));
        match micros {
            Ok((ticks, micros)) => {
                builder.append_value(micros);
                self.note(col, Noted::Ticks(ticks), WORD);
            }
            Err(fault) => self.misfit(col, fault, || {
                column_data(ColumnValues::Time(val)).map_or(Json::Null, |value| json_of(&value))
            }),
        }
    }

    fn write_datetime(&mut self, col: usize, val: SqlDateTime) {
        // 1/300 s rounded to 1/1000 s: .000, .003, .007.
        let millis = (i64::from(val.time) * 1_000 + DATETIME_PARTS / 2) / DATETIME_PARTS;
        let in_day = millis * (TICKS_PER_SECOND / 1_000);
        let ticks = ticks_of(i64::from(val.days) + DAYS_TO_1900, in_day);
        self.put_time(col, ticks, || ColumnValues::DateTime(val));
    }

    fn write_smalldatetime(&mut self, col: usize, val: SqlSmallDateTime) {
        let in_day = i64::from(val.time) * 60 * TICKS_PER_SECOND;
        let ticks = ticks_of(i64::from(val.days) + DAYS_TO_1900, in_day);
        self.put_time(col, ticks, || ColumnValues::SmallDateTime(val));
    }

    fn write_datetime2(&mut self, col: usize, val: SqlDateTime2) {
        let ticks = ticks(val.days, &val.time);
        self.put_time(col, ticks, || ColumnValues::DateTime2(val));
    }

    fn write_datetimeoffset(&mut self, col: usize, val: SqlDateTimeOffset) {
        // On the wire it is in UTC already (MS-TDS 2.2.5.5.1.9).
        let ticks = ticks(val.datetime2.days, &val.datetime2.time);
        self.put_time(col, ticks, || ColumnValues::DateTimeOffset(val));
    }

    fn write_json(&mut self, col: usize, val: SqlJson) {
        self.put_aside(col, ColumnValues::Json(val));
    }

    fn write_vector(&mut self, col: usize, val: SqlVector) {
        self.put_aside(col, ColumnValues::Vector(val));
    }

    fn end_row(&mut self) {
        self.append_cursor();
        let misfit = if self.misfits.is_empty() {
            None
        } else {
            let payload = self.payload();
            let first = std::mem::take(&mut self.misfits).into_iter().next();
            first.map(|(column, (reason, _))| Misfit {
                column,
                reason,
                payload,
            })
        };
        self.batches.builder.end_row(self.bytes, misfit);
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BeyondMicroseconds, Clock, Cursor, CursorKind};
    use crate::source::ReadRequest;

    fn columns(types: &[(&str, SqlType)], cursor: Option<&str>) -> Columns {
        let request = ReadRequest {
            sql: String::new(),
            cursor: cursor.map(|column| Cursor {
                column: column.into(),
                kind: CursorKind::Timestamp,
                id: None,
                clock: Clock::Utc,
                settle_delay: std::time::Duration::ZERO,
            }),
            from: None,
            until: None,
            range: None,
            parameters: Vec::new(),
            batch_rows: 8,
            batch_bytes: 1 << 20,
        };
        let names: Vec<String> = types.iter().map(|(name, _)| (*name).to_owned()).collect();
        let types: Vec<SqlType> = types.iter().map(|(_, sql_type)| *sql_type).collect();
        let beyond = BeyondMicroseconds::Quarantine;
        let batches = Batches::new(&names, types.clone(), &request, beyond).unwrap();
        Columns::new(batches, names, types)
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn time(ticks: u64) -> SqlDateTime2 {
        let time = SqlTime {
            time_nanoseconds: ticks,
            scale: 7,
        };
        SqlDateTime2 {
            days: 738_000,
            time,
        }
    }

    #[test]
    fn a_row_that_is_set_aside_is_told_whole_and_keeps_its_cursor() {
        let mut columns = columns(
            &[
                ("id", SqlType::Int),
                ("none", SqlType::BigInt),
                ("text", SqlType::Text),
                ("bytes", SqlType::Binary),
                ("amount", SqlType::Money),
                ("at", SqlType::DateTime2(7)),
                ("flag", SqlType::Bit),
            ],
            Some("at"),
        );
        for ticks in [10, 11] {
            columns.write_i32(0, 7);
            columns.write_null(1);
            columns.write_string(2, utf16("Zoë 😀").into(), EncodingType::Utf16);
            columns.write_bytes(3, Cow::Borrowed(&[0, 255]));
            columns.write_money(4, SqlMoney::from((-1, i32::MAX)));
            columns.write_datetime2(5, time(ticks));
            columns.write_bool(6, true);
            columns.end_row();
            columns.check().unwrap();
        }
        let batch = columns.batches.builder.finish().unwrap();
        assert_eq!(batch.batch.num_rows(), 1);
        let rejected = batch.rejected.first().unwrap();
        assert_eq!(rejected.column, "at");
        assert_eq!(
            rejected.payload,
            json!({
                "id": 7, "none": null, "text": "Zoë 😀", "bytes": { "hex": "00ff" },
                "amount": "922337203685477.5807", "at": "2021-07-30T00:00:00.0000011", "flag": true,
            })
        );
        assert_eq!(
            rejected.cursor,
            Some(etl_plugin_api::Cursor::Text(
                "2021-07-30T00:00:00.0000011".into()
            ))
        );
    }

    #[test]
    fn a_time_that_there_is_not_sets_its_row_aside() {
        let mut columns = columns(&[("at", SqlType::DateTime), ("day", SqlType::Date)], None);
        columns.write_datetime(
            0,
            SqlDateTime {
                days: i32::MAX,
                time: 0,
            },
        );
        columns.write_null(1);
        columns.end_row();
        columns.write_datetime(
            0,
            SqlDateTime {
                days: 0,
                time: u32::MAX,
            },
        );
        columns.write_null(1);
        columns.end_row();
        columns.check().unwrap();
        let batch = columns.batches.builder.finish().unwrap();
        assert_eq!((batch.batch.num_rows(), batch.rejected.len()), (0, 2));
        for rejected in &batch.rejected {
            assert_eq!(rejected.reason, "a time out of range");
        }
    }

    #[test]
    fn a_row_without_its_cursor_or_with_half_a_character_ends_the_run() {
        let mut columns = columns(
            &[("at", SqlType::DateTime2(7)), ("t", SqlType::Text)],
            Some("at"),
        );
        columns.write_null(0);
        columns.write_null(1);
        columns.end_row();
        let error = columns.check().unwrap_err().to_string();
        assert!(error.contains("`at` holds NULL"), "{error}");
        columns.write_datetime2(0, time(10));
        columns.write_string(1, Cow::Borrowed(&[0x3D, 0xD8]), EncodingType::Utf16);
        columns.end_row();
        let error = columns.check().unwrap_err().to_string();
        assert!(error.contains("half of a surrogate pair"), "{error}");
    }
}
