//! Looks whether the database can be written, for `etl-host doctor`. Writes nothing, and takes no lock that others wait for.

use tokio_postgres::Client;

use super::host_tables::{Missing, find_missing};
use super::table::{DIALECT, compare};
use crate::config::{PoolLimits, Server, WriteMode};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Findings};
use crate::identifier::{quote, quote_table};
use crate::pool::{Pools, examine as connecting};
use crate::sink::{Examination, TableSpec};

/// The schema of the host's own tables.
const HOST_SCHEMA: &str = "etl_host";

/// Examines the server and what the host keeps there.
pub async fn examine(pools: &Pools, server: &Server, mode: &WriteMode) -> Examination {
    let mut findings = Findings::default();
    let lease = connecting::postgres(pools, server, &mut findings).await;
    let usable = lease.is_some();
    if let Some(lease) = lease {
        if let Ok(client) = lease.client() {
            check_writable(&mut findings, client).await;
            check_connections(&mut findings, client, &server.pool).await;
            check_host_tables(&mut findings, client, server, mode).await;
        }
        lease.give_back();
    }
    Examination {
        findings: findings.into_vec(),
        usable,
    }
}

async fn check_writable(findings: &mut Findings, client: &Client) {
    let sql = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'";
    let asked = async {
        let row = client.query_one(sql, &[]).await?;
        let (replica, read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        let refused = |what: &str, hint: &str| Err(Error::new(ErrorKind::Refused, what).hint(hint));
        match (replica, read_only) {
            (true, _) => refused(
                "the server is a replica, which cannot be written",
                "name the primary in `sink.host`",
            ),
            (false, true) => refused(
                "transactions are read-only for this user or database",
                "ALTER ROLE … or ALTER DATABASE … RESET default_transaction_read_only",
            ),
            (false, false) => Ok(()),
        }
    };
    if findings.ask("writable", asked).await.is_some() {
        findings.ok("writable", "the server takes writes");
    }
}

/// Whether the server has as many connections as the pool may open. Those that others hold come and go.
async fn check_connections(findings: &mut Findings, client: &Client, pool: &PoolLimits) {
    let sql = "SELECT least(current_setting('max_connections')::bigint \
               - current_setting('superuser_reserved_connections')::bigint \
               - coalesce(current_setting('reserved_connections', true)::bigint, 0), \
               CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit END, CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit END) \
               FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user";
    let asked = async { Ok(client.query_one(sql, &[]).await?.try_get::<_, i64>(0)?) };
    let Some(limit) = findings.ask("connections", asked).await else {
        return;
    };
    let wanted = pool.max_connections;
    if i64::from(wanted) <= limit {
        findings.ok(
            "connections",
            format!("at most {wanted} of the {limit} that the server gives"),
        );
    } else {
        findings.warning(
            "connections",
            format!("the pool may open {wanted}, but the server gives {limit} at most"),
            format!("set `pool.max_connections` to {limit} or less, or raise the server's limit"),
        );
    }
}

/// Checkpoints and dead letters: there and open to this user, or such that a run may create them.
async fn check_host_tables(
    findings: &mut Findings,
    client: &Client,
    server: &Server,
    mode: &WriteMode,
) {
    // By the catalogue: names that may not be used are errors elsewhere. What is not there yet will be the user's own.
    let sql = "SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), \
               coalesce(has_schema_privilege(n.oid, 'CREATE'), false), has_database_privilege(current_database(), 'CREATE'), \
               coalesce(pg_has_role(c.relowner, 'USAGE'), true) AND coalesce(pg_has_role(l.relowner, 'USAGE'), true), \
               coalesce(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
               AND has_table_privilege(c.oid, 'UPDATE'), true), coalesce(has_table_privilege(l.oid, 'INSERT'), true), \
               coalesce(has_table_privilege(k.oid, 'SELECT') AND has_table_privilege(k.oid, 'INSERT') \
               AND has_table_privilege(k.oid, 'UPDATE') AND has_table_privilege(k.oid, 'DELETE'), true), \
               coalesce(has_table_privilege(d.oid, 'SELECT') AND has_table_privilege(d.oid, 'INSERT') \
               AND has_table_privilege(d.oid, 'UPDATE') AND has_table_privilege(d.oid, 'DELETE'), true) \
               FROM (SELECT 1) AS one LEFT JOIN pg_namespace n ON n.nspname = 'etl_host' \
               LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'checkpoints' \
               LEFT JOIN pg_class l ON l.relnamespace = n.oid AND l.relname = 'dead_letters' \
               LEFT JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = 'leases' \
               LEFT JOIN pg_class d ON d.relnamespace = n.oid AND d.relname = 'due_runs'";
    let asked = async {
        let row = client.query_one(sql, &[]).await?;
        let mut facts = [false; 9];
        for (index, fact) in facts.iter_mut().enumerate() {
            *fact = row.try_get(index)?;
        }
        let missing = find_missing(client).await?;
        judge_host_tables(facts, &missing, server, mode)
    };
    if let Some(detail) = findings.ask("host-tables", asked).await {
        findings.ok("host-tables", detail);
    }
}

