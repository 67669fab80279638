//! Rows of the driver for SQL Server into Arrow.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use etl_host::config::{BeyondMicroseconds, Clock, Cursor, CursorKind};
use etl_host::source::ReadRequest;
use etl_host::source::sqlserver::fuzzing::Statement;
use etl_host::source::sqlserver::fuzzing::tiberius::time::{Date, DateTime2, Time};
use etl_host::source::sqlserver::fuzzing::tiberius::{ColumnData, ColumnType, Row};
use login_analytics_demo::logins::Login;

use super::logins::{self, ROWS};

/// The query's columns as the server describes them.
const COLUMNS: [(&str, &str, ColumnType); 4] = [
    ("user_id", "int", ColumnType::Int4),
    ("login_time", "datetime2(3)", ColumnType::Datetime2),
    ("ip_address", "varchar(45)", ColumnType::BigVarChar),
    ("user_agent", "nvarchar(400)", ColumnType::NVarchar),
];
const DAY: i64 = 86_400_000;
/// 1970-01-01 in days since 0001-01-01.
const DAYS_TO_1970: i64 = 719_162;

pub fn decode(criterion: &mut Criterion) {
    let description: Vec<Row> = COLUMNS.iter().map(description).collect();
    let rows: Vec<Row> = logins::logins().iter().map(row).collect();
    let request = request();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("rows of SQL Server to Arrow", |bencher| {
        bencher.iter(|| {
            let mut statement =
                Statement::described(&description, &request, BeyondMicroseconds::Truncate).unwrap();
            for row in &rows {
                statement.push(row).unwrap();
            }
            let batch = statement.finish().unwrap();
            assert_eq!(batch.batch.num_rows(), ROWS);
            black_box(batch)
        });
    });
    group.finish();
}

fn request() -> ReadRequest {
    ReadRequest {
        sql: String::new(),
        cursor: Some(Cursor {
            column: "login_time".to_owned(),
            kind: CursorKind::Timestamp,
            id: None,
            clock: Clock::Utc,
            settle_delay: Duration::ZERO,
        }),
        from: None,
        until: None,
        parameters: Vec::new(),
        batch_rows: ROWS + 1,
        batch_bytes: usize::MAX,
    }
}

fn description((name, system_type, _): &(&str, &str, ColumnType)) -> Row {
    let text = |text: &str| ColumnData::String(Some(Cow::Owned(text.to_owned())));
    Row::builder()
        .column("name", ColumnType::NVarchar, text(name))
        .column("system_type_name", ColumnType::NVarchar, text(system_type))
        .column(
            "collation_name",
            ColumnType::NVarchar,
            ColumnData::String(None),
        )
        .build()
}

fn row(login: &Login) -> Row {
    let text =
        |text: Option<&str>| ColumnData::String(text.map(|text| Cow::Owned(text.to_owned())));
    let day = u32::try_from(login.time.div_euclid(DAY) + DAYS_TO_1970).unwrap();
    let millis = login.time.rem_euclid(DAY).unsigned_abs();
    let time = DateTime2::new(Date::new(day), Time::new(millis, 3));
    let values = [
        ColumnData::I32(Some(i32::try_from(login.user_id).unwrap())),
        ColumnData::DateTime2(Some(time)),
        text(login.visit.ip_address.as_deref()),
        text(login.visit.user_agent),
    ];
    let mut row = Row::builder();
    for ((name, _, column_type), value) in COLUMNS.into_iter().zip(values) {
        row = row.column(name, column_type, value);
    }
    row.build()
}
