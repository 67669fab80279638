//! The catalogue as tables: `sys.databases`, `sys.tables` and their kin, with the columns that are asked for.

use super::Engine;
use super::database::Database;
use crate::stand_in::datum::{Datum, pack_guid};
use crate::stand_in::sql::tree::Name;
use crate::stand_in::types::SqlType as T;

/// A table made for one statement.
#[derive(Debug)]
pub struct View {
    pub columns: Vec<(&'static str, T, bool)>,
    pub rows: Vec<Vec<Datum>>,
}

const NAME: T = T::NVarChar(Some(128));

/// The view of this name, if it is one.
pub fn find(name: &Name, database: &Database, engine: &Engine) -> Option<View> {
    if !name
        .schema()
        .is_some_and(|it| it.eq_ignore_ascii_case("sys"))
    {
        return None;
    }
    Some(match name.object().to_ascii_lowercase().as_str() {
        "databases" => databases(engine),
        "tables" | "objects" => tables(database),
        "schemas" => schemas(),
        "columns" => columns(database),
        "indexes" => indexes(database),
        "index_columns" => index_columns(database),
        _ => return None,
    })
}

fn databases(engine: &Engine) -> View {
    let rows = engine.databases().into_iter().map(|it| {
        let options = it.options();
        vec![
            Datum::text(&*it.name),
            Datum::Int(it.id),
            Datum::flag(options.allow_snapshot),
            Datum::text(if options.allow_snapshot { "ON" } else { "OFF" }),
            Datum::flag(options.read_committed_snapshot),
            Datum::Null,
            Datum::Bytes(pack_guid(&it.broker_guid)),
            Datum::text(&*it.collation.name),
            Datum::Int(0),
            Datum::text("ONLINE"),
            Datum::flag(false),
            Datum::Int(160),
        ]
    });
    View {
        columns: vec![
            ("name", NAME, false),
            ("database_id", T::Int, false),
            ("snapshot_isolation_state", T::TinyInt, true),
            ("snapshot_isolation_state_desc", T::NVarChar(Some(60)), true),
            ("is_read_committed_snapshot_on", T::Bit, true),
            ("group_database_id", T::Guid, true),
            ("service_broker_guid", T::Guid, false),
            ("collation_name", NAME, true),
            ("state", T::TinyInt, true),
            ("state_desc", T::NVarChar(Some(60)), true),
            ("is_read_only", T::Bit, true),
            ("compatibility_level", T::TinyInt, false),
        ],
        rows: rows.collect(),
    }
}

fn schema_id(schema: &str) -> i64 {
    if schema.eq_ignore_ascii_case("dbo") {
        1
    } else {
        5
    }
}

fn tables(database: &Database) -> View {
    let catalog = database.catalog();
    let rows = catalog.tables().map(|it| {
        vec![
            Datum::text(&*it.name),
            Datum::Int(it.id),
            Datum::Int(schema_id(&it.schema)),
            Datum::text("U "),
            Datum::text("USER_TABLE"),
        ]
    });
    View {
        columns: vec![
            ("name", NAME, false),
            ("object_id", T::Int, false),
            ("schema_id", T::Int, false),
            ("type", T::Char(2), true),
            ("type_desc", T::NVarChar(Some(60)), true),
        ],
        rows: rows.collect(),
    }
}

fn schemas() -> View {
    View {
        columns: vec![("name", NAME, false), ("schema_id", T::Int, false)],
        rows: vec![
            vec![Datum::text("dbo"), Datum::Int(1)],
            vec![Datum::text("sys"), Datum::Int(4)],
        ],
    }
}

fn columns(database: &Database) -> View {
    let catalog = database.catalog();
    let rows = catalog.tables().flat_map(|table| {
        table.columns.iter().map(|it| {
            let (length, precision, scale) = it.ty.sizes();
            vec![
                Datum::Int(table.id),
                Datum::text(&*it.name),
                Datum::Int(it.id),
                Datum::Int(it.ty.system_type_id()),
                Datum::Int(it.ty.system_type_id()),
                Datum::Int(length),
                Datum::Int(precision),
                Datum::Int(scale),
                if it.ty.is_text() {
                    Datum::text(&*it.collation.name)
                } else {
                    Datum::Null
                },
                Datum::flag(it.nullable),
                Datum::flag(it.identity.is_some()),
                Datum::flag(false),
            ]
        })
    });
    View {
        columns: vec![
            ("object_id", T::Int, false),
            ("name", NAME, true),
            ("column_id", T::Int, false),
            ("system_type_id", T::TinyInt, false),
            ("user_type_id", T::Int, false),
            ("max_length", T::SmallInt, false),
            ("precision", T::TinyInt, false),
            ("scale", T::TinyInt, false),
            ("collation_name", NAME, true),
            ("is_nullable", T::Bit, true),
            ("is_identity", T::Bit, false),
            ("is_computed", T::Bit, false),
        ],
        rows: rows.collect(),
    }
}

fn indexes(database: &Database) -> View {
    let catalog = database.catalog();
    let rows = catalog.tables().flat_map(|table| {
        table.indexes.iter().map(|it| {
            vec![
                Datum::Int(table.id),
                Datum::text(&*it.name),
                Datum::Int(it.id),
                Datum::Int(if it.clustered { 1 } else { 2 }),
                Datum::text(if it.clustered {
                    "CLUSTERED"
                } else {
                    "NONCLUSTERED"
                }),
                Datum::flag(it.unique),
                Datum::flag(it.primary),
                Datum::flag(false),
                Datum::flag(false),
                Datum::Null,
            ]
        })
    });
    View {
        columns: vec![
            ("object_id", T::Int, false),
            ("name", NAME, true),
            ("index_id", T::Int, false),
            ("type", T::TinyInt, false),
            ("type_desc", T::NVarChar(Some(60)), true),
            ("is_unique", T::Bit, true),
            ("is_primary_key", T::Bit, true),
            ("is_disabled", T::Bit, true),
            ("has_filter", T::Bit, false),
            ("filter_definition", T::NVarChar(None), true),
        ],
        rows: rows.collect(),
    }
}

fn index_columns(database: &Database) -> View {
    let catalog = database.catalog();
    let rows = catalog.tables().flat_map(|table| {
        table.indexes.iter().flat_map(|index| {
            index
                .columns
                .iter()
                .enumerate()
                .map(|(at, (column, descending))| {
                    vec![
                        Datum::Int(table.id),
                        Datum::Int(index.id),
                        Datum::Int(at as i64 + 1),
                        Datum::Int(*column),
                        Datum::Int(at as i64 + 1),
                        Datum::flag(*descending),
                        Datum::flag(false),
                    ]
                })
        })
    });
    View {
        columns: vec![
            ("object_id", T::Int, false),
            ("index_id", T::Int, false),
            ("index_column_id", T::Int, false),
            ("column_id", T::Int, false),
            ("key_ordinal", T::TinyInt, false),
            ("is_descending_key", T::Bit, true),
            ("is_included_column", T::Bit, true),
        ],
        rows: rows.collect(),
    }
}
