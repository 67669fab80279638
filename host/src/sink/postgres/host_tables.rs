//! The host's own tables in the sink: made when missing, extended when an older host made them. Only what is missing is
//! asked for: a user who may use what is there needs no right to create it.

use std::collections::HashSet;

use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, LOCK_TIMEOUT};
use crate::error::Result;
use crate::policy::{Policy, policy};

// What an administrator may run too; docs/operations.md shows it.
const SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS etl_host;\n";
const TABLES: [(&str, &str); 4] = [
    (
        "checkpoints",
        r"CREATE TABLE IF NOT EXISTS etl_host.checkpoints (
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
",
    ),
    (
        "leases",
        r"CREATE TABLE IF NOT EXISTS etl_host.leases (
    pipeline text NOT NULL,
    partition text NOT NULL,
    run_id text NOT NULL,
    holder text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (pipeline, partition)
);
",
    ),
    (
        "dead_letters",
        r"CREATE TABLE IF NOT EXISTS etl_host.dead_letters (
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
",
    ),
    (
        "due_runs",
        r"CREATE TABLE IF NOT EXISTS etl_host.due_runs (
    pipeline text NOT NULL,
    scheduled_for timestamptz NOT NULL,
    status text NOT NULL,
    run_id text,
    holder text NOT NULL,
    until timestamptz NOT NULL,
    tries bigint NOT NULL DEFAULT 1,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    reason text,
    PRIMARY KEY (pipeline, scheduled_for)
);
CREATE INDEX IF NOT EXISTS due_runs_unfinished ON etl_host.due_runs (pipeline) WHERE ended_at IS NULL;
",
    ),
];

/// What the tables of an older host lack: table, column, statement.
const COLUMNS: [(&str, &str, &str); 4] = [
    (
        "checkpoints",
        "columns",
        "ALTER TABLE etl_host.checkpoints ADD COLUMN IF NOT EXISTS columns text;\n",
    ),
    (
        "dead_letters",
        "arrow",
        "ALTER TABLE etl_host.dead_letters ADD COLUMN IF NOT EXISTS arrow bytea;\n",
    ),
    (
        "dead_letters",
        "position",
        "ALTER TABLE etl_host.dead_letters ADD COLUMN IF NOT EXISTS position text;\n",
    ),
    (
        "dead_letters",
        "replayed_by",
        "ALTER TABLE etl_host.dead_letters ADD COLUMN IF NOT EXISTS replayed_by text;\n",
    ),
];

/// What is there.
struct Found {
    schema: bool,
    /// `table.column`.
    columns: HashSet<String>,
}

/// The statements that make what is not there.
#[derive(Debug, Default)]
pub struct Missing {
    /// Makes the schema.
    pub schema: Option<&'static str>,
    /// Make tables.
    pub tables: Vec<&'static str>,
    /// Add columns to tables of an older host.
    pub columns: Vec<&'static str>,
}

impl Found {
    fn has_table(&self, table: &str) -> bool {
        // All of them have it, whoever made them.
        self.has(table, "pipeline")
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.columns.contains(&format!("{table}.{column}"))
    }

    fn missing(&self) -> Missing {
        let tables = TABLES.iter().filter(|(table, _)| !self.has_table(table));
        let columns = COLUMNS
            .iter()
            .filter(|(table, column, _)| self.has_table(table) && !self.has(table, column));
        Missing {
            schema: (!self.schema).then_some(SCHEMA),
            tables: tables.map(|(_, statement)| *statement).collect(),
            columns: columns.map(|(_, _, statement)| *statement).collect(),
        }
    }
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.schema.is_none() && self.tables.is_empty() && self.columns.is_empty()
    }

    fn script(&self) -> String {
        let statements = self.schema.iter().chain(&self.tables).chain(&self.columns);
        statements.copied().collect()
    }

    /// The statements that add columns, in one line.
    pub fn extension(&self) -> String {
        let text = self.columns.concat().replace('\n', " ");
        text.trim_end_matches([' ', ';']).to_owned()
    }

    /// Who has to do what, where the sink's user may not.
    fn remedy(&self) -> String {
        let administrator = "let an administrator run the statements in docs/operations.md";
        let extension = self.extension();
        match self {
            Self {
                schema: Some(_), ..
            } => {
                format!("grant CREATE on the database to the sink's user, or {administrator}")
            }
            Self {
                tables, columns, ..
            } if columns.is_empty() && !tables.is_empty() => format!(
                "grant CREATE on the schema etl_host to the sink's user, or {administrator}"
            ),
            Self { tables, .. } if tables.is_empty() => {
                format!("these are the tables of an older version: let their owner run {extension}")
            }
            _ => format!(
                "these are the tables of an older version: let their owner run {extension} and grant the sink's user \
                 CREATE on the schema etl_host, or {administrator} for a new version"
            ),
        }
    }
}

