//! Our binary rows against the server's own: what is sent must come back byte for byte, and mean what it meant.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use bytes::{Bytes, BytesMut};
use etl_testkit::postgres::PostgresServer;
use futures_util::{SinkExt, TryStreamExt};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tokio_postgres::Client;

use super::*;
use crate::literal;

/// A column: its type in the server, our type, its values, and each value as the server writes it as text.
struct Column {
    declared: &'static str,
    kind: PgType,
    values: ArrayRef,
    /// What makes text of the server's column `c`.
    shown: &'static str,
    texts: Vec<Option<String>>,
}

const ROWS: usize = 300;

/// Values of every size, and now and then none.
fn many<T: Clone + std::fmt::Debug>(
    runner: &mut TestRunner,
    strategy: impl Strategy<Value = T>,
) -> Vec<Option<T>> {
    let rows = vec(option::weighted(0.9, strategy), ROWS);
    rows.new_tree(runner).unwrap().current()
}

fn texts<T>(values: &[Option<T>], text: impl Fn(&T) -> String) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| value.as_ref().map(&text))
        .collect()
}

#[expect(clippy::too_many_lines, reason = "one block per type")]
fn columns(runner: &mut TestRunner) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |declared, kind, values: ArrayRef, shown, texts| {
        columns.push(Column {
            declared,
            kind,
            values,
            shown,
            texts,
        });
    };
    let values = many(runner, any::<bool>());
    let shown = texts(&values, bool::to_string);
    add(
        "bool",
        PgType::Bool,
        Arc::new(BooleanArray::from(values)),
        "c::text",
        shown,
    );
    let values = many(runner, any::<i16>());
    let shown = texts(&values, i16::to_string);
    add(
        "int2",
        PgType::Int2,
        Arc::new(Int16Array::from(values)),
        "c::text",
        shown,
    );
    let values = many(runner, any::<i32>());
    let shown = texts(&values, i32::to_string);
    add(
        "int4",
        PgType::Int4,
        Arc::new(Int32Array::from(values)),
        "c::text",
        shown,
    );
    let values = many(runner, any::<i64>());
    let shown = texts(&values, i64::to_string);
    add(
        "int8",
        PgType::Int8,
        Arc::new(Int64Array::from(values)),
        "c::text",
        shown,
    );
    // The server's text is the shortest that means the same number, as ours is; only its form differs.
    let values = many(runner, any::<f32>());
    let shown = texts(&values, |value| f64::from(*value).to_bits().to_string());
    add(
        "float4",
        PgType::Float4,
        Arc::new(Float32Array::from(values)),
        FLOAT,
        shown,
    );
    let values = many(runner, any::<f64>());
    let shown = texts(&values, |value| value.to_bits().to_string());
    add(
        "float8",
        PgType::Float8,
        Arc::new(Float64Array::from(values)),
        FLOAT,
        shown,
    );
    for scale in [0, 1, 5, 20, 38] {
        let most = 10i128.pow(38) - 1;
        let digits = (0u32..38, -most..=most).prop_map(|(cut, value)| value / 10i128.pow(cut));
        let values = many(runner, digits);
        let array = Decimal128Array::from(values)
            .with_precision_and_scale(38, scale)
            .unwrap();
        let shown = (0..ROWS)
            .map(|row| array.is_valid(row).then(|| array.value_as_string(row)))
            .collect();
        add(
            "numeric",
            PgType::Numeric(None),
            Arc::new(array),
            "c::text",
            shown,
        );
    }
    let values = many(runner, "[^\0]{0,20}");
    let array = StringArray::from(values.clone());
    add(
        "text",
        PgType::Text(None),
        Arc::new(array),
        "c",
        values.clone(),
    );
    let quoted = texts(&values, |text| serde_json::to_string(text).unwrap());
    let array = StringArray::from(quoted.clone());
    add("json", PgType::Json, Arc::new(array), "c::text", quoted);
    let values = many(runner, vec(any::<u8>(), 0..20));
    let array: BinaryArray = values.iter().map(Option::as_deref).collect();
    let shown = texts(&values, |bytes| literal::hex(bytes));
    add(
        "bytea",
        PgType::Bytea,
        Arc::new(array),
        "encode(c, 'hex')",
        shown,
    );
    let values = many(runner, any::<u128>());
    let shown = texts(&values, |value| Uuid::from_u128(*value).to_string());
    let array = StringArray::from(shown.clone());
    add("uuid", PgType::Uuid, Arc::new(array), "c::text", shown);
    let values = many(runner, -719_162i32..=2_932_896);
    let shown = texts(&values, |days| literal::date(*days).unwrap());
    add(
        "date",
        PgType::Date,
        Arc::new(Date32Array::from(values)),
        "c::text",
        shown,
    );
    let values = many(runner, 0i64..86_400_000_000);
    let shown = texts(&values, |micros| literal::time_of_day(*micros).unwrap());
    let array = Time64MicrosecondArray::from(values);
    add("time", PgType::Time(6), Arc::new(array), TIME, shown);
    let micros = -62_135_596_800_000_000i64..=253_402_300_799_999_999;
    let values = many(runner, micros);
    let shown = texts(&values, |micros| {
        literal::timestamp(i128::from(*micros) * 1_000, false).unwrap()
    });
    let array = TimestampMicrosecondArray::from(values);
    let zoned = array.clone().with_timezone("UTC");
    add(
        "timestamp",
        PgType::Timestamp(6),
        Arc::new(array),
        STAMP,
        shown.clone(),
    );
    add(
        "timestamptz",
        PgType::Timestamptz(6),
        Arc::new(zoned),
        ZONED,
        shown,
    );
    columns
}

