//! How fast one core adds location and device, by how much the user agents differ.
//!
//! The logins are the demo's. In the other cases a share of the rows gets one of many more user agents. Each case says
//! how many distinct values a batch has. It sees all its batches before it is measured: the cost of recognising a user
//! agent for the first time, some 40 µs, is left out. Time is the thread's CPU time. Run it with `make bench-micro`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark; criterion's macros write functions"
)]

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::{ArrayRef, Int64Array, StringArray};
use etl_plugin_api::prelude::*;
use etl_plugin_api::{AttemptInfo, Level};
use login_analytics::{LoginAnalytics, Settings};
use login_analytics_demo::logins::Logins;
use login_analytics_demo::random::Random;
use login_analytics_demo::world::World;

const BATCH_ROWS: usize = 8_192;
const BATCHES: usize = 32;
/// How many distinct user agents there are besides the demo's, and how many of 1,000 rows have one of them.
const OTHERS: [(u64, u64); 4] = [(0, 0), (1_000, 100), (5_000, 300), (5_000, 1_000)];

/// The CPU time of this thread, so that it does not matter what else the machine does.
struct CpuTime(WallTime);

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let used = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(used.split(' ').next().unwrap().parse().unwrap())
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        self.0.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}

struct Attempt(AttemptInfo);

impl Context for Attempt {
    fn attempt(&self) -> &AttemptInfo {
        &self.0
    }

    fn secret(&self, name: &str) -> Result<String> {
        Err(StageError::config(name))
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn log(&self, _: Level, _: &str) {}

    fn count(&self, _: &str, _: u64) {}
}

/// Logins with so many other user agents, in so many of 1,000 rows.
fn batches(others: u64, per_mille: u64) -> Vec<RecordBatch> {
    let world = World::new().unwrap();
    let mut random = Random::new(1);
    let rows = BATCH_ROWS * BATCHES;
    let logins: Vec<_> = Logins::new(&world, 1, rows as u64, 1)
        .month(rows as u64)
        .collect();
    logins
        .chunks(BATCH_ROWS)
        .map(|logins| {
            let users = Int64Array::from_iter_values(logins.iter().map(|login| login.user_id));
            let addresses: StringArray = logins
                .iter()
                .map(|login| login.visit.ip_address.as_deref())
                .collect();
            let user_agents: StringArray = logins
                .iter()
                .map(|login| {
                    if random.chance(per_mille) {
                        let version = random.below(others);
                        return Some(format!(
                            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                             Chrome/143.0.{version}.0 Safari/537.36"
                        ));
                    }
                    login.visit.user_agent.map(str::to_owned)
                })
                .collect();
            RecordBatch::try_from_iter_with_nullable([
                ("user_id", Arc::new(users) as ArrayRef, false),
                ("ip_address", Arc::new(addresses), true),
                ("user_agent", Arc::new(user_agents), true),
            ])
            .unwrap()
        })
        .collect()
}

fn distinct(batch: &RecordBatch, column: usize) -> usize {
    let texts = batch.column(column).as_string::<i32>().iter();
    texts.collect::<HashSet<_>>().len()
}

fn transform(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("transform");
    group.throughput(Throughput::Elements((BATCH_ROWS * BATCHES) as u64));
    group.sample_size(10);
    for (others, per_mille) in OTHERS {
        let batches = batches(others, per_mille);
        let [addresses, user_agents] = [1, 2].map(|column| distinct(&batches[0], column));
        let case = format!("{addresses} addresses, {user_agents} user agents in {BATCH_ROWS} rows");
        let cx = Attempt(AttemptInfo::default());
        let mut enrich = LoginAnalytics
            .transformer(&Settings::default())
            .unwrap()
            .unwrap();
        enrich.open(&cx, &batches[0].schema()).unwrap();
        group.bench_function(BenchmarkId::from_parameter(case), |bencher| {
            bencher.iter(|| {
                for batch in &batches {
                    black_box(enrich.transform(&cx, batch.clone()).unwrap());
                }
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime(WallTime));
    targets = transform
}
criterion_main!(benches);
