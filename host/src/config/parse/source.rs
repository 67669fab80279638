//! The `source` section: the connector, its shards and what they inherit.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::document::{Data, Map, Node};
use super::super::merge;
use super::super::model::{
    BeyondMicroseconds, FileShard, PostgresShard, ReadIsolation, Source, SourceConnector, Split,
    SqlServerShard,
};
use super::super::section::{Reported, Section};
use super::super::value::{Value, all};
use super::server;

#[derive(Clone, Copy)]
enum Kind {
    SqlServer,
    Postgres,
    Sqlite,
    None,
}

/// Reads the section.
pub(super) fn source(mut section: Section<'_>) -> Result<Source, Reported> {
    let query_value = section.get("query");
    let query = query_value.map(Value::text).transpose();
    let split = split(&mut section);
    // Without a type nobody knows which keys there are.
    let kind = section.required("type", |value| {
        value.one_of(&[
            ("sqlserver", Kind::SqlServer),
            ("postgres", Kind::Postgres),
            ("sqlite", Kind::Sqlite),
            ("none", Kind::None),
        ])
    })?;
    let connector = match kind {
        Kind::SqlServer => {
            sql_server_shards(&mut section).map(|shards| SourceConnector::SqlServer { shards })
        }
        Kind::Postgres => {
            postgres_shards(&mut section).map(|shards| SourceConnector::Postgres { shards })
        }
        Kind::Sqlite => file_shards(&mut section).map(|shards| SourceConnector::Sqlite { shards }),
        Kind::None => nothing_to_open(&mut section, query_value),
    };
    let beyond_microseconds = section.or(
        "beyond_microseconds",
        BeyondMicroseconds::default(),
        |value| {
            value.one_of(&[
                ("truncate", BeyondMicroseconds::Truncate),
                ("quarantine", BeyondMicroseconds::Quarantine),
                ("fail", BeyondMicroseconds::Fail),
            ])
        },
    );
    section.finish();
    Ok(Source {
        connector: connector?,
        query: query?,
        split: split?,
        beyond_microseconds: beyond_microseconds?,
    })
}

/// A pipeline whose extractor reaches for its rows itself: whatever speaks of a database has no meaning.
fn nothing_to_open(
    section: &mut Section<'_>,
    query: Option<Value<'_>>,
) -> Result<SourceConnector, Reported> {
    let senseless = [query, section.get("shards"), section.get("split_by")];
    let reported = senseless.into_iter().flatten().map(|value| {
        value.report(
            "means nothing to a source of type none, which the host does not open",
            Some("leave it out, or name the type of the database".into()),
        )
    });
    match reported.last() {
        Some(reported) => Err(reported),
        None => Ok(SourceConnector::None),
    }
}

/// Neither key means anything without the other.
fn split(section: &mut Section<'_>) -> Result<Option<Split>, Reported> {
    let column = section.get("split_by");
    let ranges = section.get("splits");
    let alone = |value: Value<'_>, other: &str| {
        Err(value.report(
            format!("needs {other} beside it"),
            Some(format!("set {other} too")),
        ))
    };
    match (column, ranges) {
        (None, None) => Ok(None),
        (Some(value), None) => alone(value, "splits"),
        (None, Some(value)) => alone(value, "split_by"),
        (Some(column), Some(ranges)) => {
            let (column, ranges) = (column.text(), ranges.integer("a number of ranges", 2..=64));
            Ok(Some(Split {
                column: column?,
                ranges: ranges?,
            }))
        }
    }
}

fn postgres_shards(section: &mut Section<'_>) -> Result<Vec<PostgresShard>, Reported> {
    let defaults = section.inheritable(&[&server::KEYS[..], &["timeouts"]].concat());
    shards(section, &defaults, |shard, name| {
        let server = server::server(shard, server::POSTGRES);
        let timeouts = shard.child("timeouts").and_then(server::read_timeouts);
        Ok(PostgresShard {
            name: name?,
            server: server?,
            timeouts: timeouts?,
        })
    })
}

fn sql_server_shards(section: &mut Section<'_>) -> Result<Vec<SqlServerShard>, Reported> {
    let own = ["timeouts", "read_isolation"];
    let keys = [&server::KEYS[..], &server::SQLSERVER_KEYS, &own].concat();
    let defaults = section.inheritable(&keys);
    shards(section, &defaults, |shard, name| {
        let server = server::sql_server(shard);
        let timeouts = shard.child("timeouts").and_then(server::read_timeouts);
        let read_isolation = shard.or("read_isolation", ReadIsolation::default(), |value| {
            value.one_of(&[
                ("snapshot", ReadIsolation::Snapshot),
                ("read-committed", ReadIsolation::ReadCommitted),
            ])
        });
        Ok(SqlServerShard {
            name: name?,
            server: server?,
            read_isolation: read_isolation?,
            timeouts: timeouts?,
        })
    })
}

fn file_shards(section: &mut Section<'_>) -> Result<Vec<FileShard>, Reported> {
    shards(section, &Map::new(), |shard, name| {
        let path = shard.required("path", Value::text);
        Ok(FileShard {
            name: name?,
            path: PathBuf::from(path?),
        })
    })
}

/// Reads every shard, laid over what it inherits.
fn shards<T>(
    section: &mut Section<'_>,
    defaults: &Map,
    read: impl Fn(&mut Section<'_>, Result<String, Reported>) -> Result<T, Reported>,
) -> Result<Vec<T>, Reported> {
    let list = section.required("shards", |value| {
        let list = value.list()?;
        if list.is_empty() {
            Err(value.report("expected at least one shard", None))
        } else {
            Ok(list)
        }
    })?;
    let mut names = BTreeSet::new();
    let mut shards = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let inherited = Node {
            data: Data::Map(defaults.clone()),
            ..value.node().clone()
        };
        let node = merge::nodes(inherited, value.node().clone());
        shards.push(value.replaced(&node).section().and_then(|mut shard| {
            let name = shard_name(&mut shard, value, index, &mut names);
            let read = read(&mut shard, name);
            shard.finish();
            read
        }));
    }
    all(shards)
}

/// The shard's name is its partition's name, so there must be no second one.
fn shard_name(
    shard: &mut Section<'_>,
    value: Value<'_>,
    index: usize,
    names: &mut BTreeSet<String>,
) -> Result<String, Reported> {
    let given = shard.get("name");
    let name = given.map_or_else(|| Ok(format!("shard-{}", index + 1)), Value::text)?;
    if names.insert(name.clone()) {
        return Ok(name);
    }
    let name = given.map_or_else(|| format!("{name:?}"), |value| value.found());
    let (message, fix) = (
        format!("another shard is already named {name}"),
        "give it a name of its own",
    );
    Err(given.unwrap_or(value).report(message, Some(fix.into())))
}
