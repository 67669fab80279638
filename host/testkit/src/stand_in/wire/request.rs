//! Requests after the login: batches, remote procedure calls, transactions (MS-TDS 2.2.6.6 to 2.2.6.9).

use super::bytes::Bytes;
use super::type_info::read_parameter;
use crate::stand_in::datum::{Datum, from_utf16};
use crate::stand_in::types::SqlType;

/// One call of a procedure.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub procedure: Procedure,
    pub parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Procedure {
    Named(String),
    Numbered(u16),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Without `@`; empty for one by position.
    pub name: String,
    pub output: bool,
    pub ty: SqlType,
    pub value: Datum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionRequest {
    Begin,
    Commit { begin_again: bool },
    Rollback { begin_again: bool },
}

/// Skips `ALL_HEADERS`.
fn headers(body: &[u8]) -> Option<Bytes<'_>> {
    let length = Bytes(body).u32()? as usize;
    if length < 4 {
        return None;
    }
    body.get(length..).map(Bytes)
}

pub fn batch(body: &[u8]) -> Option<String> {
    headers(body).map(|rest| from_utf16(rest.0))
}

pub fn calls(body: &[u8]) -> Option<Vec<Call>> {
    let mut bytes = headers(body)?;
    let mut calls = Vec::new();
    while !bytes.is_empty() {
        calls.push(call(&mut bytes)?);
    }
    Some(calls)
}

fn call(bytes: &mut Bytes<'_>) -> Option<Call> {
    let procedure = match bytes.u16()? {
        0xffff => Procedure::Numbered(bytes.u16()?),
        length => Procedure::Named(from_utf16(bytes.take(usize::from(length) * 2)?)),
    };
    bytes.u16()?;
    let mut parameters = Vec::new();
    // 0x80 and 0xFF stand between calls: no parameter's name is that long.
    while let Some(first) = bytes.0.first() {
        if matches!(first, 0x80 | 0xff | 0xfe) {
            bytes.u8()?;
            break;
        }
        let name = bytes.short_text()?.trim_start_matches('@').to_lowercase();
        let flags = bytes.u8()?;
        let (ty, value) = read_parameter(bytes)?;
        parameters.push(Parameter {
            name,
            output: flags & 1 != 0,
            ty,
            value,
        });
    }
    Some(Call {
        procedure,
        parameters,
    })
}

pub fn transaction(body: &[u8]) -> Option<TransactionRequest> {
    let mut bytes = headers(body)?;
    Some(match bytes.u16()? {
        5 => TransactionRequest::Begin,
        kind @ (7 | 8) => {
            let name = usize::from(bytes.u8().unwrap_or(0));
            bytes.take(name);
            let begin_again = bytes.u8().is_some_and(|flags| flags & 1 != 0);
            if kind == 7 {
                TransactionRequest::Commit { begin_again }
            } else {
                TransactionRequest::Rollback { begin_again }
            }
        }
        _ => return None,
    })
}