/// The bits of a float, by way of its binary form.
const FLOAT: &str = "CASE WHEN c = 'NaN' THEN 'NaN' ELSE ('x' || encode(float8send(c), 'hex'))::bit(64)::bigint::text END";
/// As many digits as [`literal`] writes: none, three or six.
const TIME: &str =
    "regexp_replace(regexp_replace(to_char(c, 'HH24:MI:SS.US'), '000$', ''), '\\.000$', '')";
const STAMP: &str = "regexp_replace(regexp_replace(to_char(c, 'YYYY-MM-DD HH24:MI:SS.US'), '000$', ''), '\\.000$', '')";
const ZONED: &str = "regexp_replace(regexp_replace(to_char(c AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), '000$', ''), '\\.000$', '')";

fn encode(column: &Column) -> Bytes {
    let encoder = Encoder::new(column.values.as_ref(), column.kind).unwrap();
    let mut bytes = BytesMut::from(HEADER);
    for row in 0..ROWS {
        let mut values = 1i16.to_be_bytes().to_vec();
        encoder.encode(row, &mut values).unwrap();
        bytes.extend_from_slice(&values);
    }
    bytes.extend_from_slice(TRAILER);
    bytes.freeze()
}

async fn check(client: &Client, column: &Column) {
    let declared = column.declared;
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS pg_temp.t; CREATE TEMP TABLE t (n serial, c {declared})"
        ))
        .await
        .unwrap();
    let sent = encode(column);
    let sink = client
        .copy_in::<_, Bytes>("COPY t (c) FROM STDIN (FORMAT binary)")
        .await
        .unwrap();
    futures_util::pin_mut!(sink);
    sink.send(sent.clone()).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), ROWS as u64, "{declared}");

    let stream = client
        .copy_out("COPY (SELECT c FROM t ORDER BY n) TO STDOUT (FORMAT binary)")
        .await
        .unwrap();
    let received: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!(
        sent == received.concat(),
        "{declared}: the server writes other bytes"
    );

    let rows = client
        .query(&format!("SELECT {} FROM t ORDER BY n", column.shown), &[])
        .await
        .unwrap();
    for (row, expected) in rows.iter().zip(&column.texts) {
        let shown: Option<String> = row.get(0);
        let expected = expected.as_ref().map(|text| match column.kind {
            // The same 64 bits, as the server's bigint has them.
            PgType::Float4 | PgType::Float8 => {
                let bits: u64 = text.parse().unwrap();
                if f64::from_bits(bits).is_nan() {
                    "NaN".to_owned()
                } else {
                    bits.cast_signed().to_string()
                }
            }
            _ => text.clone(),
        });
        assert_eq!(shown, expected, "{declared}");
    }
}

#[tokio::test]
async fn the_server_writes_the_same_bytes_for_the_same_rows() {
    let database = PostgresServer::shared().create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..5 {
        for column in columns(&mut runner) {
            check(&client, &column).await;
        }
    }
}
