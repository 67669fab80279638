//! The procedures that clients call: `sp_executesql`, `sp_describe_first_result_set`, `sp_prepare` and its kin.

use rusqlite::types::ValueRef;

use super::{Argument, Session, Stop, Struck};
use crate::stand_in::convert::{How, convert};
use crate::stand_in::datum::Datum;
use crate::stand_in::engine::binder::{Variable, Variables};
use crate::stand_in::engine::{describe, query};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::output::Output;
use crate::stand_in::sql::parser;
use crate::stand_in::sql::tree::Statement;
use crate::stand_in::types::{SqlType as T, Typed};
use crate::stand_in::wire::response::{Heading, command};

impl Session {
    /// Calls a procedure; says whether there was no error.
    pub fn procedure(
        &mut self,
        name: &str,
        arguments: Vec<Argument>,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        // Texts that run texts that run texts would never end.
        if self.depth > 8 {
            return Err(SqlError::new(217, "Maximum stored procedure, function, trigger, or view nesting level exceeded (limit 32).").into());
        }
        self.depth += 1;
        let before = out.set_in_procedure(true);
        let result = self.called(name, arguments, out, struck);
        self.depth -= 1;
        let fine = match result {
            Err(Stop::Error(error)) => {
                self.failed(&error, 1, out)?;
                false
            }
            other => other?,
        };
        out.set_in_procedure(before);
        out.procedure_done(i32::from(!fine), !fine)?;
        Ok(fine)
    }

    fn called(
        &mut self,
        name: &str,
        arguments: Vec<Argument>,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        match name.to_ascii_lowercase().as_str() {
            "sp_executesql" => self.execute_sql(arguments, out, struck),
            "sp_describe_first_result_set" => self.describe(&arguments, out).map(|()| true),
            "sp_prepare" => {
                let handle = self.prepare(&arguments, 1, 2)?;
                self.give_handle(handle, out)?;
                Ok(true)
            }
            "sp_prepexec" => {
                let handle = self.prepare(&arguments, 1, 2)?;
                self.give_handle(handle, out)?;
                self.execute_prepared(handle, arguments.into_iter().skip(3).collect(), out, struck)
            }
            "sp_execute" => {
                let handle = integer(arguments.first());
                self.execute_prepared(handle, arguments.into_iter().skip(1).collect(), out, struck)
            }
            "sp_unprepare" => {
                self.prepared.remove(&integer(arguments.first()));
                Ok(true)
            }
            _ => Err(SqlError::new(
                2812,
                format!(
                    "Could not find stored procedure '{name}'. (the stand-in does not know it)"
                ),
            )
            .into()),
        }
    }

    fn execute_sql(
        &mut self,
        arguments: Vec<Argument>,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        let mut arguments = arguments.into_iter();
        let statement = required(arguments.next(), "statement")?;
        let declared = text(arguments.next().as_ref());
        self.run(&statement, &declared, arguments.collect(), out, struck)
    }

    fn run(
        &mut self,
        statement: &str,
        declared: &str,
        arguments: Vec<Argument>,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        let outputs: Vec<(u16, String)> = arguments
            .iter()
            .enumerate()
            .filter(|(_, it)| it.output)
            .filter_map(|(at, it)| Some((at as u16 + 2, it.name.clone()?)))
            .collect();
        let mut variables = self.parameters(declared, arguments)?;
        let fine = self.batch(statement, &mut variables, out, struck)?;
        for (ordinal, name) in outputs {
            if let Some(variable) = variables.get(&name) {
                let typed = Typed {
                    ty: variable.ty,
                    nullable: true,
                    collation: self.database.collation,
                };
                out.return_value(ordinal, &name, &typed, &variable.value)?;
            }
        }
        Ok(fine)
    }

