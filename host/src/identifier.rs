//! Names in SQL, quoted the standard way, which `PostgreSQL` and `SQLite` share.

use crate::config::TableName;

/// A name in double quotes, with those inside doubled.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, with its schema where it has one.
pub fn quote_table(table: &TableName) -> String {
    match &table.schema {
        Some(schema) => format!("{}.{}", quote(schema), quote(&table.name)),
        None => quote(&table.name),
    }
}

/// Names in double quotes, separated by commas.
pub fn quote_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(quote("plain"), "\"plain\"");
        assert_eq!(
            quote("Robert\"; DROP TABLE x"),
            "\"Robert\"\"; DROP TABLE x\""
        );
        assert_eq!(quote_list(["a", "b"]), "\"a\", \"b\"");
    }
}
