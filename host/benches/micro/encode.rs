//! Arrow into the frames of PostgreSQL's binary COPY.

use std::hint::black_box;

use arrow_array::ArrayRef;
use criterion::{Criterion, Throughput};
use etl_host::sink::postgres::encode::Encoder;
use etl_host::sink::postgres::types::PgType;

use super::logins::{self, ROWS};

pub fn encode(criterion: &mut Criterion) {
    let logins = logins::batch();
    let types = [
        PgType::Int4,
        PgType::Timestamp(6),
        PgType::Text(None),
        PgType::Text(None),
    ];
    let [dictionary, plain] = logins::words();
    let columns: Vec<_> = logins.columns().iter().cloned().zip(types).collect();
    let cases: [(&str, Vec<(ArrayRef, PgType)>); 3] = [
        ("logins", columns),
        (
            "text of a dictionary",
            vec![(dictionary, PgType::Text(None))],
        ),
        ("plain text", vec![(plain, PgType::Text(None))]),
    ];
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, columns) in cases {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                fill(&columns, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// As `sink::postgres::copy` does, without a server.
fn fill(columns: &[(ArrayRef, PgType)], out: &mut Vec<u8>) {
    let encoders: Vec<_> = columns
        .iter()
        .map(|(array, column)| Encoder::new(array, *column).unwrap())
        .collect();
    for row in 0..ROWS {
        for encoder in &encoders {
            encoder.encode(row, out).unwrap();
        }
    }
}
