use proptest::prelude::*;

use super::*;

const QUERY: &str =
    "SELECT id, at FROM t WHERE at > @from AND at <= @until ORDER BY at, id -- newest last\n;";

fn restrict(dialect: Dialect, query: &str) -> std::result::Result<RangeStatements, String> {
    dialect.restrict(query, "id", &["at", "id"])
}

#[test]
fn a_query_becomes_a_derived_table_without_its_order() {
    let statements = restrict(Dialect::Postgres, QUERY).unwrap();
    let inner =
        "SELECT * FROM (\nSELECT id, at FROM t WHERE at > @from AND at <= @until\n) AS q WHERE ";
    let order = " ORDER BY q.\"at\", q.\"id\"";
    assert_eq!(
        statements.first,
        format!("{inner}(q.\"id\" < @rangeUntil OR q.\"id\" IS NULL){order}")
    );
    assert_eq!(
        statements.middle,
        format!("{inner}q.\"id\" >= @rangeFrom AND q.\"id\" < @rangeUntil{order}")
    );
    assert_eq!(
        statements.last,
        format!("{inner}q.\"id\" >= @rangeFrom{order}")
    );
}

#[test]
fn what_sql_server_wants_outside_stays_outside() {
    let query = "WITH a AS (SELECT id FROM t ORDER BY id OFFSET 0 ROWS) SELECT id FROM a AS [order] WHERE id > @from \
                 ORDER BY id OPTION (RECOMPILE);";
    let statements = Dialect::SqlServer.restrict(query, "a]b", &[]).unwrap();
    assert_eq!(
        statements.last,
        "WITH a AS (SELECT id FROM t ORDER BY id OFFSET 0 ROWS) SELECT * FROM (\nSELECT id FROM a AS [order] WHERE id > @from\n) \
         AS q WHERE q.[a]]b] >= @rangeFrom\nOPTION (RECOMPILE)"
    );
    let elsewhere = Dialect::Sqlite
        .restrict("WITH a AS (SELECT 1 AS id) SELECT id FROM a", "id", &[])
        .unwrap();
    assert!(elsewhere.last.starts_with("SELECT * FROM (\nWITH a AS "));
}

#[test]
fn a_comment_at_the_end_swallows_nothing() {
    let statements = Dialect::Sqlite
        .restrict("SELECT id FROM t -- all of them", "id", &[])
        .unwrap();
    assert!(statements.last.contains("-- all of them\n) AS q WHERE"));
}

#[test]
fn what_cannot_stand_in_another_query_is_refused() {
    for (query, reason) in [
        ("EXEC logins", "does not begin with SELECT"),
        ("SELECT 1; SELECT 2", "several statements"),
        ("SELECT 1 AS id SELECT 2 AS id", "several statements"),
        ("SELECT id INTO u FROM t", "INTO"),
        ("SELECT id FROM t FOR UPDATE", "FOR"),
        ("SELECT id FROM t ORDER BY id FOR JSON AUTO", "FOR"),
        ("SELECT TOP 5 id FROM t", "TOP"),
        ("SELECT id FROM t LIMIT 5", "LIMIT"),
        ("WITH a AS (SELECT 1)", "no SELECT"),
        ("", "does not begin"),
    ] {
        let refused = restrict(Dialect::SqlServer, query).unwrap_err();
        assert!(refused.contains(reason), "{query}: {refused}");
    }
    for fine in [
        "SELECT id FROM a UNION ALL SELECT id FROM b UNION SELECT id FROM c",
        "SELECT id FROM t FOR SYSTEM_TIME AS OF '2024-01-31' AS old",
        "SELECT id FROM t WITH (NOLOCK) WHERE x = 'a; b'",
    ] {
        restrict(Dialect::SqlServer, fine).unwrap();
    }
}

