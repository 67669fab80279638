//! Dead letters in the form that `dead-letters --output json` and the HTTP API give them. The JSON is stable: `docs/json.md`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::StoredLetter;

/// A dead letter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LetterView {
    /// Its number.
    pub id: i64,
    /// The partition.
    pub partition: String,
    /// Which stage refused the row: `extract`, `transform` or `load`.
    pub stage: String,
    /// For `load` the table.
    pub table: Option<String>,
    /// The column at fault.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// For `extract` the row's cursor.
    pub position: Option<String>,
    /// The run that set it aside.
    pub run_id: String,
    /// When, as the sink writes it.
    pub created_at: String,
    /// The replay that loaded it.
    pub replayed_by: Option<String>,
    /// Not for `extract`, and not once it was replayed.
    pub can_be_replayed: bool,
    /// The row by columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    pub row: Option<Value>,
}

impl LetterView {
    /// Without the row.
    pub fn of(letter: &StoredLetter) -> Self {
        Self {
            id: letter.id,
            partition: letter.partition.clone(),
            stage: letter.stage.clone(),
            table: letter.table.clone(),
            column: letter.column.clone(),
            reason: letter.reason.clone(),
            position: letter.position.clone(),
            run_id: letter.run_id.clone(),
            created_at: letter.created_at.clone(),
            replayed_by: letter.replayed_by.clone(),
            can_be_replayed: letter.arrow.is_some() && letter.replayed_by.is_none(),
            row: None,
        }
    }

    /// With the row.
    pub fn with_row(letter: &StoredLetter) -> Self {
        Self {
            row: Some(row(letter)),
            ..Self::of(letter)
        }
    }
}

/// The row by columns, as it was set aside.
pub fn row(letter: &StoredLetter) -> Value {
    serde_json::from_slice(&letter.payload)
        .unwrap_or_else(|_| String::from_utf8_lossy(&letter.payload).into())
}
