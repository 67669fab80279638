//! Marks on Arrow columns whose text means more than text: a source that knows sets one, a sink that has a type for it
//! uses it. Everybody else may pass over them: a mark never makes two columns different.

use std::collections::HashMap;

use arrow_schema::{Field, Schema};

const NAME: &str = "ARROW:extension:name";
const METADATA: &str = "ARROW:extension:metadata";

/// What the text of a column means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// UUIDs with hyphens.
    Uuid,
    /// JSON, <https://arrow.apache.org/docs/format/CanonicalExtensions.html#json>.
    Json,
}

impl Meaning {
    fn name(self) -> &'static str {
        match self {
            // Arrow's own `arrow.uuid` is over sixteen bytes.
            Self::Uuid => "etl.uuid",
            Self::Json => "arrow.json",
        }
    }

    /// The field with this mark.
    pub fn mark(self, field: Field) -> Field {
        field.with_metadata(HashMap::from([
            (NAME.to_owned(), self.name().to_owned()),
            (METADATA.to_owned(), String::new()),
        ]))
    }

    /// The mark of a field.
    pub fn of(field: &Field) -> Option<Self> {
        let name = field.metadata().get(NAME)?;
        [Self::Uuid, Self::Json]
            .into_iter()
            .find(|meaning| meaning.name() == name)
    }
}

/// Whether two schemas have the same columns by name and type.
pub fn same_columns(a: &Schema, b: &Schema) -> bool {
    let columns = |schema: &Schema| schema.fields().len();
    columns(a) == columns(b)
        && a.fields()
            .iter()
            .zip(b.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;

    use super::*;

    #[test]
    fn a_mark_is_found_again_and_makes_no_difference() {
        let plain = Field::new("id", DataType::Utf8, true);
        assert_eq!(Meaning::of(&plain), None);
        for meaning in [Meaning::Uuid, Meaning::Json] {
            let marked = meaning.mark(plain.clone());
            assert_eq!(Meaning::of(&marked), Some(meaning));
            let schemas = [Schema::new(vec![plain.clone()]), Schema::new(vec![marked])];
            assert!(same_columns(&schemas[0], &schemas[1]));
        }
        let other = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        assert!(!same_columns(&Schema::new(vec![plain]), &other));
    }
}
