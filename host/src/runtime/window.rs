//! What an attempt reads: its place in the run, the fingerprint it must match, the window, and what goes before it.

use std::cmp::Ordering;
use std::time::Duration;

use etl_plugin_api::{Cursor, TableSchema};
use sha2::{Digest, Sha256};

use super::RunContext;
use super::ranges::{Asked, SharedEnd};
use crate::checkpoint::{Checkpoint, compare};
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, ErrorKind, Result};
use crate::literal::{self, End};
use crate::plan::{PartitionPlan, Plan, Purpose};
use crate::sink::RangeDelete;
use crate::source::{CursorQuery, Range, SourceSession};

/// Where an attempt stands in its run.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// An earlier attempt of this very run has committed, so reading goes on behind it.
    pub resumed: bool,
    /// It goes back behind the checkpoint. An attempt that resumes a `--full-refresh` does not any more: deleting once
    /// more would lose what the first one has loaded.
    pub rewinding: bool,
}

impl Start {
    /// The place by the checkpoint as the attempt found it.
    pub fn new(run: &RunContext, checkpoint: &Checkpoint) -> Self {
        let resumed = checkpoint.run_id == Some(run.mark()) && checkpoint.cursor.is_some();
        Self {
            resumed,
            rewinding: run.plan.rewinds() && !(run.plan.options.full_refresh && resumed),
        }
    }
}

/// The slice of rows that an attempt reads: `(from, until]`.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Rows at or before are loaded already.
    pub from: Option<Cursor>,
    /// Rows beyond are for the next run.
    pub until: Option<Cursor>,
    /// There is certainly nothing in it.
    pub empty: bool,
    /// Nor was there ever, so that nothing is deleted before it is read again.
    pub untouched: bool,
}

