//! The functions of T-SQL, and the globals with `@@`.

use super::binder::{Binder, Bound};
use crate::stand_in::calendar::TICKS_PER_SECOND;
use crate::stand_in::convert::instant_as;
use crate::stand_in::datum::{Datum, pack_guid};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::lexer::{Token, tokens};
use crate::stand_in::sql::tree::{Expr, Name};
use crate::stand_in::types::{SqlType as T, Typed, code};
use crate::stand_in::variant;

pub const VERSION: &str = "Microsoft SQL Server 2022 (RTM) - 16.0.4235.0 (X64) (the stand-in of etl-testkit, no SQL Server)";

impl Binder<'_> {
    fn name(&mut self, text: &str) -> Bound {
        self.value(Datum::text(text), T::NVarChar(Some(128)), true)
    }

    fn int(&mut self, value: Option<i64>) -> Bound {
        self.value(value.map_or(Datum::Null, Datum::Int), T::Int, true)
    }

    fn version(&mut self, version: u64, ty: T) -> Bound {
        self.value(Datum::Bytes(version.to_be_bytes().to_vec()), ty, false)
    }

    pub fn global(&mut self, name: &str) -> SqlResult<Bound> {
        let around = self.around;
        Ok(match name {
            "servername" => self.name(&around.engine.server_name()),
            "servicename" => self.name("MSSQLSERVER"),
            "version" => self.value(Datum::text(VERSION), T::NVarChar(Some(300)), false),
            "spid" => self.value(Datum::Int(around.session), T::SmallInt, false),
            "trancount" => self.value(Datum::Int(around.transactions), T::Int, false),
            "rowcount" => self.value(Datum::Int(around.row_count), T::Int, false),
            "dbts" => self.version(around.database.last_version(), T::VarBinary(Some(8))),
            "error" => self.value(Datum::Int(0), T::Int, false),
            "options" => self.value(Datum::Int(5496), T::Int, false),
            "language" => self.name("us_english"),
            "max_precision" => self.value(Datum::Int(38), T::TinyInt, false),
            "textsize" => self.value(Datum::Int(2_147_483_647), T::Int, false),
            "datefirst" => self.value(Datum::Int(7), T::TinyInt, false),
            "lock_timeout" => self.value(Datum::Int(-1), T::Int, false),
            "identity" => return Err(SqlError::unknown("@@IDENTITY")),
            _ => {
                return Err(SqlError::new(
                    137,
                    format!("Must declare the scalar variable \"@@{name}\"."),
                ));
            }
        })
    }

    pub fn call(&mut self, name: &str, arguments: &[Expr]) -> SqlResult<Bound> {
        if let Some(bound) = self.clock(name, arguments)? {
            return Ok(bound);
        }
        if let Some(bound) = self.of_the_catalog(name, arguments)? {
            return Ok(bound);
        }
        if let Some(bound) = self.of_the_session(name, arguments)? {
            return Ok(bound);
        }
        match (name, arguments) {
            ("coalesce", [_, _, ..]) => {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(self.scalar(argument)?);
                }
                let nullable = values.iter().all(|it| it.typed.nullable);
                let (values, typed) = self.unified(values)?;
                let list: Vec<String> = values.into_iter().map(|it| it.sql).collect();
                Ok(self.of_type(
                    format!("coalesce({})", list.join(", ")),
                    Typed { nullable, ..typed },
                ))
            }
            ("isnull", [value, other]) => {
                let (value, other) = (self.scalar(value)?, self.scalar(other)?);
                let ty = if value.constant == Some(Datum::Null) {
                    other.typed.ty
                } else {
                    value.typed.ty
                };
                let typed = Typed {
                    ty,
                    nullable: value.typed.nullable && other.typed.nullable,
                    ..value.typed
                };
                let other = self.cast(other, ty, 0, false, false)?;
                Ok(self.of_type(format!("ifnull({}, {})", value.sql, other.sql), typed))
            }
            ("nullif", [value, other]) => {
                let whens = [(
                    Expr::Compare("=", Box::new(value.clone()), Box::new(other.clone())),
                    Expr::Null,
                )];
                self.expression(&Expr::Case {
                    operand: None,
                    whens: whens.to_vec(),
                    otherwise: Some(Box::new(value.clone())),
                })
            }
            ("iif", [condition, yes, no]) => {
                let whens = vec![(condition.clone(), yes.clone())];
                self.expression(&Expr::Case {
                    operand: None,
                    whens,
                    otherwise: Some(Box::new(no.clone())),
                })
            }
            ("count" | "count_big", [value]) => {
                let value = self.aggregated(value)?;
                let ty = if name == "count" { T::Int } else { T::BigInt };
                Ok(self.made(format!("count({})", value.sql), ty, true))
            }
            ("min" | "max", [value]) => {
                let value = self.aggregated(value)?;
                if value.typed.ty.is_large_object() || value.typed.ty == T::Bit {
                    return Err(SqlError::new(
                        8117,
                        format!(
                            "Operand data type {} is invalid for {name} operator.",
                            value.typed.ty.base_name()
                        ),
                    ));
                }
                let by = super::binder::collated(&value.sql, &value.typed);
                Ok(self.of_type(
                    format!("{name}({by})"),
                    Typed {
                        nullable: true,
                        ..value.typed
                    },
                ))
            }
            ("sum", [value]) => self.sum(value),
            ("abs", [value]) => {
                let value = self.scalar(value)?;
                match value.typed.ty {
                    ty if ty.is_integer()
                        || matches!(ty, T::Real | T::Float | T::Money | T::SmallMoney) =>
                    {
                        Ok(self.of_type(format!("abs({})", value.sql), value.typed))
                    }
                    other => Err(SqlError::unknown(format!("ABS of {}", other.base_name()))),
                }
            }
            ("newid", []) => {
                let bytes: [u8; 16] = rand::random();
                Ok(self.value(Datum::Bytes(pack_guid(&bytes)), T::Guid, false))
            }
            ("char" | "nchar", [number]) => {
                let number = self.constant_integer(number)?;
                let text = u32::try_from(number)
                    .ok()
                    .and_then(char::from_u32)
                    .map(String::from);
                let ty = if name == "char" {
                    T::Char(1)
                } else {
                    T::NChar(if number > 0xffff { 2 } else { 1 })
                };
                Ok(self.value(text.map_or(Datum::Null, Datum::Text), ty, true))
            }
            _ => self.of_texts(name, arguments),
        }
    }

    fn of_type(&self, sql: String, typed: Typed) -> Bound {
        Bound {
            typed,
            ..self.made(sql, typed.ty, typed.nullable)
        }
    }

    fn aggregated(&mut self, value: &Expr) -> SqlResult<Bound> {
        if self.inside_aggregate {
            return Err(SqlError::new(
                130,
                "Cannot perform an aggregate function on an expression containing an aggregate or a subquery.",
            ));
        }
        self.inside_aggregate = true;
        let bound = self.scalar(value);
        self.inside_aggregate = false;
        self.aggregates += 1;
        bound
    }

    fn sum(&mut self, value: &Expr) -> SqlResult<Bound> {
        let value = self.aggregated(value)?;
        let ty = value.typed.ty;
        Ok(match ty {
            T::TinyInt | T::SmallInt | T::Int => self.made(
                format!("t_in_range(sum({}), {})", value.sql, code(T::Int)),
                T::Int,
                true,
            ),
            T::BigInt => self.made(format!("sum({})", value.sql), T::BigInt, true),
            T::Money | T::SmallMoney => self.made(format!("sum({})", value.sql), T::Money, true),
            T::Real | T::Float => self.made(format!("sum({})", value.sql), T::Float, true),
            T::Decimal(_, s) | T::Numeric(_, s) => self.made(
                format!("t_decimal_sum({})", value.sql),
                T::Decimal(38, s),
                true,
            ),
            _ => {
                return Err(SqlError::new(
                    8117,
                    format!(
                        "Operand data type {} is invalid for sum operator.",
                        ty.base_name()
                    ),
                ));
            }
        })
    }

    fn clock(&mut self, name: &str, arguments: &[Expr]) -> SqlResult<Option<Bound>> {
        let utc = self.around.now;
        let zone = self.around.engine.time_zone_minutes();
        let local = utc + zone * 60 * TICKS_PER_SECOND;
        let (ticks, offset, ty) = match (name, arguments) {
            ("sysutcdatetime", []) => (utc, None, T::DateTime2(7)),
            ("sysdatetime", []) => (local, None, T::DateTime2(7)),
            ("sysdatetimeoffset", []) => (local, Some(zone), T::DateTimeOffset(7)),
            ("getutcdate", []) => (utc, None, T::DateTime),
            ("getdate", []) => (local, None, T::DateTime),
            ("dateadd", [part, number, value]) => {
                let Expr::Column(part) = part else {
                    return Err(SqlError::new(
                        1023,
                        "Invalid parameter 1 specified for dateadd.",
                    ));
                };
                let part = part.join(".").to_ascii_lowercase().replace('\'', "");
                let number = self.scalar(number)?;
                let number = self.cast(number, T::Int, 0, false, false)?;
                let value = self.scalar(value)?;
                // A text is a datetime here.
                let value = if value.typed.ty.is_text() {
                    self.cast(value, T::DateTime, 0, false, false)?
                } else {
                    value
                };
                let ty = value.typed.ty;
                if let (Some(number), Some(value)) = (&number.constant, &value.constant) {
                    let moved = super::arithmetic::date_add(&part, number, value, ty)?;
                    return Ok(Some(self.value(moved, ty, true)));
                }
                let sql = format!(
                    "t_dateadd('{part}', {}, {}, {})",
                    number.sql,
                    value.sql,
                    code(ty)
                );
                return Ok(Some(self.made(sql, ty, true)));
            }
            _ => return Ok(None),
        };
        let value = instant_as(ticks, offset, ty).unwrap_or(Datum::Null);
        Ok(Some(self.value(value, ty, false)))
    }

    fn of_the_catalog(&mut self, name: &str, arguments: &[Expr]) -> SqlResult<Option<Bound>> {
        let around = self.around;
        Ok(Some(match (name, arguments) {
            ("db_name", []) => self.name(&around.database.name),
            ("db_name", [id]) => {
                let id = self.constant_integer(id)?;
                let found = around.engine.databases().into_iter().find(|it| it.id == id);
                self.value(
                    found.map_or(Datum::Null, |it| Datum::text(&*it.name)),
                    T::NVarChar(Some(128)),
                    true,
                )
            }
            ("db_id", []) => self.int(Some(around.database.id)),
            ("db_id", [name]) => {
                let name = self.constant_text(name)?.unwrap_or_default();
                let id = around.engine.database(&name).ok().map(|it| it.id);
                self.int(id)
            }
            ("object_id", [name] | [name, _]) => {
                let name = self.constant_text(name)?.and_then(|it| object_name(&it));
                let id = name.and_then(|name| {
                    let database = match name.database() {
                        Some(database) => around.engine.database(database).ok()?,
                        None => std::sync::Arc::clone(&around.database),
                    };
                    database.catalog().find(&name).map(|it| it.id)
                });
                self.int(id)
            }
            ("object_name" | "object_schema_name", [id]) => {
                let id = self.constant_integer(id)?;
                let found = around.database.catalog().by_id(id).cloned();
                let text = found.map_or(Datum::Null, |it| {
                    Datum::text(if name == "object_name" {
                        &*it.name
                    } else {
                        &*it.schema
                    })
                });
                self.value(text, T::NVarChar(Some(128)), true)
            }
            ("schema_name", []) => self.name("dbo"),
            ("schema_name", [id]) => {
                let id = self.constant_integer(id)?;
                self.value(
                    if id == 1 {
                        Datum::text("dbo")
                    } else {
                        Datum::Null
                    },
                    T::NVarChar(Some(128)),
                    true,
                )
            }
            ("col_name", [table, column]) => {
                let (table, column) = (self.scalar(table)?, self.scalar(column)?);
                // The arguments are columns of a view as a rule, so the names travel with the query.
                let mut sql = "CASE".to_owned();
                for it in around.database.catalog().tables() {
                    for known in &it.columns {
                        let name = self.name(&known.name);
                        sql += &format!(
                            " WHEN {} = {} AND {} = {} THEN {}",
                            table.sql, it.id, column.sql, known.id, name.sql
                        );
                    }
                }
                if sql == "CASE" {
                    return Ok(Some(self.value(Datum::Null, T::NVarChar(Some(128)), true)));
                }
                self.made(format!("{sql} END"), T::NVarChar(Some(128)), true)
            }
            ("databasepropertyex", [database, property]) => {
                let database = self.constant_text(database)?.unwrap_or_default();
                let property = self.constant_text(property)?.unwrap_or_default();
                let found = around.engine.database(&database).ok();
                let value = match (found, property.to_ascii_lowercase().as_str()) {
                    (None, _) => Datum::Null,
                    (Some(it), "collation") => variant::wrap(
                        &Datum::text(&*it.collation.name),
                        T::NVarChar(Some(128)),
                        self.collation(),
                    )?,
                    (Some(_), "status") => variant::wrap(
                        &Datum::text("ONLINE"),
                        T::NVarChar(Some(128)),
                        self.collation(),
                    )?,
                    (Some(_), "updateability") => variant::wrap(
                        &Datum::text("READ_WRITE"),
                        T::NVarChar(Some(128)),
                        self.collation(),
                    )?,
                    _ => {
                        return Err(SqlError::unknown(format!(
                            "the database property {property}"
                        )));
                    }
                };
                self.value(value, T::Variant, true)
            }
            _ => return Ok(None),
        }))
    }

    fn of_the_session(&mut self, name: &str, arguments: &[Expr]) -> SqlResult<Option<Bound>> {
        let around = self.around;
        Ok(Some(match (name, arguments) {
            ("rowcount_big", []) => self.value(Datum::Int(around.row_count), T::BigInt, false),
            ("min_active_rowversion", []) => {
                self.version(around.database.lowest_open_version(), T::Binary(8))
            }
            ("app_name" | "program_name", []) => self.name(around.app_name),
            ("host_name", []) => self.name(around.host_name),
            ("suser_sname" | "suser_name" | "original_login", []) => self.name(around.user),
            ("user_name" | "current_user", []) => self.name("dbo"),
            ("xact_state", []) => self.value(
                Datum::Int(i64::from(around.transactions > 0)),
                T::SmallInt,
                false,
            ),
            ("has_perms_by_name", [_, _, _, ..])
            | ("is_srvrolemember" | "is_member" | "is_rolemember", [_, ..]) => {
                for argument in arguments {
                    self.scalar(argument)?;
                }
                self.int(Some(1))
            }
            ("serverproperty", [property]) => {
                let property = self.constant_text(property)?.unwrap_or_default();
                let text = |it: &str| {
                    variant::wrap(
                        &Datum::text(it),
                        T::NVarChar(Some(128)),
                        around.database.collation,
                    )
                };
                let number =
                    |it: i64| variant::wrap(&Datum::Int(it), T::Int, around.database.collation);
                let server = around.engine.server_name();
                let value = match property.to_ascii_lowercase().as_str() {
                    "productversion" => text("16.0.4235.0")?,
                    "productmajorversion" => text("16")?,
                    "productminorversion" => text("0")?,
                    "productlevel" => text("RTM")?,
                    "productupdatelevel" => Datum::Null,
                    "edition" => text("Developer Edition (64-bit)")?,
                    "engineedition" => number(3)?,
                    "servername" | "machinename" | "computernamephysicalnetbios" => text(&server)?,
                    "instancename" => Datum::Null,
                    "collation" => text(crate::stand_in::collation::DEFAULT)?,
                    "ishadrenabled"
                    | "isclustered"
                    | "isintegratedsecurityonly"
                    | "issingleuser" => number(0)?,
                    "isfulltextinstalled" | "isxtpsupported" => number(1)?,
                    _ => Datum::Null,
                };
                self.value(value, T::Variant, true)
            }
            _ => return Ok(None),
        }))
    }

    fn of_texts(&mut self, name: &str, arguments: &[Expr]) -> SqlResult<Bound> {
        let counts = match name {
            "len" | "datalength" | "upper" | "lower" | "ltrim" | "rtrim" | "trim" => 1..=1,
            "left" | "right" | "replicate" => 2..=2,
            "substring" | "replace" => 3..=3,
            "concat" => 2..=254,
            _ => return Err(SqlError::no_function(name)),
        };
        if !counts.contains(&arguments.len()) {
            return Err(SqlError::new(
                174,
                format!("The {name} function requires another number of arguments."),
            ));
        }
        let mut values = Vec::new();
        for (at, argument) in arguments.iter().enumerate() {
            let value = self.scalar(argument)?;
            let is_number = at > 0 && !matches!(name, "concat" | "replace");
            values.push(if is_number {
                self.cast(value, T::BigInt, 0, false, false)?
            } else if name == "datalength" {
                value
            } else {
                self.as_any_text(value)?
            });
        }
        let Some(first) = values.first().map(|it| it.typed) else {
            return Err(SqlError::no_function(name));
        };
        let length = match name {
            "concat" => {
                let mut lengths = values.iter().map(|it| it.typed.ty.chars().flatten());
                lengths.try_fold(0_u16, |sum, it| it.map(|it| sum.saturating_add(it)))
            }
            "replicate" if first.ty.chars() != Some(None) => {
                Some(if first.ty.is_unicode() { 4000 } else { 8000 })
            }
            "replace" => first
                .ty
                .chars()
                .flatten()
                .map(|_| if first.ty.is_unicode() { 4000 } else { 8000 }),
            _ => first.ty.chars().flatten(),
        };
        let unicode = values.iter().any(|it| it.typed.ty.is_unicode());
        let ty = match name {
            "len" | "datalength"
                if first.ty.chars() == Some(None) || first.ty == T::VarBinary(None) =>
            {
                T::BigInt
            }
            "len" | "datalength" => T::Int,
            _ if unicode => T::NVarChar(length.map(|it| it.clamp(1, 4000))),
            _ => T::VarChar(length.map(|it| it.clamp(1, 8000))),
        };
        let list: Vec<String> = values.into_iter().map(|it| it.sql).collect();
        let sql = format!(
            "t_text('{name}', {}, '{}', {})",
            code(first.ty),
            first.collation.name,
            list.join(", ")
        );
        Ok(self.of_type(
            sql,
            Typed {
                ty,
                nullable: true,
                ..first
            },
        ))
    }
}

/// A name in a text: `dbo.t`, `[a].[b]`.
pub fn object_name(text: &str) -> Option<Name> {
    let mut parts = vec![String::new()];
    for (token, _) in tokens(text).ok()? {
        match token {
            Token::Word(name) | Token::Name(name) => name.clone_into(parts.last_mut()?),
            Token::Symbol(".") => parts.push(String::new()),
            Token::End => return Some(Name(parts)),
            _ => return None,
        }
    }
    None
}