#[test]
fn every_range_binds_what_its_statement_names() {
    let statements = restrict(Dialect::SqlServer, QUERY).unwrap();
    for number in 0..4 {
        let range = Range::between("id", &[1, 5, 9], number);
        let named = sql::parameters(statements.of(&range));
        let bound: Vec<&str> = range.parameters().map(|(name, _)| name).collect();
        let of_range: Vec<&str> = named
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with("range"))
            .collect();
        assert_eq!(of_range, bound, "{number}");
    }
}

/// Whether a value belongs to a range, as the statements say it.
fn holds(range: &Range, value: Option<i64>) -> bool {
    match value {
        None => range.from.is_none(),
        Some(value) => {
            range.from.is_none_or(|from| value >= from)
                && range.until.is_none_or(|until| value < until)
        }
    }
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap()
}

/// Searches as the runtime does, over these values.
fn search(ranges: usize, values: &[i64]) -> Vec<i64> {
    let survey = |points: &[i64]| -> Vec<i64> {
        points
            .iter()
            .map(|point| count(values.iter().filter(|value| *value < point).count()))
            .collect()
    };
    let found = Surveyed {
        rows: count(values.len()),
        values: count(values.len()),
        ends: values
            .iter()
            .min()
            .copied()
            .zip(values.iter().max().copied()),
        below: Vec::new(),
    };
    let mut search = BoundSearch::new(ranges, &found).unwrap();
    let mut looks = 0;
    loop {
        let points = search.points();
        if points.is_empty() {
            return search.bounds();
        }
        looks += 1;
        assert!(
            looks <= MOST_LOOKS && points.len() <= 128,
            "{looks}: {points:?}"
        );
        search.learn(&points, &survey(&points));
    }
}

#[test]
fn skewed_values_are_cut_into_like_shares() {
    // Nine in ten lie close together, far from the rest.
    let mut values: Vec<i64> = (0..9_000).map(|index| 1_000_000 + index).collect();
    values.extend((0..1_000).map(|index| index * 1_000_000_000));
    let bounds = search(8, &values);
    for number in 0..8 {
        let range = Range::between("id", &bounds, number);
        let rows = values
            .iter()
            .filter(|value| holds(&range, Some(**value)))
            .count();
        assert!(
            (1_000..=1_500).contains(&rows),
            "{number}: {rows} of {bounds:?}"
        );
    }
}

proptest! {
    #[test]
    fn every_value_belongs_to_exactly_one_range(
        values in prop::collection::vec(any::<i64>(), 1..60), ranges in 2_usize..12, later: Option<i64>,
    ) {
        let bounds = search(ranges, &values);
        prop_assert_eq!(bounds.len(), ranges - 1);
        prop_assert!(bounds.is_sorted());
        let first_day = values.iter().map(|value| Some(*value));
        for value in first_day.chain([later, None, Some(i64::MIN), Some(i64::MAX)]) {
            let owners = (0..ranges)
                .filter(|number| holds(&Range::between("id", &bounds, *number), value))
                .count();
            prop_assert_eq!(owners, 1, "{:?}", value);
        }
        for value in values {
            prop_assert!(!holds(&Range::empty("id"), Some(value)));
        }
    }

    #[test]
    fn no_range_of_many_different_values_is_much_too_large(
        values in prop::collection::btree_set(-1_000_000_i64..1_000_000, 200..400), ranges in 2_usize..9,
    ) {
        let values: Vec<i64> = values.into_iter().collect();
        let bounds = search(ranges, &values);
        for number in 0..ranges {
            let range = Range::between("id", &bounds, number);
            let rows = values.iter().filter(|value| holds(&range, Some(**value))).count();
            prop_assert!(rows <= values.len() / ranges * 3 / 2 + 2, "{} of {}", rows, values.len());
        }
    }

    #[test]
    fn any_text_is_survived(query in "\\PC*") {
        for dialect in [Dialect::SqlServer, Dialect::Postgres, Dialect::Sqlite] {
            let _ = dialect.restrict(&query, "id", &["id"]);
        }
    }
}
