//! `sp_describe_first_result_set`: the columns of a query as rows, in the documented order.

use super::query::{OutColumn, Query};
use crate::stand_in::datum::Datum;
use crate::stand_in::types::{SqlType as T, Typed};
use crate::stand_in::wire::type_info::Layout;

const NAME: T = T::NVarChar(Some(128));

/// Name, type, nullable.
pub const COLUMNS: &[(&str, T, bool)] = &[
    ("is_hidden", T::Bit, false),
    ("column_ordinal", T::Int, false),
    ("name", NAME, true),
    ("is_nullable", T::Bit, false),
    ("system_type_id", T::Int, false),
    ("system_type_name", T::NVarChar(Some(256)), true),
    ("max_length", T::SmallInt, false),
    ("precision", T::TinyInt, false),
    ("scale", T::TinyInt, false),
    ("collation_name", NAME, true),
    ("user_type_id", T::Int, true),
    ("user_type_database", NAME, true),
    ("user_type_schema", NAME, true),
    ("user_type_name", NAME, true),
    (
        "assembly_qualified_type_name",
        T::NVarChar(Some(4000)),
        true,
    ),
    ("xml_collection_id", T::Int, true),
    ("xml_collection_database", NAME, true),
    ("xml_collection_schema", NAME, true),
    ("xml_collection_name", NAME, true),
    ("is_xml_document", T::Bit, false),
    ("is_case_sensitive", T::Bit, false),
    ("is_fixed_length_clr_type", T::Bit, false),
    ("source_server", NAME, true),
    ("source_database", NAME, true),
    ("source_schema", NAME, true),
    ("source_table", NAME, true),
    ("source_column", NAME, true),
    ("is_identity_column", T::Bit, true),
    ("is_part_of_unique_key", T::Bit, true),
    ("is_updateable", T::Bit, true),
    ("is_computed_column", T::Bit, true),
    ("is_sparse_column_set", T::Bit, true),
    ("ordinal_in_order_by_list", T::SmallInt, true),
    ("order_by_list_length", T::SmallInt, true),
    ("order_by_is_descending", T::SmallInt, true),
    ("tds_type_id", T::Int, false),
    ("tds_length", T::Int, false),
    ("tds_collation_id", T::Int, true),
    ("tds_collation_sort_id", T::TinyInt, true),
];

/// One row per column; in browse mode also for the keys of the tables that the query leaves out.
pub fn rows(query: &Query, browse: bool) -> Vec<Vec<Datum>> {
    let mut columns: Vec<(OutColumn, bool)> = query
        .columns
        .iter()
        .cloned()
        .map(|it| (it, false))
        .collect();
    if browse {
        columns.extend(hidden(query).into_iter().map(|it| (it, true)));
    }
    columns
        .iter()
        .enumerate()
        .map(|(at, (column, hidden))| row(column, at + 1, *hidden, browse, query))
        .collect()
}

fn hidden(query: &Query) -> Vec<OutColumn> {
    let mut missing = Vec::new();
    for (database, table) in &query.tables {
        for (id, _) in table
            .indexes
            .iter()
            .filter(|it| it.primary)
            .flat_map(|it| &it.columns)
        {
            let is_there = query.columns.iter().any(|column| {
                column
                    .origin
                    .as_ref()
                    .is_some_and(|it| it.table.id == table.id && it.column == *id)
            });
            let Some(column) = table.column_by_id(*id).filter(|_| !is_there) else {
                continue;
            };
            missing.push(OutColumn {
                name: column.name.clone(),
                typed: column.typed(),
                origin: Some(super::binder::Origin {
                    database: database.name.clone(),
                    table: std::sync::Arc::clone(table),
                    column: *id,
                }),
                identity: column.identity.is_some(),
            });
        }
    }
    missing
}

fn row(
    column: &OutColumn,
    ordinal: usize,
    hidden: bool,
    browse: bool,
    query: &Query,
) -> Vec<Datum> {
    let Typed {
        ty,
        nullable,
        collation,
    } = column.typed;
    let (length, precision, scale) = ty.sizes();
    let origin = column.origin.as_ref();
    let source = origin.filter(|_| browse);
    let name = |text: Option<&str>| text.map_or(Datum::Null, Datum::text);
    let base = origin.and_then(|it| it.table.column_by_id(it.column));
    let unique = origin.is_some_and(|it| {
        it.table
            .indexes
            .iter()
            .any(|index| index.unique && index.columns.iter().any(|(id, _)| *id == it.column))
    });
    let made = base.is_none_or(super::catalog::Column::is_made);
    let place = query
        .order
        .iter()
        .position(|it| usize::from(*it) == ordinal);
    let mut token = Vec::new();
    Layout::of(
        &Typed {
            nullable: true,
            ..column.typed
        },
        false,
    )
    .put_type(&mut token);
    let [a, b, c, d, sort] = collation.wire;
    let tds_length = match ty {
        T::VarChar(None) | T::NVarChar(None) | T::VarBinary(None) => 65_535,
        T::Xml => 8100,
        T::Text | T::Image => 2_147_483_647,
        T::NText => 2_147_483_646,
        T::Variant => 8009,
        T::Decimal(..) | T::Numeric(..) => 17,
        _ => length,
    };
    vec![
        Datum::flag(hidden),
        Datum::Int(ordinal as i64),
        if column.name.is_empty() {
            Datum::Null
        } else {
            Datum::text(&*column.name)
        },
        Datum::flag(nullable),
        Datum::Int(ty.system_type_id()),
        Datum::Text(ty.full_name()),
        Datum::Int(length),
        Datum::Int(precision),
        Datum::Int(scale),
        if ty.is_text() && ty != T::Xml {
            Datum::text(&*collation.name)
        } else {
            Datum::Null
        },
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::flag(false),
        Datum::flag(ty.is_text() && collation.case_sensitive),
        Datum::flag(false),
        Datum::Null,
        name(source.map(|it| it.database.as_str())),
        name(source.map(|it| it.table.schema.as_str())),
        name(source.map(|it| it.table.name.as_str())),
        name(source.and(base).map(|it| it.name.as_str())),
        Datum::flag(column.identity || base.is_some_and(|it| it.identity.is_some())),
        if browse {
            Datum::flag(unique)
        } else {
            Datum::Null
        },
        Datum::flag(!made),
        Datum::flag(ty == T::RowVersion),
        Datum::flag(false),
        place.map_or(Datum::Null, |it| Datum::Int(it as i64 + 1)),
        place.map_or(Datum::Null, |_| Datum::Int(query.order.len() as i64)),
        place.map_or(Datum::Null, |_| Datum::Int(0)),
        Datum::Int(token.first().map_or(0, |it| i64::from(*it))),
        Datum::Int(tds_length),
        if ty.is_text() {
            Datum::Int(i64::from(i32::from_le_bytes([a, b, c, d])))
        } else {
            Datum::Null
        },
        if ty.is_text() {
            Datum::Int(i64::from(sort))
        } else {
            Datum::Null
        },
    ]
}
