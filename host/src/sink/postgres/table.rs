//! Tables of the sink: made when missing, checked and extended when there, before the first row; looked at again before
//! each chunk.

use std::collections::HashSet;

use arrow_schema::Field;
use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, IDLE_TIMEOUT, LOCK_TIMEOUT};
use super::types::{PgType, Widening, accepts, field_type, widening};
use crate::config::{SchemaChange, WriteMode};
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::{quote, quote_list, quote_table};
use crate::policy::{Policy, policy};
use crate::sink::ddl::{Dialect, Problem, require_fit, require_key, unwritten};
use crate::sink::drift::{Shortfall, TableView};
use crate::sink::key::Order;
use crate::sink::{ColumnLayout, TableLayout, TableSpec};

pub const DIALECT: Dialect = Dialect {
    server: "PostgreSQL",
    column_type: field_type,
    keys_are_not_null: true,
};

/// A table that is ready for rows.
#[derive(Clone, Debug)]
pub struct PgTable {
    /// What was asked for.
    pub spec: TableSpec,
    /// The columns that are written: index in the output, name, type.
    pub columns: Vec<(usize, String, PgType)>,
    /// All its columns.
    existing: Vec<Existing>,
    /// A plain or a partitioned table, as opposed to a view or a foreign table.
    lockable: bool,
    /// A row that an update would not change may be left alone. Triggers would see it, and may leave rows out, which only
    /// the count of all rows shows.
    pub tells_unchanged: bool,
}

impl PgTable {
    /// The names of the columns, quoted and separated by commas.
    pub fn column_list(&self) -> String {
        quote_list(self.columns.iter().map(|(_, name, _)| name.as_str()))
    }

    /// How an upsert's rows are put: by the key, where different bytes are different keys to the server.
    pub fn order_of(&self, key: &[String]) -> Order {
        let exact = |name: &String| {
            let found = self.existing.iter().find(|column| &column.name == name);
            found.is_some_and(|column| !column.equates)
        };
        if key.iter().all(exact) {
            Order::Key
        } else {
            Order::Arrival
        }
    }

    /// The table's name, quoted.
    pub fn name(&self) -> String {
        quote_table(&self.spec.name)
    }
}

impl TableView for PgTable {
    fn same(&self, a: &str, b: &str) -> bool {
        a == b
    }

    fn has(&self, column: &str) -> bool {
        self.existing.iter().any(|found| found.name == column)
    }

    fn shortfall(&self, field: &Field) -> Option<Shortfall> {
        let found = self
            .existing
            .iter()
            .find(|found| &found.name == field.name())?;
        let (to, in_place) = match widening(found.column?, &found.type_name, field) {
            Widening::None => return None,
            Widening::InPlace(to) => (to, true),
            Widening::Rewrite(to) => (to, false),
        };
        Some(Shortfall {
            has: found.type_name.clone(),
            change: alter_type(&self.spec, &found.name, &to),
            in_place,
        })
    }
}

fn alter_type(spec: &TableSpec, column: &str, to: &str) -> String {
    let (table, column) = (quote_table(&spec.name), quote(column));
    format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {to};")
}

/// A column of a table that is there.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a column"
)]
struct Existing {
    name: String,
    column: Option<PgType>,
    type_name: String,
    required: bool,
    not_null: bool,
    generated: bool,
    /// Values that are written in several ways may be equal: floats have two zeros, `char` pads, UUIDs are given as text,
    /// a collation may not tell letters apart.
    equates: bool,
}

/// A table as it is; `None` in the place of one that is not there.
struct Look {
    kind: Option<i8>,
    /// It, or a part of it, has triggers of its owner, or it is no table.
    triggers: bool,
    existing: Vec<Existing>,
}

/// What has to be done so that a table takes the columns.
#[derive(Debug, Default)]
pub struct Changes {
    /// The statement that makes it.
    create: Option<String>,
    /// The statements that add columns.
    add: Option<String>,
    /// The statements that widen columns in place.
    widen: Vec<Widen>,
}

#[derive(Debug)]
struct Widen {
    column: String,
    statement: String,
    /// Without it no value would arrive unchanged.
    required: bool,
}