fn judge_host_tables(
    facts: [bool; 9],
    missing: &Missing,
    server: &Server,
    mode: &WriteMode,
) -> Result<&'static str> {
    let [
        schema,
        usage,
        create,
        database_create,
        owns,
        may_checkpoint,
        may_letter,
        may_lease,
        may_claim,
    ] = facts;
    let user = quote(&server.username);
    let denied = |what: &str, fix: String| {
        Err(Error::new(ErrorKind::Refused, what).hint(format!(
            "{fix}, or see the privileges in docs/operations.md"
        )))
    };
    if !schema && !database_create {
        return denied(
            "there is no schema etl_host, and the user may not create it",
            format!(
                "GRANT CREATE ON DATABASE {} TO {user}",
                quote(&server.database)
            ),
        );
    }
    if !schema {
        return Ok("the first run creates the schema etl_host");
    }
    if !usage {
        return denied(
            "the user may not use the schema etl_host",
            format!("GRANT USAGE ON SCHEMA {HOST_SCHEMA} TO {user}"),
        );
    }
    if !missing.tables.is_empty() && !create {
        return denied(
            "tables are missing in the schema etl_host, and the user may not create them",
            "let an administrator run the statements in docs/operations.md".to_owned(),
        );
    }
    if !missing.columns.is_empty() && !owns {
        return denied(
            "the tables in the schema etl_host are those of an older version, and only their owner may extend them",
            format!("let their owner run {}", missing.extension()),
        );
    }
    if !may_checkpoint {
        return denied(
            "the user may not read and write etl_host.checkpoints",
            format!("GRANT SELECT, INSERT, UPDATE ON {HOST_SCHEMA}.checkpoints TO {user}"),
        );
    }
    if !may_letter {
        return denied(
            "the user may not write to etl_host.dead_letters",
            format!("GRANT INSERT ON {HOST_SCHEMA}.dead_letters TO {user}"),
        );
    }
    if !may_lease {
        return denied(
            "the user may not read and write etl_host.leases",
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {HOST_SCHEMA}.leases TO {user}"),
        );
    }
    if !may_claim {
        return denied(
            "the user may not read and write etl_host.due_runs, where scheduled runs are claimed",
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {HOST_SCHEMA}.due_runs TO {user}"),
        );
    }
    if *mode == WriteMode::Replace && !create {
        return denied(
            "`write_mode: replace` makes shadow tables in the schema etl_host, and the user may not",
            format!("GRANT CREATE ON SCHEMA {HOST_SCHEMA} TO {user}"),
        );
    }
    Ok(match missing {
        Missing { columns, .. } if !columns.is_empty() => {
            "the next run extends the tables of an older version in the schema etl_host"
        }
        Missing { tables, .. } if !tables.is_empty() => {
            "the first run creates its tables in the schema etl_host"
        }
        _ => "checkpoints and dead letters can be written",
    })
}

/// Examines tables that the pipeline writes.
pub async fn examine_tables(pools: &Pools, server: &Server, tables: &[TableSpec]) -> Vec<Finding> {
    let mut findings = Findings::default();
    let Some(lease) = findings.ask("table", pools.postgres(server)).await else {
        return findings.into_vec();
    };
    if let Ok(client) = lease.client() {
        for table in tables {
            examine_table(&mut findings, client, server, table).await;
        }
    }
    lease.give_back();
    findings.into_vec()
}

/// What the catalogue says of a table and its schema.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer of its own"
)]
struct Place {
    schema: String,
    may_use: bool,
    may_create: bool,
    table: Option<u32>,
    owns: bool,
    may_stage: bool,
    /// Privileges that the user lacks on the table.
    lacks: Vec<&'static str>,
}

