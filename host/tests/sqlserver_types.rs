//! Every type of SQL Server through a wire into a real `PostgreSQL` and into `SQLite`, and `docs/types.md`, which is
//! written from what was found there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[macro_use]
mod shards;

use std::fmt::Write;

use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::project::Project;
use expect_test::expect_file;
use shards::{Driver, Shards, postgres_sink};

/// A type with values at its edges.
struct Case {
    /// As a column is declared.
    declared: &'static str,
    /// T-SQL literals, and what `PostgreSQL` and `SQLite` hold afterwards, as text.
    values: &'static [(&'static str, &'static str, &'static str)],
    /// What happens at the edges, for the documentation.
    edges: &'static str,
}

const fn case(
    declared: &'static str,
    values: &'static [(&'static str, &'static str, &'static str)],
    edges: &'static str,
) -> Case {
    Case {
        declared,
        values,
        edges,
    }
}

/// The value is the same text everywhere.
macro_rules! same {
    ($($value:literal),+ $(,)?) => { &[$(($value, $value, $value)),+] };
}

const CASES: &[Case] = &[
    case("bit", &[("0", "false", "0"), ("1", "true", "1")], ""),
    case(
        "tinyint",
        same!("0", "255"),
        "unsigned, so it needs two bytes",
    ),
    case("smallint", same!("-32768", "32767"), ""),
    case("int", same!("-2147483648", "2147483647"), ""),
    case(
        "bigint",
        same!("-9223372036854775808", "9223372036854775807"),
        "",
    ),
    case(
        "real",
        &[
            ("1.5", "1.5", "1.5"),
            ("-3.4E+38", "-3.4e+38", "-3.3999999521443643e+38"),
        ],
        "SQL Server has no infinities and no NaN",
    ),
    case(
        "float",
        &[
            ("-0.1", "-0.1", "-0.1"),
            (
                "1.7976931348623157E+308",
                "1.7976931348623157e+308",
                "1.7976931348623157e+308",
            ),
        ],
        "SQL Server has no infinities and no NaN",
    ),
    case(
        "decimal(38,0)",
        same!(
            "99999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999"
        ),
        "all 38 digits",
    ),
    case(
        "decimal(38,38)",
        same!(
            "0.99999999999999999999999999999999999999",
            "-0.00000000000000000000000000000000000001"
        ),
        "all 38 digits",
    ),
    case("numeric(10,2)", same!("12345678.90", "-0.01"), ""),
    case(
        "money",
        same!("225179981368.5247", "-0.0001"),
        "exact up to ±225,179,981,368.5247; a larger amount is set aside, since the driver reads it inexactly: `CAST(… AS decimal(19,4))` in the query keeps it, as does `source.driver: mssql-tds`",
    ),
    case("smallmoney", same!("214748.3647", "-214748.3648"), ""),
    case("date", same!("'0001-01-01'", "'9999-12-31'"), ""),
    case("time(0)", &[("'23:59:59'", "23:59:59", "23:59:59")], ""),
    case(
        "time(3)",
        &[("'23:59:59.999'", "23:59:59.999", "23:59:59.999")],
        "",
    ),
    case(
        "time(7)",
        &[
            ("'12:34:56.1234567'", "12:34:56.123456", "12:34:56.123456"),
            ("'00:00:00'", "00:00:00", "00:00:00"),
        ],
        "the seventh digit: `source.beyond_microseconds`",
    ),
    case(
        "datetime",
        &[
            (
                "'1753-01-01T00:00:00'",
                "1753-01-01 00:00:00",
                "1753-01-01 00:00:00",
            ),
            (
                "'9999-12-31T23:59:59.997'",
                "9999-12-31 23:59:59.997",
                "9999-12-31 23:59:59.997",
            ),
            (
                "'2024-01-31T10:00:00.003'",
                "2024-01-31 10:00:00.003",
                "2024-01-31 10:00:00.003",
            ),
        ],
        "thirds of a hundredth are .000, .003 and .007, as the server shows them",
    ),
    case(
        "smalldatetime",
        &[
            (
                "'1900-01-01T00:00:00'",
                "1900-01-01 00:00:00",
                "1900-01-01 00:00:00",
            ),
            (
                "'2079-06-06T23:59:00'",
                "2079-06-06 23:59:00",
                "2079-06-06 23:59:00",
            ),
        ],
        "",
    ),
    case(
        "datetime2(0)",
        &[(
            "'2024-02-29T23:59:59'",
            "2024-02-29 23:59:59",
            "2024-02-29 23:59:59",
        )],
        "",
    ),
    case(
        "datetime2(3)",
        &[(
            "'2024-02-29T23:59:59.123'",
            "2024-02-29 23:59:59.123",
            "2024-02-29 23:59:59.123",
        )],
        "",
    ),
    case(
        "datetime2(6)",
        &[(
            "'2024-02-29T23:59:59.123456'",
            "2024-02-29 23:59:59.123456",
            "2024-02-29 23:59:59.123456",
        )],
        "",
    ),
    case(
        "datetime2(7)",
        &[
            (
                "'0001-01-01T00:00:00'",
                "0001-01-01 00:00:00",
                "0001-01-01 00:00:00",
            ),
            (
                "'9999-12-31T23:59:59.9999999'",
                "9999-12-31 23:59:59.999999",
                "9999-12-31 23:59:59.999999",
            ),
            (
                "'1969-12-31T23:59:59.9999999'",
                "1969-12-31 23:59:59.999999",
                "1969-12-31 23:59:59.999999",
            ),
        ],
        "the seventh digit: `source.beyond_microseconds`; a cursor keeps it",
    ),
    case(
        "datetimeoffset(0)",
        &[(
            "'2024-01-31T10:00:00+05:30'",
            "2024-01-31 04:30:00+00",
            "2024-01-31 04:30:00Z",
        )],
        "the instant is kept, the offset is not",
    ),
    case(
        "datetimeoffset(7)",
        &[
            (
                "'2024-01-31T10:00:00.1234560-08:00'",
                "2024-01-31 18:00:00.123456+00",
                "2024-01-31 18:00:00.123456Z",
            ),
            (
                "'0001-01-01T00:00:00+00:00'",
                "0001-01-01 00:00:00+00",
                "0001-01-01 00:00:00Z",
            ),
        ],
        "the instant is kept, the offset is not; the seventh digit: `source.beyond_microseconds`",
    ),
    case(
        "char(5)",
        &[("'ab'", "ab   ", "ab   ")],
        "padded with blanks, as the server gives it",
    ),
    case(
        "varchar(30) COLLATE Latin1_General_CI_AS",
        &[("N'Zoë €'", "Zoë €", "Zoë €"), ("''", "", "")],
        "read by the code page of the column's collation; an empty text is not NULL",
    ),
    case(
        "varchar(30) COLLATE Cyrillic_General_CI_AS",
        &[("N'Привет'", "Привет", "Привет")],
        "code page 1251",
    ),
    case(
        "varchar(30) COLLATE Polish_CI_AS",
        &[("N'Łódź'", "Łódź", "Łódź")],
        "code page 1250",
    ),
    case(
        "varchar(30) COLLATE Japanese_CI_AS",
        &[("N'日本'", "日本", "日本")],
        "code page 932",
    ),
    case(
        "varchar(30) COLLATE Latin1_General_100_CI_AS_SC_UTF8",
        &[("N'😀 Привет'", "😀 Привет", "😀 Привет")],
        "",
    ),
    case(
        "varchar(max)",
        &[("'long'", "long", "long"), ("''", "", "")],
        "",
    ),
    case("text", &[("'old'", "old", "old"), ("''", "", "")], ""),
    case(
        "nchar(3)",
        &[("N'é'", "é  ", "é  ")],
        "padded with blanks, as the server gives it",
    ),
    case(
        "nvarchar(30)",
        &[("N'😀 𐍈 ß'", "😀 𐍈 ß", "😀 𐍈 ß"), ("N''", "", "")],
        "U+0000: `sink.nul_characters`; half a surrogate pair fails the run",
    ),
    case(
        "nvarchar(max)",
        &[("N'😀'", "😀", "😀"), ("N''", "", "")],
        "50 MB in a test",
    ),
    case(
        "ntext",
        &[("N'ältlich 😀'", "ältlich 😀", "ältlich 😀")],
        "",
    ),
    case(
        "binary(4)",
        &[("0x01020304", "\\x01020304", "01020304")],
        "SQLite's text is shown in hexadecimal digits here",
    ),
    case(
        "varbinary(10)",
        &[("0x00FF", "\\x00ff", "00FF"), ("0x", "\\x", "")],
        "an empty value is not NULL",
    ),
    case(
        "varbinary(max)",
        &[("0xDEADBEEF", "\\xdeadbeef", "DEADBEEF"), ("0x", "\\x", "")],
        "",
    ),
    case("image", &[("0xCAFE", "\\xcafe", "CAFE")], ""),
    case(
        "uniqueidentifier",
        &[(
            "'6F9619FF-8B86-D011-B42D-00C04FC964FF'",
            "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        )],
        "the digits are those that the server shows, in lower case",
    ),
    case(
        "xml",
        &[(
            "N'<a b=\"1\">é</a>'",
            "<a b=\"1\">é</a>",
            "<a b=\"1\">é</a>",
        )],
        "the server's own text of it",
    ),
    case(
        "sql_variant",
        &[
            ("CAST(7 AS int)", "7", "7"),
            ("CAST(1.50 AS decimal(10,2))", "1.50", "1.50"),
            ("CAST('2024-01-31' AS date)", "2024-01-31", "2024-01-31"),
            ("CAST(N'é' AS nvarchar(10))", "é", "é"),
        ],
        "text of the value, whatever its type; which type it was is not kept",
    ),
];

/// The table with a column for each type, and a `rowversion`, which nobody can insert.
fn seed() -> String {
    let columns: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(index, case)| format!("c{index} {} NULL", case.declared))
        .collect();
    let mut sql = format!(
        "CREATE TABLE every_type (id int NOT NULL PRIMARY KEY, {}, version rowversion);\n",
        columns.join(", ")
    );
    let rows = CASES.iter().map(|case| case.values.len()).max().unwrap();
    // The last row is NULL in every column.
    for row in 0..=rows {
        let values: Vec<String> = CASES
            .iter()
            .map(|case| {
                case.values
                    .get(row)
                    .map_or("NULL", |value| value.0)
                    .to_owned()
            })
            .collect();
        let names: Vec<String> = (0..CASES.len()).map(|index| format!("c{index}")).collect();
        writeln!(
            sql,
            "INSERT INTO every_type (id, {}) VALUES ({row}, {});",
            names.join(", "),
            values.join(", ")
        )
        .unwrap();
    }
    sql
}

const QUERY: &str =
    "  query: SELECT * FROM every_type WHERE id > @from AND id <= @until ORDER BY id\n";
/// Nobody writes while these tests read.
const NO_WAIT: &str = "cursor: { settle_delay: 0s }\n";

fn expected(text: &str) -> &str {
    text.trim_matches('\'')
}

fn check(sink: &str, index: usize, found: &[Option<String>]) {
    let case = &CASES[index];
    for (row, value) in case.values.iter().enumerate() {
        let wanted = if sink == "PostgreSQL" {
            value.1
        } else {
            value.2
        };
        assert_eq!(
            found[row].as_deref(),
            Some(expected(wanted)),
            "{} {} in {sink}",
            case.declared,
            value.0
        );
    }
    for null in &found[case.values.len()..] {
        assert_eq!(null, &None, "NULL of {} in {sink}", case.declared);
    }
}

async fn column(database: &TestDatabase, expression: &str) -> Vec<Option<String>> {
    let client = database.connect().await.unwrap();
    client.batch_execute("SET timezone = 'UTC'").await.unwrap();
    let sql = format!("SELECT ({expression})::text FROM copy ORDER BY id");
    client
        .query(&sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn every_type_arrives_as_it_was_and_the_documentation_says_so(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards.execute(0, &seed()).await;
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-kinds");

    let database = PostgresServer::shared().create_database().await.unwrap();
    let source = shards.source(&project);
    project.config(
        "copy",
        &format!(
            "{source}{QUERY}{NO_WAIT}{}",
            postgres_sink(&project, &database, "copy")
        ),
    );
    let report = project.result(&["run", "copy"], 0);
    assert_eq!(report["status"], "succeeded", "{report}");
    for index in 0..CASES.len() {
        check(
            "PostgreSQL",
            index,
            &column(&database, &format!("c{index}")).await,
        );
    }
    let versions = column(&database, "version").await;
    assert!(
        versions.is_sorted() && versions.iter().flatten().all(|text| text.len() == 18),
        "{versions:?}"
    );
    let postgres = column_types(&database).await;

    project.config(
        "copy",
        &format!(
            "{source}{QUERY}{NO_WAIT}sink: {{ type: sqlite, path: data/types.db, table: copy }}\n"
        ),
    );
    let report = project.result(&["run", "copy"], 0);
    assert_eq!(report["status"], "succeeded", "{report}");
    let connection = project.sqlite("data/types.db");
    let mut sqlite = Vec::new();
    for index in 0..=CASES.len() {
        let name = if index == CASES.len() {
            "version".to_owned()
        } else {
            format!("c{index}")
        };
        let text = format!(
            "CASE typeof({name}) WHEN 'blob' THEN hex({name}) ELSE CAST({name} AS TEXT) END"
        );
        let mut statement = connection
            .prepare(&format!("SELECT {text} FROM copy ORDER BY id"))
            .unwrap();
        let found: Vec<Option<String>> = statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        if index < CASES.len() {
            check("SQLite", index, &found);
        }
        sqlite.push(
            connection
                .query_row(
                    "SELECT type FROM pragma_table_info('copy') WHERE name = ?1",
                    [&name],
                    |row| row.get::<_, String>(0),
                )
                .unwrap(),
        );
    }
    expect_file!["../../docs/types.md"].assert_eq(&document(&postgres, &sqlite));
}

async fn column_types(database: &TestDatabase) -> Vec<String> {
    let client = database.connect().await.unwrap();
    let sql = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = 'copy'::regclass AND attnum > 1 ORDER BY attnum";
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

const HEAD: &str = "\
# Types of SQL Server, and what becomes of them

This page is written by the test `every_type_arrives_as_it_was_and_the_documentation_says_so`, which sends the values
at each type's edges, and NULL, from a server into a real PostgreSQL and into SQLite and compares what arrives. A column
that exists already may be of any type that holds all values; the types here are those that the host creates.

| SQL Server | Arrow | PostgreSQL | SQLite | at the edges |
| --- | --- | --- | --- | --- |
";

const TAIL: &str = "
Not read are types of an assembly (`geometry`, `geography`, `hierarchyid`, your own): turn them into text in the query,
such as `position.STAsText()`. Columns of a query need names.

- **Digits beyond a microsecond.** No sink has them. `source.beyond_microseconds: truncate` (the default) cuts them and
  says in the log how many values of which column it cut; `quarantine` sets such rows aside; `fail` ends the run. To keep
  them, load text: `CONVERT(varchar(33), column, 126)`. A cursor is kept with all its digits in any case.
- **U+0000 in a text.** PostgreSQL cannot hold it. `sink.nul_characters: quarantine` (the default) sets such rows aside;
  `strip` and `replace` change the text, `fail` ends the run.
- **What does not fit is set aside, with column and reason.** Nothing is rounded, cut or turned into NULL otherwise.
  How many rows may be set aside before the run fails is `error_handling.max_bad_rows`; the default is none.
- **Servers that do not describe a statement** (`sp_describe_first_result_set` is missing, or refuses it because of a
  temporary table): the driver does not tell scales, so a decimal is `decimal(38, s)` with the scale of its first
  value, and times are taken as the finest of their kind.
";

fn document(postgres: &[String], sqlite: &[String]) -> String {
    let mut text = HEAD.to_owned();
    let version = (
        "rowversion",
        "a counter, not a time; see `cursor.kind: rowversion`",
    );
    let cases = CASES
        .iter()
        .map(|case| (case.declared, case.edges))
        .chain([version]);
    for ((declared, edges), (postgres, sqlite)) in cases.zip(postgres.iter().zip(sqlite)) {
        let base = declared.split(" COLLATE").next().unwrap();
        let arrow = etl_host::source::sqlserver::arrow_type(base).unwrap();
        writeln!(
            text,
            "| `{declared}` | `{arrow}` | `{postgres}` | `{sqlite}` | {edges} |"
        )
        .unwrap();
    }
    text + TAIL
}

/// A project that copies one table of one shard into `PostgreSQL`, with more lines under `source:` and further keys.
async fn copying(
    driver: Driver,
    table: &str,
    seed: &str,
    source: &str,
    rest: &str,
) -> (Shards, Project, TestDatabase) {
    let shards = Shards::start(driver, 1).await;
    shards.execute(0, seed).await;
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-kinds");
    let database = PostgresServer::shared().create_database().await.unwrap();
    let query =
        format!("  query: SELECT * FROM {table} WHERE id > @from AND id <= @until ORDER BY id\n");
    let sink = postgres_sink(&project, &database, "copy");
    project.config(
        "copy",
        &format!(
            "{}{query}{source}{NO_WAIT}{sink}{rest}",
            shards.source(&project)
        ),
    );
    (shards, project, database)
}

const FINE: &str = "CREATE TABLE fine (id int NOT NULL PRIMARY KEY, at datetime2(7) NULL, amount money NULL);
    INSERT INTO fine VALUES (1, '2024-01-31T10:00:00.1234567', 1), (2, '2024-01-31T10:00:00.1234560', 2);";

async fn digits_beyond_a_microsecond_are_cut_aloud_set_aside_or_refused(driver: Driver) {
    let (_shards, project, _database) = copying(driver, "fine", FINE, "", "").await;
    let finished = project.run(&["run", "copy"]).require_code(0).unwrap();
    assert!(
        finished
            .stderr
            .contains("digits beyond a microsecond were cut"),
        "{}",
        finished.stderr
    );

    let bad = "error_handling: { max_bad_rows: 1 }\n";
    let (_shards, project, _database) = copying(
        driver,
        "fine",
        FINE,
        "  beyond_microseconds: quarantine\n",
        bad,
    )
    .await;
    let report = project.result(&["run", "copy"], 0);
    assert_eq!(
        (&report["rows"]["loaded"], &report["rows"]["quarantined"]),
        (&1.into(), &1.into())
    );

    let (_shards, project, _database) =
        copying(driver, "fine", FINE, "  beyond_microseconds: fail\n", bad).await;
    let report = project.result(&["run", "copy"], 1);
    let message = report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(
        message.contains("column `at` holds a time with digits beyond a microsecond"),
        "{message}"
    );
    assert_eq!(report["partitions"][0]["attempts"], 1);
}

async fn money_is_exact_or_set_aside(driver: Driver) {
    let seed = "CREATE TABLE rich (id int NOT NULL PRIMARY KEY, amount money NULL);
        INSERT INTO rich VALUES (1, 922337203685477.5807), (2, -922337203685477.5808), (3, 0.0001);";
    let (_shards, project, database) = copying(
        driver,
        "rich",
        seed,
        "",
        "error_handling: { max_bad_rows: 2 }\n",
    )
    .await;
    let report = project.result(&["run", "copy"], 0);
    let exact = if driver == Driver::Tiberius {
        &["0.0001"][..]
    } else {
        &["922337203685477.5807", "-922337203685477.5808", "0.0001"]
    };
    assert_eq!(
        (&report["rows"]["loaded"], &report["rows"]["quarantined"]),
        (&exact.len().into(), &(3 - exact.len()).into())
    );
    let found: Vec<String> = column(&database, "amount")
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(found, exact);
}

/// U+0000, which no literal can hold.
const NUL: &str = "CREATE TABLE nul (id int NOT NULL PRIMARY KEY, v nvarchar(20) NULL);
    INSERT INTO nul VALUES (1, CAST(0x610000006200 AS nvarchar(20))), (2, N'fine');";

async fn a_text_with_nul_is_treated_as_the_configuration_says(driver: Driver) {
    for (policy, expected) in [("strip", "ab"), ("replace", "a\u{fffd}b")] {
        let (shards, project, database) = copying(driver, "nul", NUL, "", "").await;
        let sink = postgres_sink(&project, &database, "copy");
        let query = "  query: SELECT * FROM nul WHERE id > @from AND id <= @until ORDER BY id\n";
        let source = shards.source(&project);
        project.config(
            "copy",
            &format!("{source}{query}{NO_WAIT}{sink}  nul_characters: {policy}\n"),
        );
        let report = project.result(&["run", "copy"], 0);
        assert_eq!(report["rows"]["loaded"], 2, "{report}");
        assert_eq!(column(&database, "v").await[0].as_deref(), Some(expected));
    }
    let (_shards, project, database) = copying(
        driver,
        "nul",
        NUL,
        "",
        "error_handling: { max_bad_rows: 1 }\n",
    )
    .await;
    let report = project.result(&["run", "copy"], 0);
    assert_eq!(
        (&report["rows"]["loaded"], &report["rows"]["quarantined"]),
        (&1.into(), &1.into())
    );
    assert_eq!(column(&database, "v").await, [Some("fine".to_owned())]);
}

async fn a_value_of_fifty_megabytes_arrives_whole(driver: Driver) {
    // As UTF-16, and as UTF-8 too.
    const BYTES: usize = 50 << 20;
    // Longer than any packet.
    const SMALLER: usize = 1 << 20;
    let shards = Shards::start(driver, 1).await;
    let seed = "CREATE TABLE big (id int NOT NULL PRIMARY KEY, t nvarchar(max), c varchar(max), b varbinary(max))";
    shards.execute(0, seed).await;
    let fill = format!(
        "INSERT INTO big VALUES (1, REPLICATE(CAST(N'ä' AS nvarchar(max)), {half}), REPLICATE(CAST('x' AS varchar(max)), {SMALLER}), \
         CAST(REPLICATE(CAST('y' AS varchar(max)), {SMALLER}) AS varbinary(max))), (2, N'', '', 0x)",
        half = BYTES / 2
    );
    shards.execute(0, &fill).await;
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-kinds");
    let database = PostgresServer::shared().create_database().await.unwrap();
    let query = "  query: SELECT * FROM big WHERE id > @from AND id <= @until ORDER BY id\n";
    let sink = postgres_sink(&project, &database, "copy");
    // The stand-in needs its time for it.
    let source = shards.source(&project).replace("20s", "5m");
    project.config("copy", &format!("{source}{query}{NO_WAIT}{sink}"));
    let report = project.result(&["run", "copy"], 0);
    assert_eq!(report["rows"]["loaded"], 2, "{report}");
    let found = column(
        &database,
        "concat_ws(' ', length(t), length(c), length(b), t = repeat('ä', length(t)), c = repeat('x', length(c)), b = repeat('y', length(b))::bytea)",
    )
    .await;
    let whole = format!("{} {SMALLER} {SMALLER} t t t", BYTES / 2);
    assert_eq!(found, [Some(whole), Some("0 0 0 t t t".to_owned())]);
}

each_driver!(
    every_type_arrives_as_it_was_and_the_documentation_says_so,
    digits_beyond_a_microsecond_are_cut_aloud_set_aside_or_refused,
    money_is_exact_or_set_aside,
    a_text_with_nul_is_treated_as_the_configuration_says,
    a_value_of_fifty_megabytes_arrives_whole,
);