impl Changes {
    /// All statements, one after the other; empty if nothing has to be done.
    pub fn statements(&self) -> Vec<String> {
        let whole = self.create.iter().chain(&self.add).cloned();
        whole
            .chain(self.widen.iter().map(|widen| widen.statement.clone()))
            .collect()
    }

    /// Without what the server has refused before.
    fn without(mut self, refused: &HashSet<String>) -> Self {
        self.widen
            .retain(|widen| !refused.contains(&widen.statement));
        self
    }

    fn is_empty(&self) -> bool {
        self.create.is_none() && self.add.is_none() && self.widen.is_empty()
    }
}

/// Makes a table ready. What has to be changed is changed under the lock that all hosts share. `refused` are statements
/// that are not to be tried again, and is given those that this attempt is refused.
pub async fn prepare(
    client: &Client,
    spec: &TableSpec,
    refused: &mut HashSet<String>,
) -> Result<PgTable> {
    require_key(spec, str::eq)?;
    let look = look(client, spec).await?;
    if changes(spec, &look)?.without(refused).is_empty() {
        return ready(client, spec, look).await;
    }
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'; \
             SELECT pg_advisory_xact_lock({DDL_LOCK})"
        ))
        .await?;
    let prepared = prepare_locked(client, spec, refused).await;
    let end = if prepared.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    let ended = client.batch_execute(end).await;
    let table = prepared?;
    ended?;
    Ok(table)
}

async fn prepare_locked(
    client: &Client,
    spec: &TableSpec,
    refused: &mut HashSet<String>,
) -> Result<PgTable> {
    // Somebody else may have been faster.
    let changes = changes(spec, &look(client, spec).await?)?.without(refused);
    for (what, statement) in [("create", &changes.create), ("extend", &changes.add)] {
        if let Some(statement) = statement {
            client.batch_execute(statement).await.map_err(|error| {
                Error::from(error).while_trying(format!("{what} the table {}", spec.name))
            })?;
        }
    }
    for widen in &changes.widen {
        if !apply(client, spec, widen).await? {
            refused.insert(widen.statement.clone());
        }
    }
    let look = look(client, spec).await?;
    ready(client, spec, look).await
}

/// SQLSTATEs that end the wait for a lock: `lock_not_available`, `query_canceled`, `deadlock_detected`.
const WAITED_IN_VAIN: [&str; 3] = ["55P03", "57014", "40P01"];

/// Widens a column; `false` if the server refuses it, now and every time. Where it does (a view uses it, another user owns the table) or
/// somebody holds the table for long (a partition in the middle of its chunk), and values are checked one by one anyway,
/// the attempt goes on.
async fn apply(client: &Client, spec: &TableSpec, widen: &Widen) -> Result<bool> {
    client.batch_execute("SAVEPOINT widen").await?;
    let Err(error) = client.batch_execute(&widen.statement).await else {
        tracing::info!(
            table = %spec.name,
            column = widen.column,
            "widened: {}",
            widen.statement
        );
        client.batch_execute("RELEASE widen").await?;
        return Ok(true);
    };
    let error = Error::from(error)
        .while_trying(format!("widen column `{}` of {}", widen.column, spec.name));
    let state = match error.kind() {
        ErrorKind::SqlState(state) => state.as_str(),
        _ => "",
    };
    let waited = WAITED_IN_VAIN.contains(&state) && !widen.required;
    if policy(&error) == Policy::Retry && !waited {
        return Err(error);
    }
    if widen.required {
        return Err(error.hint(format!("let the table's owner run {}", widen.statement)));
    }
    tracing::warn!(%error, "values that do not fit are refused row by row");
    client.batch_execute("ROLLBACK TO widen").await?;
    // A later attempt may find the table free.
    Ok(waited)
}

/// What [`prepare`] would do, by the table as it is. Changes nothing.
pub async fn compare(client: &Client, spec: &TableSpec) -> Result<(Changes, Option<PgTable>)> {
    require_key(spec, str::eq)?;
    let look = look(client, spec).await?;
    let changes = changes(spec, &look)?;
    if look.kind.is_none() {
        return Ok((changes, None));
    }
    let widened = |field: &str| {
        let mut widen = changes.widen.iter();
        widen.any(|widen| widen.column == field)
    };
    let columns = match_columns(spec, &look.existing, widened)?;
    require_unique(client, spec).await?;
    let table = build(spec, columns, look);
    Ok((changes, Some(table)))
}

