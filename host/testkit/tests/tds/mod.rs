//! A TDS client for the tests of the stand-in, and its values as text.
#![allow(dead_code, reason = "no test file uses all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]
#![allow(missing_docs, reason = "helpers of tests")]

use etl_testkit::stand_in::StandInServer;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, Row};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

pub type Connection = Client<Compat<TcpStream>>;

/// How to reach a server, without encryption or with that of the login only.
pub fn config(server: &StandInServer, database: &str) -> Config {
    let mut config = Config::new();
    config.host(&server.host);
    config.port(server.port);
    config.database(database);
    config.authentication(AuthMethod::sql_server(&server.user, &server.password));
    config.application_name("conformance");
    config.encryption(EncryptionLevel::Off);
    config.trust_cert();
    config
}

pub async fn connect(config: Config) -> tiberius::Result<Connection> {
    let socket = TcpStream::connect(config.get_addr()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    Box::pin(Client::connect(config, socket.compat_write())).await
}

pub async fn connected(server: &StandInServer, database: &str) -> Connection {
    connect(config(server, database)).await.unwrap()
}

/// All rows of all results of a batch, as text.
pub async fn rows(client: &mut Connection, sql: &str) -> tiberius::Result<Vec<Vec<Vec<String>>>> {
    let results = client.simple_query(sql).await?.into_results().await?;
    Ok(results
        .iter()
        .map(|rows| rows.iter().map(texts).collect())
        .collect())
}

/// The rows of the only result.
pub async fn only(client: &mut Connection, sql: &str) -> Vec<Vec<String>> {
    let mut results = rows(client, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(results.len(), 1, "{sql}");
    results.remove(0)
}

/// The only value of the only row.
pub async fn value(client: &mut Connection, sql: &str) -> String {
    only(client, sql).await.remove(0).remove(0)
}

/// The number of the error that a batch ends with.
pub async fn error(client: &mut Connection, sql: &str) -> u32 {
    match rows(client, sql).await {
        Err(tiberius::error::Error::Server(token)) => token.code(),
        other => panic!("{sql}: {other:?}"),
    }
}

pub fn texts(row: &Row) -> Vec<String> {
    row.cells().map(|(_, data)| text(data)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02X}"))
}

fn date(days_since_year_1: i64) -> String {
    // The days of the Gregorian calendar, counted from March.
    let z = days_since_year_1 + 306;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let m = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * m + 2) / 5 + 1,
        if m < 10 { m + 3 } else { m - 9 },
    );
    format!(
        "{:04}-{month:02}-{day:02}",
        year + era * 400 + i64::from(month <= 2)
    )
}

fn time(units: u64, scale: u8) -> String {
    let per_second = 10_u64.pow(u32::from(scale));
    let (seconds, fraction) = (units / per_second, units % per_second);
    let text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if scale == 0 {
        text
    } else {
        format!("{text}.{fraction:0width$}", width = usize::from(scale))
    }
}

/// One way to write each value, so that clients can be compared.
pub fn text(data: &ColumnData<'_>) -> String {
    const NULL: &str = "NULL";
    let null = || NULL.to_owned();
    match data {
        ColumnData::U8(it) => it.map_or_else(null, |it| it.to_string()),
        ColumnData::I16(it) => it.map_or_else(null, |it| it.to_string()),
        ColumnData::I32(it) => it.map_or_else(null, |it| it.to_string()),
        ColumnData::I64(it) => it.map_or_else(null, |it| it.to_string()),
        ColumnData::F32(it) => it.map_or_else(null, |it| format!("{it:?}")),
        ColumnData::F64(it) => it.map_or_else(null, |it| format!("{it:?}")),
        ColumnData::Bit(it) => it.map_or_else(null, |it| it.to_string()),
        ColumnData::String(it) => it.as_ref().map_or_else(null, ToString::to_string),
        ColumnData::Guid(it) => it.map_or_else(null, |it| it.to_string().to_uppercase()),
        ColumnData::Binary(it) => it.as_ref().map_or_else(null, |it| format!("0x{}", hex(it))),
        ColumnData::Numeric(it) => it.map_or_else(null, |it| {
            let (value, scale) = (it.value(), usize::from(it.scale()));
            let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let point = if scale == 0 { "" } else { "." };
            format!(
                "{}{whole}{point}{fraction}",
                if value < 0 { "-" } else { "" }
            )
        }),
        ColumnData::Xml(it) => it.as_ref().map_or_else(null, ToString::to_string),
        ColumnData::DateTime(it) => it.map_or_else(null, |it| {
            // Milliseconds, rounded as they are shown.
            let part = u64::from(it.seconds_fragments());
            format!(
                "{} {}",
                date(i64::from(it.days()) + 693_595),
                time((part * 10 + 1) / 3, 3)
            )
        }),
        ColumnData::SmallDateTime(it) => it.map_or_else(null, |it| {
            format!(
                "{} {}",
                date(i64::from(it.days()) + 693_595),
                time(u64::from(it.seconds_fragments()) * 60, 0)
            )
        }),
        ColumnData::Date(it) => it.map_or_else(null, |it| date(i64::from(it.days()))),
        ColumnData::Time(it) => it.map_or_else(null, |it| time(it.increments(), it.scale())),
        ColumnData::DateTime2(it) => it.map_or_else(null, |it| {
            format!(
                "{} {}",
                date(i64::from(it.date().days())),
                time(it.time().increments(), it.time().scale())
            )
        }),
        ColumnData::DateTimeOffset(it) => it.map_or_else(null, |it| {
            let utc = it.datetime2();
            format!(
                "{} {} UTC {}",
                date(i64::from(utc.date().days())),
                time(utc.time().increments(), utc.time().scale()),
                it.offset()
            )
        }),
    }
}
