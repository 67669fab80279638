//! Reads what the sink holds, by the connector that reads from such a server. Writes nothing.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use etl_plugin_api::Value;

use super::form::Form;
use super::range::Step;
use super::table::{ComparedTable, Scope, Wanted};
use crate::config::{
    FileShard, PostgresShard, ReadTimeouts, Sink as SinkConfig, SinkConnector, TableName, Tuning,
};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_table};
use crate::pool::Pools;
use crate::sink::TableSpec;
use crate::source::postgres::PostgresSource;
use crate::source::sqlite::SqliteSource;
use crate::source::{ReadRequest, RowStream, Source, SourceRejection, SourceSession};

/// The one shard that the sink is when it is read.
const SINK: &str = "sink";

/// A sink, to read.
pub struct Holding {
    source: Arc<dyn Source>,
    server: bool,
    tuning: Tuning,
}

/// Rows of a table of the sink.
pub struct HeldRows {
    /// Holds the connection's transaction open.
    _session: Box<dyn SourceSession>,
    stream: Box<dyn RowStream>,
}

impl HeldRows {
    /// The next rows; `None` at the proven end. Rows that the connector cannot read come as rejections.
    pub async fn next(&mut self) -> Result<Option<(RecordBatch, Vec<SourceRejection>)>> {
        let read = self.stream.next().await?;
        Ok(read.map(|read| (read.batch, read.rejected)))
    }
}

impl Holding {
    /// The sink of a configuration. Opens nothing.
    pub fn new(sink: &SinkConfig, tuning: &Tuning, pools: &Arc<Pools>) -> Self {
        let (source, server): (Arc<dyn Source>, bool) = match &sink.connector {
            SinkConnector::Postgres(server) => {
                let shard = PostgresShard {
                    name: SINK.to_owned(),
                    server: server.clone(),
                    timeouts: ReadTimeouts::default(),
                };
                (Arc::new(PostgresSource::new(&[shard], pools.clone())), true)
            }
            SinkConnector::Sqlite { path } => {
                let shard = FileShard {
                    name: SINK.to_owned(),
                    path: path.clone(),
                };
                (Arc::new(SqliteSource::new(&[shard])), false)
            }
        };
        Self {
            source,
            server,
            tuning: tuning.clone(),
        }
    }

    /// Matches a table's columns with what a pipeline writes into them.
    pub async fn match_table(
        &self,
        spec: &TableSpec,
        wanted: &Wanted<'_>,
    ) -> Result<ComparedTable> {
        let found = self.columns(&spec.name).await?;
        let same = |a: &str, b: &str| self.same(a, b);
        let form = |output: usize, name: &str| {
            let known = found.iter().find(|(known, _)| same(known, name));
            match known {
                Some((_, type_name)) if self.server => Some(Form::of_postgres(type_name)),
                // Of a table that is not there every row is missing, with all its columns.
                None if !found.is_empty() => None,
                _ => Some(Form::of_sqlite(
                    spec.schema.fields().get(output)?.data_type(),
                )),
            }
        };
        Ok(ComparedTable::new(
            spec,
            !found.is_empty(),
            wanted,
            same,
            form,
        ))
    }

