//! The `sink` section: the connector, the table and what happens to rows that are there already.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::model::{
    KeyScope, NulCharacters, Sink, SinkConnector, Source, TableName, WriteMode, WriteTimeouts,
};
use super::super::section::{Reported, Section};
use super::super::value::{Value, all};
use super::{server, timeout};

#[derive(Clone, Copy)]
enum Kind {
    Postgres,
    Sqlite,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Append,
    Upsert,
    Replace,
}

/// Reads the section. The source, where it could be read, tells how many partitions share the table.
pub(super) fn sink(mut section: Section<'_>, source: Option<&Source>) -> Result<Sink, Reported> {
    let kind = section.required("type", |value| {
        value.one_of(&[("postgres", Kind::Postgres), ("sqlite", Kind::Sqlite)])
    });
    let table = section.required("table", |value| value.parsed(str::parse::<TableName>));
    let partition_column = section.optional("partition_column", Value::text);
    let write_mode = write_mode(&mut section, &partition_column, source);
    // Without a type nobody knows which keys there are.
    let connector = match kind? {
        Kind::Postgres => {
            server::server(&mut section, server::POSTGRES).map(SinkConnector::Postgres)
        }
        Kind::Sqlite => section
            .required("path", Value::text)
            .map(|path| SinkConnector::Sqlite {
                path: PathBuf::from(path),
            }),
    };
    let nul_characters = nul_characters(&mut section, kind?);
    let timeouts = match kind? {
        Kind::Postgres => section.child("timeouts").and_then(timeouts).map(Some),
        Kind::Sqlite => Ok(None),
    };
    section.finish();
    Ok(Sink {
        connector: connector?,
        table: table?,
        write_mode: write_mode?,
        partition_column: partition_column?,
        nul_characters: nul_characters?,
        timeouts: timeouts?,
    })
}

fn timeouts(mut section: Section<'_>) -> Result<WriteTimeouts, Reported> {
    let step = section.or("step", WriteTimeouts::default().step, timeout);
    section.finish();
    Ok(WriteTimeouts { step: step? })
}

fn nul_characters(section: &mut Section<'_>, kind: Kind) -> Result<NulCharacters, Reported> {
    let words = [
        ("strip", NulCharacters::Strip),
        ("replace", NulCharacters::Replace),
        ("quarantine", NulCharacters::Quarantine),
        ("fail", NulCharacters::Fail),
        ("keep", NulCharacters::Keep),
    ];
    // PostgreSQL cannot keep it, so nobody may ask for that.
    let (words, default) = match kind {
        Kind::Postgres => (words.split_at(4).0, NulCharacters::Quarantine),
        Kind::Sqlite => (&words[..], NulCharacters::Keep),
    };
    section.or("nul_characters", default, |value| value.one_of(words))
}

fn write_mode(
    section: &mut Section<'_>,
    partition_column: &Result<Option<String>, Reported>,
    source: Option<&Source>,
) -> Result<WriteMode, Reported> {
    let mode = section.or("write_mode", Mode::Append, |value| {
        value.one_of(&[
            ("append", Mode::Append),
            ("upsert", Mode::Upsert),
            ("replace", Mode::Replace),
        ])
    });
    let key_value = section.get("key");
    let scope_value = section.get("key_scope");
    let mode = mode?;
    if mode != Mode::Upsert {
        for value in [key_value, scope_value].into_iter().flatten() {
            value.report(
                "is only for write_mode upsert",
                Some("remove it, or set write_mode: upsert".into()),
            );
        }
        return Ok(if mode == Mode::Append {
            WriteMode::Append
        } else {
            WriteMode::Replace
        });
    }
    let key = key_value.map_or_else(|| Err(section.missing("key")), key_columns);
    let key_scope = scope_value.map_or(Ok(KeyScope::default()), |value| {
        value.one_of(&[
            ("partition", KeyScope::Partition),
            ("global", KeyScope::Global),
        ])
    });
    let (key, key_scope) = (key?, key_scope?);
    let partitions = source.map(|source| source.partition_names().len());
    if let (KeyScope::Partition, Some(partitions @ 2..), Ok(column), Some(value)) =
        (key_scope, partitions, partition_column, key_value)
    {
        let split = source.is_some_and(|source| source.split.is_some());
        let (what, each) = if split {
            ("ranges of shards", "range")
        } else {
            ("shards", "shard")
        };
        let fix = match column {
            Some(column) if key.contains(column) => {
                return Ok(WriteMode::Upsert { key, key_scope });
            }
            Some(_) => {
                let shown = section.get("partition_column").map(|value| value.found());
                format!("add {} to key", shown.unwrap_or_default())
            }
            None => "set partition_column and add that column to key".to_owned(),
        };
        let message = format!(
            "{partitions} {what} may hold the same key, and with key_scope partition only the partition column in the \
             key keeps their rows apart"
        );
        let fix =
            format!("{fix}, or set key_scope: global if a key means the same row in every {each}");
        return Err(value.report(message, Some(fix)));
    }
    Ok(WriteMode::Upsert { key, key_scope })
}

fn key_columns(value: Value<'_>) -> Result<Vec<String>, Reported> {
    let items = value.list()?;
    if items.is_empty() {
        return Err(value.report("expected at least one column", None));
    }
    let mut seen = BTreeSet::new();
    let columns = items.into_iter().map(|item| {
        let column = item.text()?;
        if seen.insert(column.clone()) {
            Ok(column)
        } else {
            Err(item.report(
                format!("column {} is in the key twice", item.found()),
                Some("remove one".into()),
            ))
        }
    });
    all(columns.collect())
}