    /// The declared parameters with their values, converted to the declared types.
    fn parameters(&self, declared: &str, arguments: Vec<Argument>) -> SqlResult<Variables> {
        let declared = parser::declarations(declared)?;
        let mut variables = Variables::new();
        for (position, argument) in arguments.into_iter().enumerate() {
            let name = argument.name.filter(|it| !it.is_empty());
            let found = match &name {
                Some(name) => declared.iter().find(|it| it.0 == *name),
                None => declared.get(position),
            };
            let Some((name, ty)) = found else {
                return Err(SqlError::new(
                    8145,
                    format!(
                        "{} is not a parameter for procedure sp_executesql.",
                        name.unwrap_or_default()
                    ),
                ));
            };
            let how = How {
                style: 0,
                assign: false,
                collation: self.database.collation,
            };
            let value = convert(&argument.value, argument.ty, *ty, how)?;
            variables.insert(name.clone(), Variable { ty: *ty, value });
        }
        for (name, _) in &declared {
            if !variables.contains_key(name) {
                return Err(SqlError::new(
                    8178,
                    format!(
                        "The parameterized query expects the parameter '@{name}', which was not supplied."
                    ),
                ));
            }
        }
        Ok(variables)
    }

    fn prepare(
        &mut self,
        arguments: &[Argument],
        declared: usize,
        statement: usize,
    ) -> SqlResult<i64> {
        let statement = text(arguments.get(statement));
        parser::batch(&statement)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.prepared
            .insert(handle, (text(arguments.get(declared)), statement));
        Ok(handle)
    }

    fn give_handle(&self, handle: i64, out: &mut dyn Output) -> Result<(), Stop> {
        let typed = Typed {
            ty: T::Int,
            nullable: true,
            collation: self.database.collation,
        };
        out.return_value(0, "handle", &typed, &Datum::Int(handle))?;
        Ok(())
    }

    fn execute_prepared(
        &mut self,
        handle: i64,
        arguments: Vec<Argument>,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        let Some((declared, statement)) = self.prepared.get(&handle).cloned() else {
            return Err(SqlError::new(
                8179,
                format!("Could not find prepared statement with handle {handle}."),
            )
            .into());
        };
        self.run(&statement, &declared, arguments, out, struck)
    }

    fn describe(&mut self, arguments: &[Argument], out: &mut dyn Output) -> Result<(), Stop> {
        let by_name = |name: &str, position: usize| {
            arguments
                .iter()
                .find(|it| it.name.as_deref() == Some(name))
                .or_else(|| {
                    arguments
                        .get(position)
                        .filter(|it| it.name.as_ref().is_none_or(String::is_empty))
                })
        };
        let statement = required(by_name("tsql", 0).cloned(), "tsql")?;
        let declared = text(by_name("params", 1));
        let browse = match by_name("browse_information_mode", 2).map(|it| &it.value) {
            Some(Datum::Int(mode)) => *mode != 0,
            Some(Datum::Text(mode)) => mode != "0",
            _ => false,
        };
        let variables = parser::declarations(&declared)?
            .into_iter()
            .map(|(name, ty)| {
                (
                    name,
                    Variable {
                        ty,
                        value: Datum::Null,
                    },
                )
            })
            .collect();
        let lines = parser::batch(&statement)?;
        let select = lines.iter().find_map(|line| match &line.statement {
            Statement::Select(select) => Some(select),
            _ => None,
        });
        let rows = match select {
            Some(select) => describe::rows(&query::bind(select, &self.around(&variables))?, browse),
            None => Vec::new(),
        };
        let headings: Vec<Heading> = describe::COLUMNS
            .iter()
            .map(|(name, ty, nullable)| Heading {
                name: (*name).to_owned(),
                typed: Typed {
                    ty: *ty,
                    nullable: *nullable,
                    collation: self.database.collation,
                },
                identity: false,
                updatable: false,
                table: None,
            })
            .collect();
        out.headings(&headings)?;
        for row in &rows {
            out.row(&|at| row.get(at).map_or(ValueRef::Null, Datum::as_ref))?;
        }
        self.row_count = rows.len() as i64;
        out.done(command::SELECT, Some(rows.len() as u64), false)?;
        Ok(())
    }
}

fn text(argument: Option<&Argument>) -> String {
    match argument.map(|it| &it.value) {
        Some(Datum::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn integer(argument: Option<&Argument>) -> i64 {
    match argument.map(|it| &it.value) {
        Some(Datum::Int(it)) => *it,
        _ => 0,
    }
}

fn required(argument: Option<Argument>, name: &str) -> SqlResult<String> {
    match argument.map(|it| it.value) {
        Some(Datum::Text(text)) => Ok(text),
        _ => Err(SqlError::new(
            214,
            format!("Procedure expects parameter '@{name}' of type 'ntext/nchar/nvarchar'."),
        )),
    }
}