    /// The columns that tell a row's partition and place, as far as a table has them: for rows that nobody gives any
    /// more, so that nothing else is known of them.
    pub async fn placing_columns(&self, table: &TableName, wanted: &Wanted<'_>) -> Result<Schema> {
        let found = self.columns(table).await?;
        let declared = |name: &str| {
            let mut found = found.iter();
            found.find(|(known, _)| self.same(known, name))
        };
        let mut fields = Vec::new();
        if let Some(name) = wanted.partition_column
            && (found.is_empty() || declared(name).is_some())
        {
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        if let (Some(name), Some(step)) = (wanted.cursor_column, wanted.step) {
            let data_type = match declared(name) {
                Some((_, type_name)) if self.server => Some(arrow_of_postgres(type_name)),
                Some((_, type_name)) => Some(arrow_of_sqlite(type_name, step)),
                None => found.is_empty().then(|| arrow_of_sqlite("", step)),
            };
            fields.extend(data_type.map(|data_type| Field::new(name, data_type, true)));
        }
        Ok(Schema::new(fields))
    }

    /// Whether two names mean the same column.
    fn same(&self, a: &str, b: &str) -> bool {
        if self.server {
            a == b
        } else {
            a.eq_ignore_ascii_case(b)
        }
    }

    /// The names and types of a table's columns; none if it is not there.
    pub async fn columns(&self, table: &TableName) -> Result<Vec<(String, String)>> {
        let (sql, name) = if self.server {
            let sql = "SELECT a.attname::text, t.typname::text FROM pg_attribute a \
                       JOIN pg_type t ON t.oid = a.atttypid \
                       WHERE a.attrelid = to_regclass(@table::text) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
            (sql, quote_table(table))
        } else {
            let sql = "SELECT name, type FROM pragma_table_info(@table)";
            (sql, table.name.clone())
        };
        let mut found = Vec::new();
        let mut rows = self
            .read(sql, vec![("table".to_owned(), Value::Text(name))])
            .await?;
        while let Some((batch, _)) = rows.next().await? {
            let texts = |column: usize| batch.columns().get(column)?.as_string_opt::<i32>();
            let (Some(names), Some(types)) = (texts(0), texts(1)) else {
                return Err(Error::internal("the sink's catalogue does not give text"));
            };
            let pairs = names.iter().zip(types.iter());
            found.extend(pairs.filter_map(|(name, type_name)| {
                Some((name?.to_owned(), type_name.unwrap_or_default().to_owned()))
            }));
        }
        Ok(found)
    }

    /// The rows of a table as far as they are compared; `partitions` are all that are wanted, if not all are.
    pub async fn rows(
        &self,
        table: &ComparedTable,
        scope: &Scope,
        partitions: &[String],
    ) -> Result<HeldRows> {
        self.read(&self.select(table, scope, partitions), Vec::new())
            .await
            .map_err(|error| {
                error.while_trying(format!("read table {} of the sink", table.spec.name))
            })
    }

    /// Runs a statement on the sink.
    pub async fn read(&self, sql: &str, parameters: Vec<(String, Value)>) -> Result<HeldRows> {
        let mut session = self.source.open(SINK).await?;
        let stream = session
            .read(ReadRequest {
                sql: sql.to_owned(),
                cursor: None,
                from: None,
                until: None,
                parameters,
                range: None,
                batch_rows: self.tuning.batch_rows,
                batch_bytes: self.tuning.flush_bytes,
            })
            .await?;
        Ok(HeldRows {
            _session: session,
            stream,
        })
    }

    fn select(&self, table: &ComparedTable, scope: &Scope, partitions: &[String]) -> String {
        let mut columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let name = quote(&column.name);
                format!("{} AS {name}", self.expression(&name, column.form))
            })
            .collect();
        if columns.is_empty() {
            columns.push("1 AS one".to_owned());
        }
        let name_of = |column: Option<usize>| {
            let column = table.columns.get(column?)?;
            Some((
                quote(&column.name),
                table.spec.schema.fields().get(column.output)?.data_type(),
            ))
        };
        let mut conditions = Vec::new();
        // The rows are looked at once more when they are here; this only spares reading them.
        if let (Some((name, data_type)), Some(step)) = (name_of(table.axis), scope.step)
            && self.compares(data_type)
        {
            let end = |position: i128| literal(&step.write(position), data_type, self.server);
            conditions.extend(scope.from.map(|from| format!("{name} > {}", end(from))));
            // As text a longer time comes behind a shorter one.
            let slack = if self.server || !matches!(data_type, DataType::Timestamp(..)) {
                0
            } else {
                1_000_000_000
            };
            conditions.extend(scope.to.map(|to| format!("{name} <= {}", end(to + slack))));
        }
        if let (Some((name, _)), false) = (name_of(table.partition), partitions.is_empty()) {
            let names: Vec<String> = partitions.iter().map(|name| text_literal(name)).collect();
            conditions.push(format!("{name} IN ({})", names.join(", ")));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!(
            "SELECT {} FROM {}{filter}",
            columns.join(", "),
            quote_table(&table.spec.name)
        )
    }

    /// Whether the sink compares such values as they are ordered: a file keeps the greatest numbers as text.
    fn compares(&self, data_type: &DataType) -> bool {
        match data_type {
            DataType::UInt64 | DataType::Decimal128(..) => self.server,
            DataType::Timestamp(..) => true,
            other => other.is_integer(),
        }
    }

    /// A column as it is read, so that every value the sink can hold may come.
    fn expression(&self, name: &str, form: Form) -> String {
        match (self.server, form) {
            // It may be 24:00:00, which is no time of the day elsewhere.
            (true, Form::Time) => format!("(extract(epoch FROM {name}) * 1000000)::bigint"),
            (true, _) => name.to_owned(),
            // A column of whole numbers keeps 1.0 as 1.
            (false, Form::Float) => {
                format!(
                    "CASE typeof({name}) WHEN 'integer' THEN CAST({name} AS REAL) ELSE {name} END"
                )
            }
            // Without the declared type, which would decide what the value must look like.
            (false, _) => format!("+{name}"),
        }
    }
}

/// What a cursor's column of `PostgreSQL` holds, by the name of its type.
fn arrow_of_postgres(name: &str) -> DataType {
    match name {
        "int2" | "int4" | "int8" => DataType::Int64,
        "numeric" => DataType::Decimal128(38, 0),
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8,
    }
}

/// What a cursor's column of `SQLite` holds: what it is declared as says little of its values.
fn arrow_of_sqlite(declaration: &str, step: Step) -> DataType {
    let declaration = declaration.to_ascii_uppercase();
    match step {
        Step::Number(_) if declaration.contains("INT") => DataType::Int64,
        Step::Number(_) => DataType::Decimal128(38, 0),
        Step::Time(_) if declaration == "TIMESTAMP" => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        Step::Time(_) => DataType::Utf8,
    }
}

/// An end of a range, as the sinks compare it with their columns.
fn literal(written: &str, data_type: &DataType, server: bool) -> String {
    match data_type {
        DataType::Timestamp(_, zone) => {
            let zone = if server && zone.is_some() { "Z" } else { "" };
            text_literal(&format!("{written}{zone}"))
        }
        _ => written.to_owned(),
    }
}

fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