async fn examine_table(
    findings: &mut Findings,
    client: &Client,
    server: &Server,
    table: &TableSpec,
) {
    let found = findings.ask("privileges", find_place(client, table));
    let Some(place) = found.await else {
        return;
    };
    match judge_privileges(&place, server, table) {
        Ok(detail) => findings.ok("privileges", detail),
        Err(error) => findings.failed("privileges", &error),
    }
    // Where the schema is closed, its tables cannot be looked at.
    if place.may_use && !table.schema.fields().is_empty() {
        let compared = compare_table(client, table, &place);
        if let Some(detail) = findings.ask("table", compared).await {
            findings.ok("table", detail);
        }
    }
}

/// By the catalogue, which everybody may read: names that may not be used are errors elsewhere.
async fn find_place(client: &Client, table: &TableSpec) -> Result<Place> {
    let sql = "SELECT n.nspname::text, has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'), \
               c.oid, coalesce(pg_has_role(c.relowner, 'USAGE'), false), \
               has_database_privilege(current_database(), 'TEMPORARY') \
               FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2 \
               WHERE n.nspname = coalesce($1, current_schema())";
    let name = &table.name;
    let row = client.query_opt(sql, &[&name.schema, &name.name]).await?;
    let row = row.ok_or_else(|| match &name.schema {
        Some(schema) => Error::new(ErrorKind::Refused, format!("there is no schema {schema}"))
            .hint(format!(
                "CREATE SCHEMA {}, or correct `sink.table`",
                quote(schema)
            )),
        None => Error::new(
            ErrorKind::Refused,
            "no schema of the user's search_path is there and open to the user",
        )
        .hint("write `sink.table` with its schema, or set the user's search_path"),
    })?;
    let mut place = Place {
        schema: row.try_get(0)?,
        may_use: row.try_get(1)?,
        may_create: row.try_get(2)?,
        table: row.try_get(3)?,
        owns: row.try_get(4)?,
        may_stage: row.try_get(5)?,
        lacks: Vec::new(),
    };
    if let Some(oid) = place.table {
        for privilege in needed(&table.mode) {
            let sql = "SELECT has_table_privilege($1::oid, $2)";
            let row = client.query_one(sql, &[&oid, privilege]).await?;
            if !row.try_get::<_, bool>(0)? {
                place.lacks.push(*privilege);
            }
        }
    }
    Ok(place)
}

/// What a mode needs on the table, <https://www.postgresql.org/docs/current/ddl-priv.html>.
fn needed(mode: &WriteMode) -> &'static [&'static str] {
    match mode {
        WriteMode::Append => &["INSERT"],
        WriteMode::Upsert { .. } => &["SELECT", "INSERT", "UPDATE"],
        WriteMode::Replace => &["SELECT", "INSERT", "DELETE"],
    }
}

/// All that the user lacks, and the statements that grant it.
fn judge_privileges(place: &Place, server: &Server, table: &TableSpec) -> Result<String> {
    let user = quote(&server.username);
    let (name, schema) = (&table.name, quote(&place.schema));
    let mut lacking = Vec::new();
    let mut grants = Vec::new();
    if !place.may_use {
        lacking.push(format!("USAGE on the schema {}", place.schema));
        grants.push(format!("GRANT USAGE ON SCHEMA {schema} TO {user}"));
    }
    if place.table.is_none() && !place.may_create {
        lacking.push(format!(
            "CREATE on the schema {}, where {name} is to be",
            place.schema
        ));
        grants.push(format!("GRANT CREATE ON SCHEMA {schema} TO {user}"));
    }
    if !place.lacks.is_empty() {
        let privileges = place.lacks.join(", ");
        lacking.push(format!("{privileges} on the table {name}"));
        grants.push(format!(
            "GRANT {privileges} ON {} TO {user}",
            quote_table(name)
        ));
    }
    if matches!(table.mode, WriteMode::Upsert { .. }) && !place.may_stage {
        lacking.push("TEMPORARY on the database, where an upsert stages its rows".to_owned());
        let database = quote(&server.database);
        grants.push(format!("GRANT TEMPORARY ON DATABASE {database} TO {user}"));
    }
    if lacking.is_empty() {
        let has = match place.table {
            Some(_) => needed(&table.mode).join(", "),
            None => "CREATE".to_owned(),
        };
        return Ok(format!("{name}: {has}"));
    }
    let lacking = lacking.join("; ");
    Err(Error::new(ErrorKind::Refused, format!("the user lacks {lacking}")).hint(grants.join("; ")))
}

