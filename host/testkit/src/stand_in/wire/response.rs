//! The tokens of a response (MS-TDS 2.2.7), in their order and with the right flags: a DONE says MORE when another
//! token follows, so the last one is held back until that is known.

use std::io;
use std::ops::Range;

use rusqlite::types::ValueRef;

use super::bytes::{put_short_text, put_text};
use super::packet::Channel;
use super::type_info::{Frame, Layout};
use crate::stand_in::datum::Datum;
use crate::stand_in::error::SqlError;
use crate::stand_in::output::Cells;
use crate::stand_in::types::{SqlType, Typed};

const DONE: u8 = 0xfd;
const DONE_PROC: u8 = 0xfe;
const DONE_IN_PROC: u8 = 0xff;

const MORE: u16 = 0x01;
const ERROR: u16 = 0x02;
const COUNT: u16 = 0x10;
const ATTENTION: u16 = 0x20;

/// The command in a DONE token.
pub mod command {
    pub const SELECT: u16 = 0xc1;
    pub const INSERT: u16 = 0xc3;
    pub const DELETE: u16 = 0xc4;
    pub const UPDATE: u16 = 0xc5;
    pub const OTHER: u16 = 0xfd;
}

/// A column of a result.
#[derive(Debug, Clone)]
pub struct Heading {
    pub name: String,
    pub typed: Typed,
    pub identity: bool,
    pub updatable: bool,
    /// The table, for the large types of old that must name it.
    pub table: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Done {
    token: u8,
    status: u16,
    command: u16,
    rows: u64,
}

/// The bytes of a row before each made value, and behind the last.
#[derive(Default)]
struct Template {
    pieces: Vec<(Vec<u8>, usize)>,
    rest: Vec<u8>,
}

pub struct Response<'a> {
    pub channel: &'a mut Channel,
    pending: Option<Done>,
    /// Inside of a procedure every statement ends with DONEINPROC.
    pub in_procedure: bool,
    pub no_count: bool,
    pub unknown_lengths: bool,
    layouts: Vec<Layout>,
    row: Vec<u8>,
    pub server_name: String,
}

impl<'a> Response<'a> {
    pub fn new(channel: &'a mut Channel, server_name: &str) -> Self {
        Self {
            channel,
            pending: None,
            in_procedure: false,
            no_count: false,
            unknown_lengths: false,
            layouts: Vec::new(),
            row: Vec::new(),
            server_name: server_name.to_owned(),
        }
    }

    /// Writes a token, with the DONE before it.
    fn token(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.release(MORE)?;
        self.channel.put(bytes)
    }

    fn release(&mut self, flag: u16) -> io::Result<()> {
        let Some(done) = self.pending.take() else {
            return Ok(());
        };
        let mut bytes = vec![done.token];
        bytes.extend((done.status | flag).to_le_bytes());
        bytes.extend(done.command.to_le_bytes());
        bytes.extend(done.rows.to_le_bytes());
        self.channel.put(&bytes)
    }

    fn hold(&mut self, done: Done) -> io::Result<()> {
        self.release(MORE)?;
        self.pending = Some(done);
        Ok(())
    }

    /// A statement has ended, with its number of rows where it has one.
    pub fn statement_done(
        &mut self,
        command: u16,
        rows: Option<u64>,
        failed: bool,
    ) -> io::Result<()> {
        if rows.is_none() && !failed && self.pending.is_some() {
            return Ok(());
        }
        let token = if self.in_procedure {
            DONE_IN_PROC
        } else {
            DONE
        };
        let rows = rows.filter(|_| !self.no_count || command == command::SELECT);
        let status = if rows.is_some() { COUNT } else { 0 } | if failed { ERROR } else { 0 };
        self.hold(Done {
            token,
            status,
            command,
            rows: rows.unwrap_or(0),
        })
    }

    pub fn procedure_done(&mut self, status: i32, failed: bool) -> io::Result<()> {
        let mut bytes = vec![0x79];
        bytes.extend(status.to_le_bytes());
        self.token(&bytes)?;
        self.hold(Done {
            token: DONE_PROC,
            status: if failed { ERROR } else { 0 },
            command: 0xe0,
            rows: 0,
        })
    }

