//! Rows of SQL Server as the driver hands them over, of any content, whether it belongs to the column or not: each ends
//! in the batch or among the rejected rows, and all columns stay equally long.

#![no_main]

use std::borrow::Cow;
use std::time::Duration;

use arbitrary::Arbitrary;
use etl_host::config::{BeyondMicroseconds, Clock, Cursor, CursorKind};
use etl_host::source::ReadRequest;
use etl_host::source::sqlserver::fuzzing::Statement;
use etl_host::source::sqlserver::fuzzing::tiberius::numeric::Numeric;
use etl_host::source::sqlserver::fuzzing::tiberius::time::{
    Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time,
};
use etl_host::source::sqlserver::fuzzing::tiberius::xml::XmlData;
use etl_host::source::sqlserver::fuzzing::tiberius::{Column, ColumnData, ColumnType, Row, Uuid};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    columns: Vec<Announced>,
    described: bool,
    scale: Option<u8>,
    cursor: Option<Over>,
    beyond: Beyond,
    rows: Vec<Vec<Cell>>,
}

/// A column as the server announces it.
#[derive(Arbitrary, Debug)]
struct Announced {
    /// A place in [`TYPES`].
    place: u8,
    precision: u8,
    scale: u8,
    /// In place of the type's name.
    odd_name: Option<String>,
    collation: Option<String>,
}

#[derive(Arbitrary, Debug)]
struct Over {
    column: u8,
    id: Option<u8>,
    kind: Kind,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Timestamp,
    Integer,
    Rowversion,
}

#[derive(Arbitrary, Debug)]
enum Beyond {
    Truncate,
    Quarantine,
    Fail,
}

/// A value: as the column has them, unless it says otherwise.
#[derive(Arbitrary, Debug)]
struct Cell {
    variant: Option<Variant>,
    null: bool,
    number: i128,
    more: u64,
    scale: u8,
    bytes: Vec<u8>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Variant {
    U8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Bit,
    String,
    Guid,
    Binary,
    Numeric,
    Xml,
    DateTime,
    SmallDateTime,
    Time,
    Date,
    DateTime2,
    DateTimeOffset,
}

/// Names that the server gives, types that the driver gives, and values of such columns.
const TYPES: [(&str, ColumnType, Variant); 32] = [
    ("bit", ColumnType::Bitn, Variant::Bit),
    ("tinyint", ColumnType::Int1, Variant::U8),
    ("smallint", ColumnType::Int2, Variant::I16),
    ("int", ColumnType::Int4, Variant::I32),
    ("bigint", ColumnType::Int8, Variant::I64),
    ("bigint", ColumnType::Intn, Variant::I64),
    ("real", ColumnType::Float4, Variant::F32),
    ("float", ColumnType::Floatn, Variant::F64),
    ("decimal", ColumnType::Decimaln, Variant::Numeric),
    ("numeric", ColumnType::Numericn, Variant::Numeric),
    ("money", ColumnType::Money, Variant::F64),
    ("smallmoney", ColumnType::Money4, Variant::F64),
    ("date", ColumnType::Daten, Variant::Date),
    ("time", ColumnType::Timen, Variant::Time),
    ("datetime", ColumnType::Datetimen, Variant::DateTime),
    (
        "smalldatetime",
        ColumnType::Datetime4,
        Variant::SmallDateTime,
    ),
    ("datetime2", ColumnType::Datetime2, Variant::DateTime2),
    (
        "datetimeoffset",
        ColumnType::DatetimeOffsetn,
        Variant::DateTimeOffset,
    ),
    ("varchar", ColumnType::BigVarChar, Variant::String),
    ("nvarchar", ColumnType::NVarchar, Variant::String),
    ("char", ColumnType::BigChar, Variant::String),
    ("ntext", ColumnType::NText, Variant::String),
    ("xml", ColumnType::Xml, Variant::Xml),
    ("varbinary", ColumnType::BigVarBin, Variant::Binary),
    ("image", ColumnType::Image, Variant::Binary),
    ("timestamp", ColumnType::BigBinary, Variant::Binary),
    ("uniqueidentifier", ColumnType::Guid, Variant::Guid),
    ("sql_variant", ColumnType::SSVariant, Variant::F64),
    (
        "sql_variant",
        ColumnType::SSVariant,
        Variant::DateTimeOffset,
    ),
    ("sql_variant", ColumnType::SSVariant, Variant::Numeric),
    ("geometry", ColumnType::Udt, Variant::Binary),
    ("", ColumnType::Null, Variant::I32),
];

const MOST_COLUMNS: usize = 8;
const MOST_ROWS: usize = 64;

impl Announced {
    fn known(&self) -> &'static (&'static str, ColumnType, Variant) {
        &TYPES[usize::from(self.place) % TYPES.len()]
    }

    fn name(place: usize) -> String {
        format!("column {place}")
    }

    /// What `sp_describe_first_result_set` says of it.
    fn description(&self, place: usize) -> Row {
        let name = match (&self.odd_name, self.known().0) {
            (Some(odd), _) => odd.clone(),
            (None, plain @ ("decimal" | "numeric")) => {
                format!("{plain}({},{})", self.precision, self.scale)
            }
            (None, plain @ ("time" | "datetime2" | "datetimeoffset")) => {
                format!("{plain}({})", self.scale % 9)
            }
            (None, plain) => plain.to_owned(),
        };
        let text = |text: Option<String>| ColumnData::String(text.map(Cow::Owned));
        Row::builder()
            .column("name", ColumnType::NVarchar, text(Some(Self::name(place))))
            .column("system_type_name", ColumnType::NVarchar, text(Some(name)))
            .column(
                "collation_name",
                ColumnType::NVarchar,
                text(self.collation.clone()),
            )
            .build()
    }
}

