//! The host's own tables in the sink: made when missing, extended when an older host made them.

use rusqlite::Connection;

use super::write::transaction;
use crate::error::Result;

const HOST_TABLES: &str = r"
CREATE TABLE IF NOT EXISTS etl_host_checkpoints (
    pipeline TEXT NOT NULL,
    partition TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    cursor TEXT,
    fingerprint TEXT,
    run_id TEXT,
    ledger TEXT,
    columns TEXT,
    edited_epoch INTEGER NOT NULL DEFAULT 0,
    claimed_by TEXT,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ', 'now')),
    PRIMARY KEY (pipeline, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS etl_host_leases (
    pipeline TEXT NOT NULL,
    partition TEXT NOT NULL,
    run_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (pipeline, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS etl_host_dead_letters (
    id INTEGER PRIMARY KEY,
    pipeline TEXT NOT NULL,
    partition TEXT NOT NULL,
    run_id TEXT NOT NULL,
    stage TEXT NOT NULL,
    target TEXT,
    column_name TEXT,
    reason TEXT NOT NULL,
    payload BLOB NOT NULL,
    arrow BLOB,
    position TEXT,
    replayed_by TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ', 'now'))
);
CREATE TABLE IF NOT EXISTS etl_host_due_runs (
    pipeline TEXT NOT NULL,
    scheduled_for TEXT NOT NULL,
    status TEXT NOT NULL,
    run_id TEXT,
    holder TEXT NOT NULL,
    until REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 1,
    claimed_at TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    reason TEXT,
    PRIMARY KEY (pipeline, scheduled_for)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS etl_host_due_runs_unfinished ON etl_host_due_runs (pipeline) WHERE ended_at IS NULL;
";

/// What the tables of an older host lack: table, column.
const EXTENSIONS: [(&str, &str); 4] = [
    ("etl_host_checkpoints", "columns TEXT"),
    ("etl_host_dead_letters", "arrow BLOB"),
    ("etl_host_dead_letters", "position TEXT"),
    ("etl_host_dead_letters", "replayed_by TEXT"),
];

/// Whether the host's tables are there, as this version needs them.
pub fn exist(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row(
        "SELECT (SELECT count(*) FROM pragma_table_info('etl_host_checkpoints') WHERE name = 'columns') \
         + (SELECT count(*) FROM pragma_table_info('etl_host_dead_letters') WHERE name = 'replayed_by') \
         + (SELECT count(*) FROM pragma_table_info('etl_host_leases') WHERE name = 'until') \
         + (SELECT count(*) FROM pragma_table_info('etl_host_due_runs') WHERE name = 'ended_at') = 4",
        [],
        |row| row.get(0),
    )?)
}

/// Of these columns of a table, those that are there, and NULL for those that an older host does not know; `None` without
/// the table.
pub fn find_columns<const N: usize>(
    connection: &Connection,
    table: &str,
    wanted: [&'static str; N],
) -> Result<Option<[&'static str; N]>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let found = statement.query_map([table], |row| row.get(0))?;
    let found: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
    let is_there = |column: &str| found.iter().any(|name| name == column);
    Ok((!found.is_empty())
        .then(|| wanted.map(|column| if is_there(column) { column } else { "NULL" })))
}

/// Makes and extends the host's tables where they need it.
pub fn ensure(connection: &Connection) -> Result<()> {
    if exist(connection)? {
        return Ok(());
    }
    transaction(connection, || {
        connection.execute_batch(HOST_TABLES)?;
        for (table, column) in EXTENSIONS {
            let name = column.split(' ').next().unwrap_or_default();
            let there: bool = connection.query_row(
                "SELECT count(*) > 0 FROM pragma_table_info(?1) WHERE name = ?2",
                [table, name],
                |row| row.get(0),
            )?;
            if !there {
                connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column}"))?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_an_older_host_are_extended_and_keep_what_they_hold() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE etl_host_checkpoints (pipeline TEXT, partition TEXT, epoch INTEGER);
                 INSERT INTO etl_host_checkpoints VALUES ('p', 'a', 7);
                 CREATE TABLE etl_host_dead_letters (id INTEGER PRIMARY KEY, payload BLOB);",
            )
            .unwrap();
        assert!(!exist(&connection).unwrap());
        ensure(&connection).unwrap();
        ensure(&connection).unwrap();
        assert!(exist(&connection).unwrap());
        let epoch: i64 = connection
            .query_row(
                "SELECT epoch FROM etl_host_checkpoints WHERE columns IS NULL",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(epoch, 7);
    }
}