async fn compare_table(client: &Client, table: &TableSpec, place: &Place) -> Result<String> {
    let (name, columns) = (&table.name, table.schema.fields().len());
    if place.table.is_none() {
        DIALECT.create_table(table)?;
        return Ok(format!(
            "{name}: is not there; the first run creates it with {columns} columns"
        ));
    }
    let (changes, _) = compare(client, table).await?;
    let statements = changes.statements().join(" ");
    if statements.is_empty() {
        Ok(format!(
            "{name}: takes the {columns} columns of the pipeline"
        ))
    } else if place.owns {
        Ok(format!("{name}: the next run changes it: {statements}"))
    } else {
        Err(Error::new(
            ErrorKind::Refused,
            format!("the table {name} has to be changed, and only its owner may do it"),
        )
        .hint(format!("let its owner run {statements}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Tls};

    #[test]
    fn the_host_s_tables_may_be_there_or_made() {
        let server = Server {
            host: String::new(),
            port: 0,
            database: "d".to_owned(),
            username: "u".to_owned(),
            password: Secret::default(),
            tls: Tls::default(),
            pool: PoolLimits::default(),
        };
        let judge = |facts: [u8; 9], missing: &Missing, mode: &WriteMode| {
            let judged = judge_host_tables(facts.map(|fact| fact == 1), missing, &server, mode);
            judged.map_err(|error| {
                let fix = error.own_hint().unwrap();
                fix.split(", or see").next().unwrap().to_owned()
            })
        };
        let (all, table, column) = (
            Missing::default(),
            Missing {
                tables: vec!["CREATE;\n"],
                ..Missing::default()
            },
            Missing {
                columns: vec!["ALTER a;\n", "ALTER b;\n"],
                ..Missing::default()
            },
        );
        let append = |facts, missing| judge(facts, missing, &WriteMode::Append);
        assert!(append([0, 0, 0, 1, 1, 1, 1, 1, 1], &table).is_ok());
        assert!(append([1, 1, 1, 0, 1, 1, 1, 1, 1], &table).is_ok());
        assert!(append([1, 1, 0, 0, 0, 1, 1, 1, 1], &all).is_ok());
        assert!(append([1, 1, 0, 0, 1, 1, 1, 1, 1], &column).is_ok());
        for (facts, missing, fix) in [
            (
                [0, 0, 0, 0, 1, 1, 1, 1, 1],
                &table,
                "GRANT CREATE ON DATABASE \"d\" TO \"u\"",
            ),
            (
                [1, 0, 0, 0, 0, 1, 1, 1, 1],
                &all,
                "GRANT USAGE ON SCHEMA etl_host TO \"u\"",
            ),
            (
                [1, 1, 0, 0, 0, 0, 1, 1, 1],
                &all,
                "GRANT SELECT, INSERT, UPDATE ON etl_host.checkpoints TO \"u\"",
            ),
            (
                [1, 1, 0, 0, 0, 1, 0, 1, 1],
                &all,
                "GRANT INSERT ON etl_host.dead_letters TO \"u\"",
            ),
            (
                [1, 1, 0, 0, 0, 1, 1, 0, 1],
                &all,
                "GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.leases TO \"u\"",
            ),
            (
                [1, 1, 0, 0, 0, 1, 1, 1, 0],
                &all,
                "GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.due_runs TO \"u\"",
            ),
            (
                [1, 1, 0, 0, 1, 1, 1, 1, 1],
                &table,
                "let an administrator run the statements in docs/operations.md",
            ),
            (
                [1, 1, 1, 1, 0, 1, 1, 1, 1],
                &column,
                "let their owner run ALTER a; ALTER b",
            ),
        ] {
            assert_eq!(append(facts, missing).unwrap_err(), fix);
        }
        let replace = judge([1, 1, 0, 0, 1, 1, 1, 1, 1], &all, &WriteMode::Replace);
        assert_eq!(
            replace.unwrap_err(),
            "GRANT CREATE ON SCHEMA etl_host TO \"u\""
        );
    }
}