impl Cell {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any bits will do"
    )]
    fn value(&self, own: Variant) -> ColumnData<'static> {
        let some = !self.null;
        let date = || Date::new(self.number as u32 >> 8);
        let time = || Time::new(self.more, self.scale);
        match self.variant.unwrap_or(own) {
            Variant::U8 => ColumnData::U8(some.then_some(self.number as u8)),
            Variant::I16 => ColumnData::I16(some.then_some(self.number as i16)),
            Variant::I32 => ColumnData::I32(some.then_some(self.number as i32)),
            Variant::I64 => ColumnData::I64(some.then_some(self.number as i64)),
            Variant::F32 => ColumnData::F32(some.then(|| f32::from_bits(self.more as u32))),
            Variant::F64 => ColumnData::F64(some.then(|| f64::from_bits(self.more))),
            Variant::Bit => ColumnData::Bit(some.then_some(self.more.is_multiple_of(2))),
            Variant::String => ColumnData::String(
                some.then(|| String::from_utf8_lossy(&self.bytes).into_owned().into()),
            ),
            Variant::Guid => ColumnData::Guid(some.then(|| Uuid::from_u128(self.number as u128))),
            Variant::Binary => ColumnData::Binary(some.then(|| self.bytes.clone().into())),
            Variant::Numeric => ColumnData::Numeric(
                some.then(|| Numeric::new_with_scale(self.number, self.scale % 39)),
            ),
            Variant::Xml => ColumnData::Xml(
                some.then(|| Cow::Owned(XmlData::new(String::from_utf8_lossy(&self.bytes)))),
            ),
            Variant::DateTime => ColumnData::DateTime(
                some.then(|| DateTime::new(self.number as i32, self.more as u32)),
            ),
            Variant::SmallDateTime => ColumnData::SmallDateTime(
                some.then(|| SmallDateTime::new(self.number as u16, self.more as u16)),
            ),
            Variant::Time => ColumnData::Time(some.then(time)),
            Variant::Date => ColumnData::Date(some.then(date)),
            Variant::DateTime2 => {
                ColumnData::DateTime2(some.then(|| DateTime2::new(date(), time())))
            }
            Variant::DateTimeOffset => {
                ColumnData::DateTimeOffset(some.then(|| {
                    DateTimeOffset::new(DateTime2::new(date(), time()), self.number as i16)
                }))
            }
        }
    }
}

impl Input {
    fn request(&self) -> ReadRequest {
        let cursor = self.cursor.as_ref().map(|over| Cursor {
            column: Announced::name(usize::from(over.column) % MOST_COLUMNS),
            kind: match over.kind {
                Kind::Timestamp => CursorKind::Timestamp,
                Kind::Integer => CursorKind::Integer,
                Kind::Rowversion => CursorKind::Rowversion,
            },
            id: over
                .id
                .map(|id| Announced::name(usize::from(id) % MOST_COLUMNS)),
            clock: Clock::Utc,
            settle_delay: Duration::ZERO,
        });
        ReadRequest {
            sql: String::new(),
            cursor,
            from: None,
            until: None,
            parameters: Vec::new(),
            range: None,
            batch_rows: MOST_ROWS,
            batch_bytes: 1 << 20,
        }
    }

    fn open(&self, columns: &[Announced]) -> Option<Statement> {
        let beyond = match self.beyond {
            Beyond::Truncate => BeyondMicroseconds::Truncate,
            Beyond::Quarantine => BeyondMicroseconds::Quarantine,
            Beyond::Fail => BeyondMicroseconds::Fail,
        };
        let columns = columns.iter().enumerate();
        let opened = if self.described {
            let rows: Vec<_> = columns.map(|(place, it)| it.description(place)).collect();
            Statement::described(&rows, &self.request(), beyond)
        } else {
            let columns: Vec<_> = columns
                .map(|(place, it)| Column::new(Announced::name(place), it.known().1))
                .collect();
            let scale = self.scale.map(|scale| scale % 39);
            Statement::undescribed(&columns, scale, &self.request(), beyond)
        };
        opened.ok()
    }
}

fuzz_target!(|input: Input| {
    let columns = &input.columns[..input.columns.len().min(MOST_COLUMNS)];
    let Some(mut statement) = input.open(columns) else {
        return;
    };
    let rows = &input.rows[..input.rows.len().min(MOST_ROWS)];
    for cells in rows {
        let mut row = Row::builder();
        for (place, column) in columns.iter().enumerate() {
            let (_, column_type, own) = *column.known();
            let value = cells
                .get(place)
                .map_or(ColumnData::I32(None), |cell| cell.value(own));
            row = row.column(Announced::name(place), column_type, value);
        }
        // What the cursor's column holds may end the run. Nobody takes a batch after that.
        if statement.push(&row.build()).is_err() {
            return;
        }
    }
    if columns.is_empty() {
        return;
    }
    let batch = statement.finish().expect("columns of one length");
    assert_eq!(batch.batch.num_rows() + batch.rejected.len(), rows.len());
    for rejection in &batch.rejected {
        assert!(!rejection.reason.is_empty() && !rejection.column.is_empty());
        assert_eq!(
            rejection.payload.as_object().map(serde_json::Map::len),
            Some(columns.len())
        );
    }
    assert_eq!(input.cursor.is_some(), batch.cursors.is_some());
    if let Some(cursors) = &batch.cursors {
        assert_eq!(cursors.len(), batch.batch.num_rows());
        for row in 0..cursors.len() {
            assert!(cursors.get(row).is_some() && cursors.same(row, row));
        }
        let _ = cursors.is_sorted();
    }
});
