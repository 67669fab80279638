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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{bulk_load, login, prelogin};
    use super::*;

    /// `ALL_HEADERS`, a procedure and one parameter: `@n int = 5`.
    fn an_rpc() -> Vec<u8> {
        let mut body = vec![
            22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ];
        body.extend([0xff, 0xff, 10, 0, 0, 0]);
        body.extend([2, b'@', 0, b'n', 0, 0, 0x26, 4, 4, 5, 0, 0, 0]);
        body
    }

    #[test]
    fn a_call_is_read() {
        let calls = calls(&an_rpc()).unwrap();
        assert_eq!(calls[0].procedure, Procedure::Numbered(10));
        assert_eq!(calls[0].parameters[0].name, "n");
        assert_eq!(calls[0].parameters[0].value, Datum::Int(5));
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = batch(&bytes);
            let _ = calls(&bytes);
            let _ = transaction(&bytes);
            let _ = bulk_load::parse(&bytes);
            let _ = prelogin::parse(&bytes);
            let _ = login::parse(&bytes);
        }

        #[test]
        fn nor_is_any_change_of_a_call(at in 0..40_usize, byte in any::<u8>(), keep in 0..60_usize) {
            let mut body = an_rpc();
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
            body.truncate(keep);
            let _ = calls(&body);
        }

        #[test]
        fn nor_is_any_parameter(token in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut body = an_rpc();
            body.truncate(34);
            body.push(token);
            body.extend(bytes);
            let _ = calls(&body);
        }

        #[test]
        fn nor_is_any_text(text in "[ -~\\n]{0,80}") {
            let _ = crate::stand_in::sql::parser::batch(&text);
            let _ = crate::stand_in::sql::parser::batch(&format!("SELECT {text} FROM t WHERE {text}"));
        }
    }
}
