//! Values of every type, with what each client shows of them.

/// One value of one type.
pub struct Case {
    /// The type, as in CREATE TABLE.
    pub declared: &'static str,
    /// The value, as in INSERT.
    pub value: &'static str,
    /// As tiberius has it.
    pub shown: &'static str,
    /// As python-tds has it, where that is another text: it knows microseconds.
    pub python: Option<&'static str>,
    /// As tsql of `FreeTDS` prints it, where that is another text: it prints no fractions of a second.
    pub freetds: Option<&'static str>,
}

const fn same(declared: &'static str, value: &'static str, shown: &'static str) -> Case {
    Case {
        declared,
        value,
        shown,
        python: None,
        freetds: None,
    }
}

const fn other(
    declared: &'static str,
    value: &'static str,
    shown: &'static str,
    python: &'static str,
    freetds: &'static str,
) -> Case {
    Case {
        declared,
        value,
        shown,
        python: Some(python),
        freetds: Some(freetds),
    }
}

/// `FreeTDS` prints bits as numbers and bytes without their `0x`.
const fn tsql(
    declared: &'static str,
    value: &'static str,
    shown: &'static str,
    freetds: &'static str,
) -> Case {
    Case {
        declared,
        value,
        shown,
        python: None,
        freetds: Some(freetds),
    }
}