    /// Ends the response.
    pub fn end(&mut self) -> io::Result<()> {
        if self.pending.is_none() {
            let token = if self.in_procedure { DONE_PROC } else { DONE };
            self.pending = Some(Done {
                token,
                status: 0,
                command: command::OTHER,
                rows: 0,
            });
        }
        self.release(0)?;
        self.channel.end()
    }

    /// Ends it as a broken server would: flagged as the last packet, without the token.
    pub fn end_without_done(&mut self) -> io::Result<()> {
        self.pending = None;
        self.channel.end()
    }

    /// Ends it because of an attention (MS-TDS 2.2.1.7).
    pub fn end_by_attention(&mut self) -> io::Result<()> {
        self.pending = Some(Done {
            token: DONE,
            status: ATTENTION,
            command: 0,
            rows: 0,
        });
        self.release(0)?;
        self.channel.end()
    }

    pub fn error(&mut self, error: &SqlError) -> io::Result<()> {
        self.message(0xaa, error)
    }

    pub fn info(&mut self, number: i32, text: &str) -> io::Result<()> {
        let info = SqlError {
            number,
            state: 1,
            class: 0,
            line: 1,
            message: text.to_owned(),
        };
        self.message(0xab, &info)
    }

    fn message(&mut self, token: u8, error: &SqlError) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(error.number.to_le_bytes());
        body.extend([error.state, error.class]);
        put_text(&error.message, &mut body);
        put_short_text(&self.server_name, &mut body);
        put_short_text("", &mut body);
        body.extend(error.line.to_le_bytes());
        self.framed(token, &body)
    }

    /// A token with its length in two bytes.
    fn framed(&mut self, token: u8, body: &[u8]) -> io::Result<()> {
        let mut bytes = vec![token];
        bytes.extend((body.len() as u16).to_le_bytes());
        bytes.extend(body);
        self.token(&bytes)
    }

    /// ENVCHANGE with texts.
    pub fn environment(&mut self, kind: u8, new: &str, old: &str) -> io::Result<()> {
        let mut body = vec![kind];
        put_short_text(new, &mut body);
        put_short_text(old, &mut body);
        self.framed(0xe3, &body)
    }

    /// ENVCHANGE with bytes, as for collations and transactions.
    pub fn environment_bytes(&mut self, kind: u8, new: &[u8], old: &[u8]) -> io::Result<()> {
        let mut body = vec![kind, new.len() as u8];
        body.extend(new);
        body.push(old.len() as u8);
        body.extend(old);
        self.framed(0xe3, &body)
    }

    pub fn login_ack(&mut self) -> io::Result<()> {
        // SQL_TSQL, TDS 7.4, and the version of PRELOGIN.
        let mut body = vec![1, 0x74, 0, 0, 4];
        put_short_text("Microsoft SQL Server", &mut body);
        body.extend([16, 0, 0x10, 0x8b]);
        self.framed(0xad, &body)
    }

    /// FEATUREEXTACK with what is acknowledged, if anything is.
    pub fn features(&mut self, asked: &[u8]) -> io::Result<()> {
        const UTF8_SUPPORT: u8 = 0x0a;
        if !asked.contains(&UTF8_SUPPORT) {
            return Ok(());
        }
        self.channel.utf8 = true;
        self.token(&[0xae, UTF8_SUPPORT, 1, 0, 0, 0, 1, 0xff])
    }

    /// COLMETADATA; the rows that follow are of these columns.
    pub fn headings(&mut self, headings: &[Heading]) -> io::Result<()> {
        self.layouts = headings
            .iter()
            .map(|it| {
                Layout::of(
                    &it.typed.for_client(self.channel.utf8),
                    self.unknown_lengths,
                )
            })
            .collect();
        let mut bytes = vec![0x81];
        bytes.extend((headings.len() as u16).to_le_bytes());
        for (heading, layout) in headings.iter().zip(&self.layouts) {
            let user_type: u32 = if heading.typed.ty == SqlType::RowVersion {
                80
            } else {
                0
            };
            bytes.extend(user_type.to_le_bytes());
            let mut flags: u16 = u16::from(heading.typed.nullable);
            flags |= if heading.updatable { 0x08 } else { 0 };
            flags |= if heading.identity { 0x10 } else { 0 };
            bytes.extend(flags.to_le_bytes());
            layout.put_type(&mut bytes);
            if layout.frame == Frame::Pointer {
                let table = heading.table.as_deref().unwrap_or_default();
                bytes.push(u8::from(!table.is_empty()));
                if !table.is_empty() {
                    put_text(table, &mut bytes);
                }
            }
            put_short_text(&heading.name, &mut bytes);
        }
        self.token(&bytes)
    }

    /// ORDER: by which columns the rows are sorted, counted from 1.
    pub fn order(&mut self, columns: &[u16]) -> io::Result<()> {
        let body: Vec<u8> = columns.iter().flat_map(|it| it.to_le_bytes()).collect();
        self.framed(0xa9, &body)
    }

    /// ROW, or NBCROW where that is shorter.
    pub fn row(&mut self, cells: Cells<'_, '_>) -> io::Result<()> {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.push(0xd1);
        let mut saved = 0;
        for (at, layout) in self.layouts.iter().enumerate() {
            match cells(at) {
                ValueRef::Null => {
                    saved += layout.null_bytes();
                    layout.put_null(&mut row);
                }
                value => layout.put(value, &mut row),
            }
        }
        if saved > self.layouts.len().div_ceil(8) {
            self.compressed(cells, &mut row);
        }
        let result = self.token(&row);
        // One huge value must not be kept for all the rows to come.
        if row.capacity() < 1 << 20 {
            self.row = row;
        }
        result
    }

    /// Rows that differ from the templates in a few columns only, as fast as a client can read them.
    pub fn repeat(
        &mut self,
        templates: &[Vec<Datum>],
        rows: Range<u64>,
        made: &dyn Fn(usize, u64) -> Option<i64>,
    ) -> io::Result<()> {
        /// How often the client is looked at.
        const ROWS_AT_ONCE: u64 = 1024;
        self.release(MORE)?;
        let templates: Vec<Template> = templates
            .iter()
            .map(|cells| self.template(cells, &|column| made(column, rows.start).is_some()))
            .collect();
        let mut bytes = Vec::new();
        for row in rows {
            if row % ROWS_AT_ONCE == 0 && self.channel.attention {
                break;
            }
            let at = row % templates.len().max(1) as u64;
            let Some(template) = templates.get(at as usize) else {
                break;
            };
            bytes.clear();
            for (before, column) in &template.pieces {
                bytes.extend(before);
                if let (Some(layout), Some(value)) = (self.layouts.get(*column), made(*column, row))
                {
                    layout.put(ValueRef::Integer(value), &mut bytes);
                }
            }
            bytes.extend(&template.rest);
            self.channel.put(&bytes)?;
        }
        Ok(())
    }

    /// A ROW, cut where a value is made.
    fn template(&self, cells: &[Datum], made: &dyn Fn(usize) -> bool) -> Template {
        let mut template = Template::default();
        let mut bytes = vec![0xd1];
        for (at, (layout, cell)) in self.layouts.iter().zip(cells).enumerate() {
            if made(at) {
                template.pieces.push((std::mem::take(&mut bytes), at));
            } else if cell.is_null() {
                layout.put_null(&mut bytes);
            } else {
                layout.put(cell.as_ref(), &mut bytes);
            }
        }
        template.rest = bytes;
        template
    }

    fn compressed(&self, cells: Cells<'_, '_>, row: &mut Vec<u8>) {
        row.clear();
        row.push(0xd2);
        row.resize(1 + self.layouts.len().div_ceil(8), 0);
        for (at, layout) in self.layouts.iter().enumerate() {
            match cells(at) {
                ValueRef::Null => {
                    if let Some(byte) = row.get_mut(1 + at / 8) {
                        *byte |= 1 << (at % 8);
                    }
                }
                value => layout.put(value, row),
            }
        }
    }

    /// RETURNVALUE of an output parameter.
    pub fn return_value(
        &mut self,
        ordinal: u16,
        name: &str,
        typed: &Typed,
        value: &Datum,
    ) -> io::Result<()> {
        let mut bytes = vec![0xac];
        bytes.extend(ordinal.to_le_bytes());
        put_short_text(&format!("@{name}"), &mut bytes);
        bytes.push(1);
        bytes.extend([0; 6]);
        let layout = Layout::of(
            &Typed {
                nullable: true,
                ..*typed
            },
            false,
        );
        layout.put_type(&mut bytes);
        if value.is_null() {
            layout.put_null(&mut bytes);
        } else {
            layout.put(value.as_ref(), &mut bytes);
        }
        self.token(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::super::bytes::Bytes;
    use super::super::packet::Plan;
    use super::super::transport::Transport;
    use super::super::type_info::{read_parameter, read_type};
    use super::*;
    use crate::stand_in::collation;
    use crate::stand_in::types::SqlType as T;

    /// What a client receives: the packets, checked, without their headers.
    fn sent(packet_size: usize, write: impl FnOnce(&mut Response<'_>)) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        let mut channel = Channel::new(Transport::Plain(server), std::sync::Arc::default());
        channel.packet_size = packet_size;
        channel.begin(Plan::default(), false);
        let mut response = Response::new(&mut channel, "SERVER");
        write(&mut response);
        response.end().unwrap();
        drop(channel);
        let all = reader.join().unwrap();
        let mut rest = Bytes(&all);
        let mut body = Vec::new();
        let mut number = 0_u8;
        while !rest.is_empty() {
            assert_eq!(rest.u8(), Some(4));
            let last = rest.u8().unwrap();
            let length = usize::from(rest.u16_big().unwrap());
            rest.u16();
            number = number.wrapping_add(1);
            assert_eq!(rest.u8(), Some(number));
            rest.u8();
            assert!(length <= packet_size);
            body.extend(rest.take(length - 8).unwrap());
            assert_eq!(last == 1, rest.is_empty());
        }
        body
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(
            packet_size in 512..2000_usize,
            rows in proptest::collection::vec((any::<Option<i64>>(), proptest::option::of(".{0,40}"), any::<i32>()), 0..30),
        ) {
            let column = |ty, nullable| Heading {
                name: "c".to_owned(),
                typed: Typed { ty, nullable, collation: collation::default() },
                identity: false,
                updatable: true,
                table: None,
            };
            let types = [T::BigInt, T::NVarChar(None), T::Int];
            let body = sent(packet_size, |response| {
                response.headings(&[column(types[0], true), column(types[1], true), column(types[2], false)]).unwrap();
                for (a, b, c) in &rows {
                    response
                        .row(&|at| match at {
                            0 => a.map_or(ValueRef::Null, ValueRef::Integer),
                            1 => b.as_ref().map_or(ValueRef::Null, |it| ValueRef::Text(it.as_bytes())),
                            _ => ValueRef::Integer(i64::from(*c)),
                        })
                        .unwrap();
                }
                response.statement_done(command::SELECT, Some(rows.len() as u64), false).unwrap();
                response.statement_done(command::SELECT, Some(1), false).unwrap();
            });
            let mut bytes = Bytes(&body);
            prop_assert_eq!(bytes.u8(), Some(0x81));
            prop_assert_eq!(bytes.u16(), Some(3));
            let mut infos = Vec::new();
            for ty in types {
                bytes.u32();
                bytes.u16();
                let before = bytes.0;
                let token = bytes.u8().unwrap();
                prop_assert_eq!(read_type(token, &mut bytes).unwrap().0, ty);
                infos.push(before[..before.len() - bytes.0.len()].to_vec());
                prop_assert_eq!(bytes.short_text().unwrap(), "c");
            }
            for (a, b, c) in rows.iter().cloned() {
                let token = bytes.u8().unwrap();
                let nulls = if token == 0xd2 { bytes.u8().unwrap() } else { 0 };
                let expected = [
                    a.map_or(Datum::Null, Datum::Int),
                    b.map_or(Datum::Null, Datum::Text),
                    Datum::Int(i64::from(c)),
                ];
                for (at, value) in expected.into_iter().enumerate() {
                    if nulls >> at & 1 == 1 {
                        prop_assert_eq!(value, Datum::Null);
                        continue;
                    }
                    // A value is read by its type as a parameter is.
                    let mut whole = infos[at].clone();
                    whole.extend(bytes.0);
                    let mut parameter = Bytes(&whole);
                    prop_assert_eq!(read_parameter(&mut parameter).unwrap().1, value);
                    bytes = Bytes(&bytes.0[bytes.0.len() - parameter.0.len()..]);
                }
            }
            for (more, count) in [(1, rows.len() as u64), (0, 1)] {
                prop_assert_eq!(bytes.u8(), Some(0xfd));
                prop_assert_eq!(bytes.u16(), Some(0x10 | more));
                prop_assert_eq!(bytes.u16(), Some(0xc1));
                prop_assert_eq!(bytes.u64(), Some(count));
            }
            prop_assert!(bytes.is_empty());
        }
    }
}
