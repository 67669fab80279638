//! What is remembered of runs, and how it is found again.

use super::*;

#[test]
fn the_last_run_is_the_newest_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let state = State::open(folder.path()).unwrap();
        state.record_start(&RunStart::by_hand("1", "p")).unwrap();
        state
            .record_end(
                "1",
                "succeeded",
                "2024-01-01T00:00:01Z",
                r#"{"rows":{"loaded":7}}"#,
            )
            .unwrap();
        state.record_start(&RunStart::by_hand("2", "p")).unwrap();
    }
    let state = State::open(folder.path()).unwrap();
    assert_eq!(state.last_run("p").unwrap().unwrap().status, "running");
    assert_eq!(state.recent_runs("p", 5).unwrap()[1].loaded, Some(7));
    assert_eq!(state.last_run("q").unwrap(), None);
    let (pipeline, record) = state.run("1").unwrap().unwrap();
    assert_eq!((pipeline.as_str(), record.loaded), ("p", Some(7)));
    assert_eq!(state.run("3").unwrap(), None);
    let running = state.running().unwrap();
    assert_eq!(running.len(), 1);
    assert_eq!(
        (running[0].run_id.as_str(), running[0].process),
        ("2", std::process::id())
    );
    assert!(running[0].is_here);
}

#[test]
fn runs_are_forgotten_that_are_old_and_not_among_the_last_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
         INSERT INTO runs (run_id, pipeline, status, started_at)
         SELECT ?1 || i, ?1, iif(i = 3, 'running', 'succeeded'),
                strftime('%Y-%m-%dT%H:%M:%SZ', ?3, '-' || i || ' hours') FROM n";
    let add = |pipeline: &str, runs: i64, newest: &str| {
        let values = params![pipeline, runs - 1, newest];
        state.database.execute(fill, values).unwrap();
    };
    // All but a thousand are old; few, all old; many, none old.
    add("old", 1_500, "2024-01-01T00:00:00Z");
    add("rare", 10, "2024-01-01T00:00:00Z");
    add("often", 1_500, "2026-01-01T00:00:00Z");
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    assert_eq!(state.prune_runs(now).unwrap(), 500);
    let mut statement = state
        .database
        .prepare("SELECT pipeline, count(*), min(started_at) FROM runs GROUP BY pipeline")
        .unwrap();
    let left: Vec<(String, u32, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(|row| row.unwrap())
        .collect();
    let counted: Vec<_> = left
        .iter()
        .map(|(name, runs, _)| (name.as_str(), *runs))
        .collect();
    assert_eq!(counted, [("often", 1_500), ("old", 1_000), ("rare", 10)]);
    // The oldest went.
    assert_eq!(left[1].2, "2023-11-20T09:00:00Z");
    assert_eq!(state.prune_runs(now).unwrap(), 0);
}

#[test]
fn a_run_that_goes_on_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    state.record_start(&RunStart::by_hand("1", "p")).unwrap();
    let begun = "UPDATE runs SET started_at = '2020-01-01T00:00:00Z'";
    state.database.execute(begun, []).unwrap();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO runs (run_id, pipeline, status, started_at)
         SELECT 'r' || i, 'p', 'failed', '2021-01-01T00:00:00Z' FROM n";
    state.database.execute(fill, []).unwrap();
    assert_eq!(state.prune_runs(Timestamp::now()).unwrap(), 1);
    assert_eq!(state.running().unwrap().len(), 1);
}

#[test]
fn indexes_serve_every_page() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let all = HistoryQuery::default();
    let of_pipeline = HistoryQuery {
        pipeline: Some("p".to_owned()),
        ..HistoryQuery::default()
    };
    let behind = |query: &HistoryQuery| HistoryQuery {
        before: Some("1".to_owned()),
        status: Some("failed".to_owned()),
        ..query.clone()
    };
    let since = |query: &HistoryQuery| HistoryQuery {
        since: Some(Timestamp::UNIX_EPOCH),
        status: Some("interrupted".to_owned()),
        ..query.clone()
    };
    for (query, expected) in [
        (all.clone(), "SCAN runs USING INDEX runs_by_start"),
        (behind(&all), "runs_by_start (started_at<?)"),
        (since(&all), "runs_by_start (started_at>?)"),
        (of_pipeline.clone(), "runs_by_pipeline (pipeline=?)"),
        (
            behind(&of_pipeline),
            "runs_by_pipeline (pipeline=? AND started_at<?)",
        ),
        (
            since(&of_pipeline),
            "runs_by_pipeline (pipeline=? AND started_at>?)",
        ),
    ] {
        let (conditions, values) = conditions(&query);
        let explained = format!(
            "EXPLAIN QUERY PLAN SELECT {COLUMNS} FROM runs{conditions} ORDER BY started_at DESC, run_id DESC"
        );
        let mut statement = state.database.prepare(&explained).unwrap();
        let plan: Vec<String> = statement
            .query_map(params_from_iter(values), |row| row.get("detail"))
            .unwrap()
            .map(|row| row.unwrap())
            .collect();
        let plan = plan.join("\n");
        assert!(plan.contains(expected), "{query:?}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{query:?}: {plan}");
    }
}

#[test]
fn since_is_exact_within_its_second() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let fill = "INSERT INTO runs (run_id, pipeline, status, started_at) VALUES
         ('1', 'p', 'failed', '2024-01-01T00:00:00Z'), ('2', 'p', 'failed', '2024-01-01T00:00:00.25Z'),
         ('3', 'p', 'failed', '2024-01-01T00:00:00.75Z'), ('4', 'p', 'failed', '2024-01-01T00:00:01Z')";
    state.database.execute(fill, []).unwrap();
    let since = |time: &str| {
        let query = HistoryQuery {
            since: Some(time.parse().unwrap()),
            limit: 9,
            ..HistoryQuery::default()
        };
        state.runs(&query).unwrap().len()
    };
    assert_eq!(since("2024-01-01T00:00:00Z"), 4);
    assert_eq!(since("2024-01-01T00:00:00.5Z"), 2);
    assert_eq!(since("2024-01-01T00:00:02Z"), 0);
}

#[test]
fn a_run_whose_host_died_is_interrupted() {
    // As if the number of the process had been given to another one since, and as if the machine had started again.
    for (key, value) in [("$.started", "1"), ("$.machine", "'another boot'")] {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.record_start(&RunStart::by_hand("1", "p")).unwrap();
        let changed = format!("UPDATE runs SET holder = json_set(holder, '{key}', {value})");
        state.database.execute(&changed, []).unwrap();
        assert_eq!(state.last_run("p").unwrap().unwrap().status, "interrupted");
        assert!(state.running().unwrap().is_empty());
        assert_eq!(state.record_interrupted().unwrap().len(), 1, "{key}");
    }
}

#[test]
fn a_run_of_another_machine_goes_on_but_takes_no_signal_from_here() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    state.record_start(&RunStart::by_hand("1", "p")).unwrap();
    let changed = "UPDATE runs SET holder = json_set(holder, '$.machine', 'm', '$.host', 'h')";
    state.database.execute(changed, []).unwrap();
    let running = state.running().unwrap();
    assert_eq!(running.len(), 1);
    assert!(!running[0].is_here);
}