/// The table as it is, with the columns that a run would add. Changes nothing.
pub async fn load_layout(client: &Client, spec: &TableSpec) -> Result<TableLayout> {
    let look = look(client, spec).await?;
    let existing = look.existing.into_iter().map(|column| ColumnLayout {
        name: column.name,
        sql_type: Some(column.type_name),
        not_null: column.not_null,
        key: false,
        exists: true,
    });
    Ok(DIALECT.layout(spec, existing.collect(), str::eq))
}

/// Takes the table for this transaction, so that nobody changes it, and makes sure that nobody has.
pub async fn hold(client: &Client, table: &PgTable) -> Result<()> {
    let changed = |why: String| {
        Error::new(
            ErrorKind::TableChanged,
            format!(
                "the table {} was changed while the attempt wrote to it: {why}",
                table.spec.name
            ),
        )
        .hint("let nobody change the table while a run goes on; the next attempt looks at it again")
    };
    if table.lockable {
        let lock = format!("LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE", table.name());
        client.batch_execute(&lock).await.map_err(|error| {
            let gone = error.code().is_some_and(|code| code.code() == "42P01");
            if gone {
                changed("it is not there any more".to_owned())
            } else {
                error.into()
            }
        })?;
    }
    let look = look(client, &table.spec).await?;
    let columns = match_columns(&table.spec, &look.existing, |_| false)
        .map_err(|error| changed(error.to_string()))?;
    if columns != table.columns {
        return Err(changed("its columns are others now".to_owned()));
    }
    if look.triggers == table.tells_unchanged {
        return Err(changed("its triggers are others now".to_owned()));
    }
    Ok(())
}

async fn ready(client: &Client, spec: &TableSpec, look: Look) -> Result<PgTable> {
    let columns = match_columns(spec, &look.existing, |_| false)?;
    require_unique(client, spec).await?;
    Ok(build(spec, columns, look))
}

fn build(spec: &TableSpec, columns: Vec<(usize, String, PgType)>, look: Look) -> PgTable {
    let kind = look.kind.and_then(|kind| u8::try_from(kind).ok());
    PgTable {
        spec: spec.clone(),
        columns,
        existing: look.existing,
        lockable: matches!(kind, Some(b'r' | b'p')),
        tells_unchanged: !look.triggers,
    }
}

/// What has to be done, or why it may not be.
fn changes(spec: &TableSpec, look: &Look) -> Result<Changes> {
    if look.kind.is_none() {
        return Ok(Changes {
            create: Some(DIALECT.create_table(spec)?),
            ..Changes::default()
        });
    }
    let existing = &look.existing;
    let fields = spec.schema.fields().iter();
    let missing: Vec<_> = fields
        .filter(|field| !existing.iter().any(|column| &column.name == field.name()))
        .collect();
    let add = DIALECT.add_columns(spec, &missing)?;
    let widen = if spec.on_schema_change == SchemaChange::Evolve {
        existing
            .iter()
            .filter_map(|column| widen_in_place(spec, column))
            .collect()
    } else {
        Vec::new()
    };
    Ok(Changes {
        create: None,
        add,
        widen,
    })
}

fn widen_in_place(spec: &TableSpec, found: &Existing) -> Option<Widen> {
    let field = spec.schema.field_with_name(&found.name).ok()?;
    let column = found.column.filter(|_| !found.generated)?;
    match widening(column, &found.type_name, field) {
        Widening::InPlace(to) => Some(Widen {
            column: found.name.clone(),
            statement: alter_type(spec, &found.name, &to),
            required: !accepts(column, field.data_type()),
        }),
        _ => None,
    }
}

