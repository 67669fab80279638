//! The host's own tables in the sink: made when missing, extended when an older host made them.

use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, LOCK_TIMEOUT};
use crate::error::{Error, Result};
use crate::policy::{Policy, policy};

/// What an administrator may run too; docs/operations.md shows it.
pub const HOST_TABLES: &str = r"CREATE SCHEMA IF NOT EXISTS etl_host;
CREATE TABLE IF NOT EXISTS etl_host.checkpoints (
    pipeline text NOT NULL,
    partition text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    cursor text,
    fingerprint text,
    run_id text,
    ledger text,
    columns text,
    edited_epoch bigint NOT NULL DEFAULT 0,
    claimed_by text,
    backend_pid integer,
    backend_start timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, partition)
);
CREATE TABLE IF NOT EXISTS etl_host.leases (
    pipeline text NOT NULL,
    partition text NOT NULL,
    run_id text NOT NULL,
    holder text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (pipeline, partition)
);
CREATE TABLE IF NOT EXISTS etl_host.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL,
    partition text NOT NULL,
    run_id text NOT NULL,
    stage text NOT NULL,
    target text,
    column_name text,
    reason text NOT NULL,
    payload bytea NOT NULL,
    arrow bytea,
    position text,
    replayed_by text,
    created_at timestamptz NOT NULL DEFAULT now()
);
";

/// What the tables of an older host lack.
const EXTENSIONS: &str = r"
ALTER TABLE etl_host.checkpoints ADD COLUMN IF NOT EXISTS columns text;
ALTER TABLE etl_host.dead_letters ADD COLUMN IF NOT EXISTS arrow bytea, ADD COLUMN IF NOT EXISTS position text,
    ADD COLUMN IF NOT EXISTS replayed_by text;
";

/// Whether the host's tables are there, as this version needs them.
pub async fn exist(client: &Client) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT to_regclass('etl_host.leases') IS NOT NULL AND count(*) = 2 FROM pg_attribute \
             WHERE (attrelid = to_regclass('etl_host.checkpoints') AND attname = 'columns') \
             OR (attrelid = to_regclass('etl_host.dead_letters') AND attname = 'replayed_by')",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}

/// Makes and extends the host's tables where they need it.
pub async fn ensure(client: &Client) -> Result<()> {
    if exist(client).await? {
        return Ok(());
    }
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT pg_advisory_xact_lock({DDL_LOCK}); {HOST_TABLES} {EXTENSIONS} COMMIT"
    );
    if let Err(error) = client.batch_execute(&sql).await {
        let _ = client.batch_execute("ROLLBACK").await;
        let error = Error::from(error).while_trying("create the host's tables in schema etl_host");
        // A connection that broke is no question of rights.
        if policy(&error) == Policy::Retry {
            return Err(error);
        }
        return Err(error.hint("grant CREATE on the database to the sink's user, or let an administrator run the statements in docs/operations.md"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_these_very_statements() {
        let text = include_str!("../../../../docs/operations.md");
        assert!(text.contains(&format!("```sql\n{HOST_TABLES}```")));
    }
}
