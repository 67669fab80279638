//! A batch to a plugin and back: inside the host through the C interface, and through a worker's socket.
//!
//! The plugin gives back what it gets, so all that is measured is the way.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use etl_host::capabilities::Granted;
use etl_host::config::{self, Layer};
use etl_host::plugin::load::OwnWork;
use etl_host::plugin::registry::Registry;
use etl_host::stage::{
    self, AttemptStages,
    context::{Counters, HostContext},
};
use etl_host::state::State;
use etl_plugin_api::AttemptInfo;
use etl_testkit::project::Project;
use tokio_util::sync::CancellationToken;

use super::logins::{self, ROWS};

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

pub fn boundary(criterion: &mut Criterion) {
    // A plugin that is loaded may not end the process; whoever loaded it says when it may end.
    let _work = OwnWork;
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    let state = State::open(&project.path("state")).unwrap();
    let registry = Registry::scan(&project.path("plugins"), &state, Path::new(HOST)).unwrap();
    let (_, plugin, manifest) = registry.find("same")[0];
    let batch = logins::batch();
    let cx = HostContext::new(
        AttemptInfo::default(),
        CancellationToken::new(),
        Counters::default(),
        Arc::default(),
    );
    let mut group = criterion.benchmark_group("boundary");
    group.throughput(Throughput::Elements(ROWS as u64));
    for isolation in ["in-process", "process"] {
        let layers = [Layer {
            name: "benchmark".into(),
            text: config(isolation),
            of_plugin: false,
        }];
        let config = config::load(&layers, &|_| None).unwrap().config;
        let stages = stage::open(
            plugin,
            manifest,
            &config,
            &Granted::default(),
            Path::new(HOST),
        )
        .unwrap();
        let attempt = AttemptStages::new(&stages, "benchmark");
        let mut same = attempt.share().transformer().unwrap().unwrap();
        same.open(&cx, &batch.schema()).unwrap();
        group.bench_function(isolation, |bencher| {
            bencher.iter(|| {
                let back = same.transform(&cx, batch.clone()).unwrap();
                assert_eq!(back.outputs[0].batch.num_rows(), ROWS);
                black_box(back)
            });
        });
    }
    group.finish();
}

fn config(isolation: &str) -> String {
    format!(
        "name: same\nisolation: {isolation}\n\
         source: {{ type: sqlite, shards: [{{ path: none.db }}], query: SELECT 1 AS id }}\n\
         sink: {{ type: sqlite, path: none.db, table: same, write_mode: replace }}\n"
    )
}
