//! The way of a row from the driver into a batch, opened for the fuzz target `tds_rows` and for `benches/micro`. Nothing
//! else uses it, and it adds nothing to that way.

pub use tiberius;
use tiberius::{Column, Row};

use super::batches::Batches;
use super::describe::described;
use super::types::SqlType;
use crate::config::BeyondMicroseconds;
use crate::error::{Error, Result};
use crate::source::{ReadRequest, SourceBatch};

/// The rows of a statement on their way into a batch.
pub struct Statement(Batches);

impl Statement {
    /// A statement whose columns the server has described.
    pub fn described(
        description: &[Row],
        request: &ReadRequest,
        beyond: BeyondMicroseconds,
    ) -> Result<Self> {
        let columns: Vec<_> = description.iter().map(described).collect::<Result<_>>()?;
        let types = columns.iter().map(|column| column.sql_type).collect();
        let names: Vec<_> = columns.into_iter().map(|column| column.name).collect();
        Batches::new(&names, types, request, beyond).map(Self)
    }

    /// A statement of which only the driver tells columns, and the first values the scale of decimals.
    pub fn undescribed(
        columns: &[Column],
        scale: Option<u8>,
        request: &ReadRequest,
        beyond: BeyondMicroseconds,
    ) -> Result<Self> {
        let names: Vec<_> = columns
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        let types = columns
            .iter()
            .map(|column| SqlType::of(column.column_type(), scale))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::config("a type that is not read"))?;
        Batches::new(&names, types, request, beyond).map(Self)
    }

    /// Adds a row.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        self.0.push(row)
    }

    /// Takes the rows collected so far.
    pub fn finish(&mut self) -> Result<SourceBatch> {
        self.0.builder.finish()
    }
}
