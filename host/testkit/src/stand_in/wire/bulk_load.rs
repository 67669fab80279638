//! The rows of a bulk load: tokens as in a response, but from the client (MS-TDS 2.2.6.1).

use super::bytes::Bytes;
use super::type_info::{Frame, read_type, read_value};
use crate::stand_in::datum::Datum;
use crate::stand_in::types::SqlType;

/// Rows with their columns' names. Every value has its own type: nullable numbers say their size with their value.
#[derive(Debug, Default, PartialEq)]
pub struct BulkLoad {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<(SqlType, Datum)>>,
}

pub fn parse(body: &[u8]) -> Option<BulkLoad> {
    let mut bytes = Bytes(body);
    if bytes.u8()? != 0x81 {
        return None;
    }
    let mut load = BulkLoad::default();
    let mut types = Vec::new();
    for _ in 0..bytes.u16()? {
        bytes.take(6)?;
        let token = bytes.u8()?;
        let found = read_type(token, &mut bytes)?;
        if found.1 == Frame::Pointer {
            // These have text pointers in rows.
            return None;
        }
        types.push(found);
        load.columns.push(bytes.short_text()?);
    }
    loop {
        let nulls = match bytes.u8()? {
            0xd1 => &[][..],
            0xd2 => bytes.take(types.len().div_ceil(8))?,
            0xfd => return Some(load),
            _ => return None,
        };
        let mut row = Vec::with_capacity(types.len());
        for (at, (ty, frame, collation)) in types.iter().enumerate() {
            let null = nulls
                .get(at / 8)
                .is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            row.push(if null {
                (*ty, Datum::Null)
            } else {
                read_value(&mut bytes, *ty, *frame, collation)?
            });
        }
        load.rows.push(row);
    }
}