/// By the catalogue, which everybody may read.
async fn find(client: &Client) -> Result<Found> {
    let row = client
        .query_one(
            "SELECT count(*) > 0, coalesce(array_agg(c.relname || '.' || a.attname) FILTER (WHERE a.attname IS NOT NULL), '{}') \
             FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ANY ($1) \
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE n.nspname = 'etl_host'",
            &[&TABLES.map(|(table, _)| table).as_slice()],
        )
        .await?;
    let columns: Vec<String> = row.try_get(1)?;
    Ok(Found {
        schema: row.try_get(0)?,
        columns: columns.into_iter().collect(),
    })
}

/// What this version needs and the sink does not have.
pub async fn find_missing(client: &Client) -> Result<Missing> {
    Ok(find(client).await?.missing())
}

/// Of these columns of a table with their types, those that are there, and NULL for those that an older host does not
/// know; `None` without the table.
pub async fn find_columns<const N: usize>(
    client: &Client,
    table: &str,
    wanted: [(&str, &str); N],
) -> Result<Option<[String; N]>> {
    let found = find(client).await?;
    Ok(found.has_table(table).then(|| {
        wanted.map(|(column, kind)| {
            if found.has(table, column) {
                column.to_owned()
            } else {
                format!("NULL::{kind}")
            }
        })
    }))
}

/// Makes and extends the host's tables where they need it.
pub async fn ensure(client: &Client) -> Result<()> {
    let missing = find_missing(client).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let Err(error) = make(client).await else {
        return Ok(());
    };
    let _ = client.batch_execute("ROLLBACK").await;
    let error = error.while_trying("make the host's tables ready in schema etl_host");
    // A connection that broke is no question of rights.
    if policy(&error) == Policy::Retry {
        return Err(error);
    }
    Err(error.hint(missing.remedy()))
}

async fn make(client: &Client) -> Result<()> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT pg_advisory_xact_lock({DDL_LOCK})"
    );
    client.batch_execute(&begin).await?;
    // Somebody else may have been faster.
    let missing = find_missing(client).await?;
    let script = format!("{} COMMIT", missing.script());
    Ok(client.batch_execute(&script).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented(statements: &str) -> bool {
        let text = include_str!("../../../../docs/operations.md");
        text.contains(&format!("```sql\n{statements}```"))
    }

    #[test]
    fn the_documentation_shows_these_very_statements() {
        let nothing = Found {
            schema: false,
            columns: HashSet::new(),
        };
        assert!(documented(&nothing.missing().script()));
        // For older tables the same block makes the new ones; these extend the old ones.
        let columns = COLUMNS.map(|(_, _, statement)| statement);
        assert!(documented(&columns.concat()));
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let found = |columns: &[&str]| Found {
            schema: true,
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        let older = found(&["checkpoints.pipeline", "dead_letters.pipeline"]).missing();
        assert!(older.schema.is_none());
        assert_eq!((older.tables.len(), older.columns.len()), (2, 4));
        let mut all: Vec<String> = TABLES
            .iter()
            .map(|(table, _)| format!("{table}.pipeline"))
            .collect();
        all.extend(COLUMNS.map(|(table, column, _)| format!("{table}.{column}")));
        let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(found(&all).missing().is_empty());
        let last = all.pop();
        assert_eq!(last, Some("dead_letters.replayed_by"));
        let missing = found(&all).missing();
        assert_eq!(missing.script(), COLUMNS[3].2);
        assert_eq!(missing.extension(), COLUMNS[3].2.trim_end_matches(";\n"));
    }
}