pub const CASES: &[Case] = &[
    tsql("bit", "1", "true", "1"),
    tsql("bit", "0", "false", "0"),
    same("tinyint", "0", "0"),
    same("tinyint", "255", "255"),
    same("smallint", "-32768", "-32768"),
    same("smallint", "32767", "32767"),
    same("int", "-2147483648", "-2147483648"),
    same("int", "2147483647", "2147483647"),
    same("bigint", "-9223372036854775808", "-9223372036854775808"),
    same("bigint", "9223372036854775807", "9223372036854775807"),
    same("real", "1.5", "1.5"),
    same("real", "-0.25", "-0.25"),
    tsql("float", "0.1", "0.1", "0.10000000000000001"),
    other(
        "float",
        "1.7976931348623157E+308",
        "1.7976931348623157e308",
        "1.7976931348623157e+308",
        "1.7976931348623157e+308",
    ),
    other(
        "float",
        "2.2250738585072014E-308",
        "2.2250738585072014e-308",
        "2.2250738585072014e-308",
        "2.2250738585072014e-308",
    ),
    same("decimal(5,2)", "-123.45", "-123.45"),
    same("decimal(18,0)", "999999999999999999", "999999999999999999"),
    same("decimal(19,4)", "0.0001", "0.0001"),
    same(
        "numeric(28,10)",
        "-123456789012345678.0123456789",
        "-123456789012345678.0123456789",
    ),
    same(
        "decimal(38,0)",
        "99999999999999999999999999999999999999",
        "99999999999999999999999999999999999999",
    ),
    same(
        "decimal(38,38)",
        "-0.00000000000000000000000000000000000001",
        "-0.00000000000000000000000000000000000001",
    ),
    other(
        "money",
        "-922337203685477.5808",
        "-922337203685477.6",
        "-922337203685477.5808",
        "-922337203685477.5808",
    ),
    other("money", "0.0001", "0.0001", "0.0001", "0.0001"),
    same("smallmoney", "214748.3647", "214748.3647"),
    tsql("date", "'0001-01-01'", "0001-01-01", "Jan  1 1 12:00AM"),
    tsql("date", "'9999-12-31'", "9999-12-31", "Dec 31 9999 12:00AM"),
    other(
        "time(0)",
        "'23:59:59'",
        "23:59:59",
        "23:59:59.000000",
        "Jan  1 1900 11:59PM",
    ),
    other(
        "time(3)",
        "'01:02:03.004'",
        "01:02:03.004",
        "01:02:03.004000",
        "Jan  1 1900 01:02AM",
    ),
    other(
        "time(7)",
        "'23:59:59.9999999'",
        "23:59:59.9999999",
        "23:59:59.999999",
        "Jan  1 1900 11:59PM",
    ),
    other(
        "datetime",
        "'1753-01-01'",
        "1753-01-01 00:00:00.000",
        "1753-01-01 00:00:00.000000",
        "Jan  1 1753 12:00AM",
    ),
    other(
        "datetime",
        "'9999-12-31T23:59:59.997'",
        "9999-12-31 23:59:59.997",
        "9999-12-31 23:59:59.997000",
        "Dec 31 9999 11:59PM",
    ),
    other(
        "datetime",
        "'2026-01-30T01:02:03.003'",
        "2026-01-30 01:02:03.003",
        "2026-01-30 01:02:03.003000",
        "Jan 30 2026 01:02AM",
    ),
    other(
        "smalldatetime",
        "'2079-06-06T23:59:00'",
        "2079-06-06 23:59:00",
        "2079-06-06 23:59:00.000000",
        "Jun  6 2079 11:59PM",
    ),
    other(
        "datetime2(0)",
        "'0001-01-01'",
        "0001-01-01 00:00:00",
        "0001-01-01 00:00:00.000000",
        "Jan  1 1 12:00AM",
    ),
    other(
        "datetime2(3)",
        "'2026-01-30T15:04:05.123'",
        "2026-01-30 15:04:05.123",
        "2026-01-30 15:04:05.123000",
        "Jan 30 2026 03:04PM",
    ),
    other(
        "datetime2(7)",
        "'9999-12-31T23:59:59.9999999'",
        "9999-12-31 23:59:59.9999999",
        "9999-12-31 23:59:59.999999",
        "Dec 31 9999 11:59PM",
    ),
    other(
        "datetimeoffset(7)",
        "'2026-01-30T15:04:05.1234567-05:30'",
        "2026-01-30 20:34:05.1234567 UTC -330",
        "2026-01-30 20:34:05.123456 UTC -330",
        "Jan 30 2026 03:04PM",
    ),
    other(
        "datetimeoffset(0)",
        "'2026-01-30T00:00:00+14:00'",
        "2026-01-29 10:00:00 UTC 840",
        "2026-01-29 10:00:00.000000 UTC 840",
        "Jan 30 2026 12:00AM",
    ),
    same("char(5)", "'ab'", "ab   "),
    same("varchar(10)", "''", ""),
    same("varchar(10)", "'naïve €'", "naïve €"),
    same("varchar(20) COLLATE Polish_CI_AS", "N'Łódź'", "Łódź"),
    same(
        "varchar(20) COLLATE Cyrillic_General_CI_AS",
        "N'Привет'",
        "Привет",
    ),
    same("varchar(20) COLLATE Japanese_CI_AS", "N'日本語'", "日本語"),
    same(
        "varchar(20) COLLATE Latin1_General_100_CI_AS_SC_UTF8",
        "N'añ日😀'",
        "añ日😀",
    ),
    same("varchar(max)", "'long'", "long"),
    same("varchar(max)", "''", ""),
    same("nchar(4)", "N'日'", "日   "),
    same("nvarchar(10)", "N'añ😀'", "añ😀"),
    same("nvarchar(max)", "N'añ😀'", "añ😀"),
    same("nvarchar(max)", "N''", ""),
    same("text", "'old'", "old"),
    same("ntext", "N'öld😀'", "öld😀"),
    tsql("binary(4)", "0x0102", "0x01020000", "01020000"),
    tsql("varbinary(8)", "0xFF00", "0xFF00", "ff00"),
    tsql("varbinary(8)", "0x", "0x", ""),
    tsql("varbinary(max)", "0x010203", "0x010203", "010203"),
    tsql("image", "0x04", "0x04", "04"),
    same(
        "uniqueidentifier",
        "'6F9619FF-8B86-D011-B42D-00C04FC964FF'",
        "6F9619FF-8B86-D011-B42D-00C04FC964FF",
    ),
    same("xml", "N'<a>é</a>'", "<a>é</a>"),
    same("sql_variant", "CAST(5 AS int)", "5"),
    same("sql_variant", "N'text'", "text"),
];

/// Statements that make a table of each case.
pub fn tables() -> Vec<String> {
    CASES
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let Case { declared, value, .. } = case;
            format!(
                "CREATE TABLE c{at} (id int NOT NULL PRIMARY KEY, a {declared} NULL, b {declared} NOT NULL); \
                 INSERT INTO c{at} (id, a, b) VALUES (1, {value}, {value}), (2, NULL, {value})"
            )
        })
        .collect()
}

pub fn query(at: usize) -> String {
    format!("SELECT a, b FROM c{at} ORDER BY id")
}