pub async fn fingerprint(
    run: &RunContext,
    session: Option<&mut (dyn SourceSession + '_)>,
    range: Option<&Range>,
) -> Result<String> {
    let server = match session {
        Some(session) => session.fingerprint().await?,
        None => format!("plugin:{}", run.plan.config.name),
    };
    Ok(with_query(&server, &run.plan, range))
}

/// A fingerprint: the source's own words, the query's digest, and that of the range.
pub fn with_query(server: &str, plan: &Plan, range: Option<&Range>) -> String {
    let query = &plan.query_digest;
    match range {
        None => format!("{server} query:{query}"),
        Some(range) => format!("{server} query:{query} range:{}", digest_of(range)),
    }
}

/// A range, short: its bounds are values of rows.
fn digest_of(range: &Range) -> String {
    let bound = |bound: Option<i64>| bound.map_or_else(String::new, |bound| bound.to_string());
    let (from, until) = (bound(range.from), bound(range.until));
    let digest = Sha256::digest(format!("{from}..{until} {}", range.column));
    literal::hex(digest.get(..8).unwrap_or_default())
}

/// Fails if the checkpoint belongs to another server, database or query.
pub fn check_fingerprint(
    plan: &Plan,
    partition: &PartitionPlan,
    checkpoint: &Checkpoint,
    fingerprint: &str,
) -> Result<()> {
    let Some(known) = checkpoint
        .fingerprint
        .as_deref()
        .filter(|_| checkpoint.cursor.is_some())
    else {
        return Ok(());
    };
    if known == fingerprint || plan.replaces() || plan.options.full_refresh {
        return Ok(());
    }
    let server = |text: &str| {
        text.rsplit_once(" query:")
            .map_or(text.to_owned(), |(server, _)| server.to_owned())
    };
    let query = |text: &str| {
        let (query, _) = text.split_once(" range:").unwrap_or((text, ""));
        query.to_owned()
    };
    let what = if query(known) == query(fingerprint) {
        "was read with other bounds of its range".to_owned()
    } else if server(known) == server(fingerprint) {
        "was read by another query or cursor column".to_owned()
    } else {
        format!(
            "belongs to {}, but the configuration now names {}",
            server(known),
            server(fingerprint)
        )
    };
    let error = Error::new(
        ErrorKind::Fingerprint,
        format!("the checkpoint of partition {} {what}", partition.name),
    );
    if query(known) == query(fingerprint) {
        // Its rows may belong to another range by now, so this position is of no use.
        return Err(error.hint(format!(
            "delete the shard's rows from {} and start the shard over with `etl-host checkpoint reset {} --partition {} \
             --allow-duplicates`",
            plan.config.sink.table,
            plan.config.name,
            partition.shard.as_deref().unwrap_or(&partition.name)
        )));
    }
    Err(error
    .hint(format!(
        "if this is meant, take the position over with `etl-host checkpoint set {} --partition {} --accept-fingerprint`, \
         or start at the beginning with `etl-host checkpoint reset {} --partition {}`; if two shards swapped places in \
         the configuration, swap them back",
        plan.config.name, partition.name, plan.config.name, partition.name
    )))
}

/// Fixes the window by the checkpoint, the flags and the source's clock.
pub async fn fix_window(
    run: &RunContext,
    checkpoint: &Checkpoint,
    start: Start,
    asked: Option<&Asked>,
    session: Option<&mut (dyn SourceSession + '_)>,
) -> Result<Window> {
    let plan = &run.plan;
    let options = &plan.options;
    let verifies = options.purpose == Purpose::Verify;
    let restart = verifies || plan.replaces() || (options.full_refresh && !start.resumed);
    let mut from = checkpoint.cursor.clone().filter(|_| !restart);
    if asked.is_some_and(|asked| asked.nothing) && !start.rewinding && !plan.replaces() {
        return Ok(Window {
            from,
            until: None,
            empty: true,
            untouched: true,
        });
    }
    let (Some(cursor), Some(asked), Some(session)) = (&plan.config.cursor, asked, session) else {
        return Ok(Window {
            from,
            ..Window::default()
        });
    };
    if plan.previews() {
        return preview_window(run, from, cursor, asked, session).await;
    }
    let bounded_by_hand = options.since.is_some() || options.until.is_some();
    let reload = plan.reloads();
    let mut looked_at = cursor.clone();
    if reload {
        // What was loaded has settled long ago.
        looked_at.settle_delay = Duration::ZERO;
    }
    let found = match &asked.until {
        // Its waits and its look at all rows are done, and nothing else is learnt from them.
        SharedEnd::Fixed(shared) if cursor.kind == CursorKind::Integer => shared.clone(),
        shared => {
            let own = CursorQuery {
                sql: asked.sql.clone(),
                cursor: looked_at,
                from: from.clone().filter(|_| !bounded_by_hand),
                range: asked.range.clone(),
            };
            let own = session.upper_bound(&own).await?;
            match shared {
                SharedEnd::Own => own,
                SharedEnd::Fixed(shared) => own
                    .zip(shared.clone())
                    .map(lesser_of_one_form)
                    .transpose()?,
            }
        }
    };
    let found = match (reload, &checkpoint.cursor) {
        (false, _) => found,
        // All that was loaded is deleted and read again, also where the source has less of it now. Beyond the
        // checkpoint the next run would load the rows once more.
        (true, Some(loaded)) => Some(loaded.clone()),
        (true, None) if verifies => None,
        (true, None) if asked.may_be_empty => {
            return Ok(Window {
                from,
                until: None,
                empty: true,
                untouched: true,
            });
        }
        (true, None) => {
            return Err(Error::config(
                "there is nothing to read again: this partition was never loaded",
            )
            .hint("run the pipeline without going back"));
        }
    };
    let Some(mut until) = found else {
        return Ok(Window {
            from,
            empty: true,
            ..Window::default()
        });
    };
    if let Some(text) = &options.until {
        until = least(until, session.parse_cursor(cursor, text)?)?;
    }
    if let Some(text) = &options.since {
        from = Some(session.parse_cursor(cursor, text)?);
    }
    let empty = from
        .as_ref()
        .is_some_and(|from| compare(from, &until).is_some_and(Ordering::is_ge));
    Ok(Window {
        from,
        until: Some(until),
        empty,
        untouched: false,
    })
}

/// Nothing is committed, so nothing is waited for, and the greatest number, which may take a look at all rows, is not
/// asked for. An end of times is, because the source tells by it how they are written.
async fn preview_window(
    run: &RunContext,
    mut from: Option<Cursor>,
    cursor: &CursorConfig,
    asked: &Asked,
    session: &mut (dyn SourceSession + '_),
) -> Result<Window> {
    let options = &run.plan.options;
    let mut until = None;
    if cursor.kind != CursorKind::Integer {
        let by_hand = options.since.is_some() || options.until.is_some();
        let query = CursorQuery {
            sql: asked.sql.clone(),
            cursor: CursorConfig {
                settle_delay: Duration::ZERO,
                ..cursor.clone()
            },
            from: from.clone().filter(|_| !by_hand),
            range: asked.range.clone(),
        };
        until = session.upper_bound(&query).await?;
    }
    if let Some(text) = &options.until {
        let bound = session.parse_cursor(cursor, text)?;
        until = Some(match until {
            Some(until) => least(until, bound)?,
            None => bound,
        });
    }
    if let Some(text) = &options.since {
        from = Some(session.parse_cursor(cursor, text)?);
    }
    Ok(Window {
        from,
        until,
        ..Window::default()
    })
}

/// The shared end of a window, or the range's own where its session sees less: it may speak with a replica that lags. Both
/// must be written alike, or they would compare wrongly.
fn lesser_of_one_form((own, shared): (Cursor, Cursor)) -> Result<Cursor> {
    let form = |cursor: &Cursor| match cursor {
        Cursor::Text(text) | Cursor::Keyset { time: text, .. } => {
            let digit = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
            // The digits of a rowversion are hexadecimal, and always as many.
            let text = if text.starts_with("0x") { "" } else { text };
            text.bytes().map(digit).collect()
        }
        _ => Vec::new(),
    };
    if form(&own) == form(&shared) {
        return least(own, shared);
    }
    Err(Error::data(
        "the cursor column writes its times in several forms, so its ranges cannot share a window",
    )
    .hint("bring the times to one form in the source, or remove `split_by` and `splits`"))
}

fn least(a: Cursor, b: Cursor) -> Result<Cursor> {
    match compare(&a, &b) {
        Some(Ordering::Greater) => Ok(b),
        Some(_) => Ok(a),
        None => Err(Error::config("the bound is not of the cursor's type")),
    }
}

/// What a rewinding `append` deletes before it loads: the whole partition, or the window.
pub fn ranges_to_delete(
    run: &RunContext,
    tables: &[TableSchema],
    window: &Window,
) -> Result<Vec<RangeDelete>> {
    let plan = &run.plan;
    let Some(partition_column) = &plan.config.sink.partition_column else {
        return Ok(Vec::new());
    };
    tables
        .iter()
        .enumerate()
        .map(|(index, table)| {
            let missing = |column: &str| {
                let (back, _) = plan.options.words();
                Error::config(format!(
                    "{back}: the column `{column}` must be in the output, to delete what is loaded again"
                ))
                .hint(match plan.options.purpose {
                    Purpose::Load => "keep the column in the transformer, or give --allow-duplicates",
                    _ => "keep the column in the transformer",
                })
            };
            table.schema.field_with_name(partition_column).map_err(|_| missing(partition_column))?;
            let range = if plan.options.full_refresh {
                None
            } else {
                let cursor = plan.config.cursor.as_ref().ok_or_else(|| Error::config("going back to a position needs a `cursor`"))?;
                let field = table.schema.field_with_name(&cursor.column).map_err(|_| missing(&cursor.column))?;
                let bound = |cursor: &Option<Cursor>, end| {
                    cursor
                        .as_ref()
                        .map(|cursor| {
                            literal::in_sink(cursor, end, field.data_type()).ok_or_else(|| {
                                Error::config("this bound cannot be compared with the rows in the sink")
                                    .hint(if matches!(cursor, Cursor::Integer(_)) {
                                        "let the query or the transformer give the cursor's column as a number"
                                    } else {
                                        "give it as a time without digits beyond a microsecond, without a keyset's number"
                                    })
                            })
                        })
                        .transpose()
                };
                Some((cursor.column.clone(), bound(&window.from, End::After)?, bound(&window.until, End::UpTo)?))
            };
            Ok(RangeDelete {
                table: index,
                partition_column: partition_column.clone(),
                range,
            })
        })
        .collect()
}
