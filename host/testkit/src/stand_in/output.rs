//! Where results go: to a client as tokens, or into memory for a test that asks without TDS.

use std::io;
use std::ops::Range;
use std::time::Duration;

use rusqlite::types::ValueRef;

use super::collation;
use super::convert::text_of;
use super::datum::Datum;
use super::error::SqlError;
use super::fault::Release;
use super::types::{SqlType, Typed};
use super::variant;
use super::wire::response::{Heading, Response};

/// The value of a column, by its place.
pub type Cells<'a, 'v> = &'a dyn Fn(usize) -> ValueRef<'v>;

pub trait Output {
    fn headings(&mut self, headings: &[Heading]) -> io::Result<()>;
    fn order(&mut self, columns: &[u16]) -> io::Result<()>;
    fn row(&mut self, cells: Cells<'_, '_>) -> io::Result<()>;
    /// Rows with these numbers: the templates one after the other, again and again, with what `made` says for a column
    /// and a row in place of theirs.
    fn repeat(
        &mut self,
        templates: &[Vec<Datum>],
        rows: Range<u64>,
        made: &dyn Fn(usize, u64) -> Option<i64>,
    ) -> io::Result<()>;
    fn done(&mut self, command: u16, rows: Option<u64>, failed: bool) -> io::Result<()>;
    fn error(&mut self, error: &SqlError) -> io::Result<()>;
    fn info(&mut self, number: i32, text: &str) -> io::Result<()>;
    fn environment(&mut self, kind: u8, new: &str, old: &str) -> io::Result<()>;
    fn environment_bytes(&mut self, kind: u8, new: &[u8], old: &[u8]) -> io::Result<()>;
    fn return_value(
        &mut self,
        ordinal: u16,
        name: &str,
        typed: &Typed,
        value: &Datum,
    ) -> io::Result<()>;
    /// Inside of a procedure statements end in another way. Gives what it was before.
    fn set_in_procedure(&mut self, inside: bool) -> bool;
    fn procedure_done(&mut self, status: i32, failed: bool) -> io::Result<()>;
    fn set_no_count(&mut self, no_count: bool);
    /// Whether the client has asked to stop.
    fn cancelled(&mut self) -> bool;
    /// Waits as long as that; a cancellation ends it.
    fn wait(&mut self, time: Duration) -> io::Result<()>;
}

impl Output for Response<'_> {
    fn headings(&mut self, headings: &[Heading]) -> io::Result<()> {
        Response::headings(self, headings)
    }

    fn order(&mut self, columns: &[u16]) -> io::Result<()> {
        Response::order(self, columns)
    }

    fn row(&mut self, cells: Cells<'_, '_>) -> io::Result<()> {
        Response::row(self, cells)
    }

    fn repeat(
        &mut self,
        templates: &[Vec<Datum>],
        rows: Range<u64>,
        made: &dyn Fn(usize, u64) -> Option<i64>,
    ) -> io::Result<()> {
        Response::repeat(self, templates, rows, made)
    }

    fn done(&mut self, command: u16, rows: Option<u64>, failed: bool) -> io::Result<()> {
        self.statement_done(command, rows, failed)
    }

    fn error(&mut self, error: &SqlError) -> io::Result<()> {
        Response::error(self, error)
    }

    fn info(&mut self, number: i32, text: &str) -> io::Result<()> {
        Response::info(self, number, text)
    }

    fn environment(&mut self, kind: u8, new: &str, old: &str) -> io::Result<()> {
        Response::environment(self, kind, new, old)
    }

    fn environment_bytes(&mut self, kind: u8, new: &[u8], old: &[u8]) -> io::Result<()> {
        Response::environment_bytes(self, kind, new, old)
    }

    fn return_value(
        &mut self,
        ordinal: u16,
        name: &str,
        typed: &Typed,
        value: &Datum,
    ) -> io::Result<()> {
        Response::return_value(self, ordinal, name, typed, value)
    }

    fn set_in_procedure(&mut self, inside: bool) -> bool {
        std::mem::replace(&mut self.in_procedure, inside)
    }

    fn procedure_done(&mut self, status: i32, failed: bool) -> io::Result<()> {
        Response::procedure_done(self, status, failed)
    }

    fn set_no_count(&mut self, no_count: bool) {
        self.no_count = no_count;
    }

    fn cancelled(&mut self) -> bool {
        self.channel.attention
    }

    fn wait(&mut self, time: Duration) -> io::Result<()> {
        let release = Release::new();
        let waiter = release.clone();
        // The wait of a stall, ended by a clock.
        let clock = std::thread::spawn(move || {
            std::thread::sleep(time);
            waiter.release();
        });
        let result = self.channel.wait(&release, true);
        drop(clock);
        result
    }
}

/// Results as text, the first error, and nothing else.
#[derive(Debug, Default)]
pub struct Collected {
    pub rows: Vec<Vec<Option<String>>>,
    pub error: Option<SqlError>,
    types: Vec<Typed>,
}

impl Output for Collected {
    fn headings(&mut self, headings: &[Heading]) -> io::Result<()> {
        self.types = headings.iter().map(|it| it.typed).collect();
        self.rows.clear();
        Ok(())
    }

    fn order(&mut self, _: &[u16]) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: Cells<'_, '_>) -> io::Result<()> {
        let row = self.types.iter().enumerate().map(|(at, typed)| {
            let value = Datum::of(cells(at));
            if value.is_null() {
                return None;
            }
            let (ty, value) = match typed.ty {
                SqlType::Variant => variant::open(&value, typed.collation).ok()?,
                ty => (ty, value),
            };
            // Bytes as 0x…, dates in full, money with all four digits.
            let style = if ty.is_bytes() {
                1
            } else if ty.is_temporal() {
                121
            } else if matches!(ty, SqlType::Money | SqlType::SmallMoney) {
                2
            } else if ty == SqlType::Float {
                3
            } else {
                0
            };
            text_of(&value, ty, style, collation::default()).ok()
        });
        self.rows.push(row.collect());
        Ok(())
    }

    fn repeat(
        &mut self,
        templates: &[Vec<Datum>],
        rows: Range<u64>,
        made: &dyn Fn(usize, u64) -> Option<i64>,
    ) -> io::Result<()> {
        for row in rows {
            let template = templates.get((row % templates.len().max(1) as u64) as usize);
            let Some(template) = template else { break };
            let cells: Vec<Datum> = template
                .iter()
                .enumerate()
                .map(|(at, kept)| made(at, row).map_or_else(|| kept.clone(), Datum::Int))
                .collect();
            self.row(&|at| cells.get(at).map_or(ValueRef::Null, Datum::as_ref))?;
        }
        Ok(())
    }

    fn done(&mut self, _: u16, _: Option<u64>, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn error(&mut self, error: &SqlError) -> io::Result<()> {
        self.error.get_or_insert_with(|| error.clone());
        Ok(())
    }

    fn info(&mut self, _: i32, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn environment(&mut self, _: u8, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn environment_bytes(&mut self, _: u8, _: &[u8], _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn return_value(&mut self, _: u16, _: &str, _: &Typed, _: &Datum) -> io::Result<()> {
        Ok(())
    }

    fn set_in_procedure(&mut self, _: bool) -> bool {
        false
    }

    fn procedure_done(&mut self, _: i32, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_no_count(&mut self, _: bool) {}

    fn cancelled(&mut self) -> bool {
        false
    }

    fn wait(&mut self, time: Duration) -> io::Result<()> {
        std::thread::sleep(time);
        Ok(())
    }
}