async fn look(client: &Client, spec: &TableSpec) -> Result<Look> {
    let name = quote_table(&spec.name);
    let found = client
        .query_opt(
            "SELECT relkind, relkind NOT IN ('r', 'p') OR EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN \
             (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))) FROM pg_class c WHERE oid = to_regclass($1)",
            &[&name],
        )
        .await?;
    let (kind, triggers) = match found {
        Some(row) => (Some(row.try_get(0)?), row.try_get(1)?),
        None => (None, false),
    };
    Ok(Look {
        kind,
        triggers,
        existing: load_columns(client, &name).await?,
    })
}

async fn load_columns(client: &Client, name: &str) -> Result<Vec<Existing>> {
    let rows = client
        .query(
            "SELECT attname, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE atttypid END, \
             CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE atttypmod END, format_type(atttypid, atttypmod), \
             attnotnull AND NOT atthasdef AND attidentity = '', \
             attgenerated <> '' OR attidentity = 'a', \
             CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE atttypid END IN (700, 701, 1042, 2950, 114, 3802) \
             OR EXISTS (SELECT FROM pg_collation c WHERE c.oid = attcollation AND NOT c.collisdeterministic), \
             attnotnull \
             FROM pg_attribute JOIN pg_type t ON t.oid = atttypid WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&name],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Existing {
                name: row.try_get(0)?,
                column: PgType::from_oid(row.try_get(1)?, row.try_get(2)?),
                type_name: row.try_get(3)?,
                required: row.try_get(4)?,
                generated: row.try_get(5)?,
                equates: row.try_get(6)?,
                not_null: row.try_get(7)?,
            })
        })
        .collect()
}

/// Finds the table's column for each output column, and reports everything that does not fit at once. `widened` says
/// which columns will be made to fit.
fn match_columns(
    spec: &TableSpec,
    existing: &[Existing],
    widened: impl Fn(&str) -> bool,
) -> Result<Vec<(usize, String, PgType)>> {
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for (index, field) in spec.schema.fields().iter().enumerate() {
        let Some(found) = existing.iter().find(|column| &column.name == field.name()) else {
            continue;
        };
        match found.column {
            _ if found.generated => problems.push(Problem::new(format!(
                "column `{}` is generated by the server",
                found.name
            ))),
            Some(column) if accepts(column, field.data_type()) || widened(&found.name) => {
                columns.push((index, found.name.clone(), column));
            }
            _ => problems.push(unfit(spec, field, found)),
        }
    }
    for column in existing.iter().filter(|column| column.required) {
        if spec.schema.field_with_name(&column.name).is_err() {
            problems.push(unwritten(&column.name));
        }
    }
    if columns.is_empty() && problems.is_empty() {
        problems.push(Problem::new(
            "no output column is a column of the table".to_owned(),
        ));
    }
    require_fit(spec, problems)?;
    Ok(columns)
}

fn unfit(spec: &TableSpec, field: &Field, found: &Existing) -> Problem {
    let problem = Problem::new(format!(
        "column `{}` is {}, which cannot take Arrow type {} without loss (the sink would create {})",
        found.name,
        found.type_name,
        field.data_type(),
        field_type(field).unwrap_or_else(|| "nothing".to_owned())
    ));
    match found
        .column
        .map(|column| widening(column, &found.type_name, field))
    {
        Some(Widening::InPlace(to)) => problem.fix(alter_type(spec, &found.name, &to)),
        Some(Widening::Rewrite(to)) => problem.fix(format!(
            "{} (it rewrites the table; add USING where the server asks for it)",
            alter_type(spec, &found.name, &to)
        )),
        _ => problem,
    }
}

/// An upsert needs a unique index on exactly its key.
async fn require_unique(client: &Client, spec: &TableSpec) -> Result<()> {
    let WriteMode::Upsert { key, .. } = &spec.mode else {
        return Ok(());
    };
    let name = quote_table(&spec.name);
    let mut wanted: Vec<&str> = key.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    let found: bool = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique \
             AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND $2 = ( \
             SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])))",
            &[&name, &wanted],
        )
        .await?
        .try_get(0)?;
    if found {
        return Ok(());
    }
    Err(Error::data(format!(
        "the table {} has no unique index on the key ({})",
        spec.name,
        key.join(", ")
    ))
    .hint(format!(
        "run CREATE UNIQUE INDEX CONCURRENTLY ON {name} ({})",
        quote_list(key.iter().map(String::as_str))
    )))
}
