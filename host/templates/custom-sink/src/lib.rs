//! Writes orders to files of JSON lines, one file for each commit.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use etl_plugin_api::CommitToken;
use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::types::Int64Type;
use etl_plugin_api::arrow::array::{Array, ArrayRef};
use etl_plugin_api::prelude::*;
use serde_json::{Value as Json, json};

/// The pipeline. It leaves the reading to the host, and loads rows itself.
pub struct {{type_name}};

/// `settings:` of the configuration.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the files go.
    folder: PathBuf,
}

impl Pipeline for {{type_name}} {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            // It can tell what its last commit was, so no row comes twice.
            .delivery(Delivery::Idempotent)
            // It writes into the folder that the setting names; nothing else can be reached.
            .capabilities(Capabilities::none().writable("settings.folder"))
    }

    fn loader(&self, settings: &Settings) -> Result<Option<Box<dyn Loader>>> {
        Ok(Some(Box::new(Files {
            folder: settings.folder.clone(),
            last: 0,
            lines: String::new(),
        })))
    }
}

/// The files of one partition: `<folder>/<partition>/00000001.jsonl` and so on.
///
/// The first line of a file holds the token of its commit, the others a row each. Token and rows become durable together,
/// by one rename; that is what makes it safe to ask "have you got this already?". Whoever takes files away leaves the last
/// one there.
struct Files {
    folder: PathBuf,
    /// The number of the last file.
    last: u64,
    /// Rows since the last commit.
    lines: String,
}

impl Loader for Files {
    /// Called once: tells the token of the last commit that is there. If the host died before it knew of that commit, it
    /// learns it here.
    fn open(&mut self, cx: &dyn LoadContext, _: &[TableSchema]) -> Result<Option<CommitToken>> {
        self.folder.push(below(cx.partition())?);
        fs::create_dir_all(&self.folder)?;
        let Some((number, last)) = last_file(&self.folder)? else {
            return Ok(None);
        };
        self.last = number;
        let text = fs::read_to_string(&last)?;
        let first: Json = serde_json::from_str(text.lines().next().unwrap_or_default())
            .fatal("the last file is damaged; move it away")?;
        let token = first["token"].as_str();
        Ok(token.map(|token| CommitToken(token.to_owned())))
    }

    /// Called for each batch. Every row must be accounted for: loaded here, all of them.
    fn load(&mut self, _: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        for row in 0..output.batch.num_rows() {
            let line = to_json(&output.batch, row)?;
            self.lines.push_str(&format!("{line}\n"));
        }
        Ok(Loaded {
            loaded: output.batch.num_rows() as u64,
            ..Loaded::default()
        })
    }

    /// Makes the rows since the last commit durable, together with the token.
    fn commit(&mut self, _: &dyn LoadContext, token: &CommitToken) -> Result<()> {
        self.last += 1;
        let path = self.folder.join(format!("{:08}.jsonl", self.last));
        let text = format!("{}\n{}", json!({ "token": token.0 }), self.lines);
        write_whole(&path, &text)?;
        self.lines.clear();
        Ok(())
    }
}

/// A row as JSON, whatever columns it has. For other types than these add a line.
fn to_json(batch: &RecordBatch, row: usize) -> Result<Json> {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    let cells = cells.map(|(field, column)| Ok((field.name().clone(), cell(column, row)?)));
    Ok(Json::Object(cells.collect::<Result<_>>()?))
}

fn cell(column: &ArrayRef, row: usize) -> Result<Json> {
    if column.is_null(row) {
        return Ok(Json::Null);
    }
    match column.data_type() {
        DataType::Int64 => Ok(column.as_primitive::<Int64Type>().value(row).into()),
        DataType::Utf8 => Ok(column.as_string::<i32>().value(row).into()),
        other => Err(StageError::config(format!(
            "a column has the type {other}, which this loader cannot write; CAST it in the query"
        ))),
    }
}

/// The partition's name as a folder. Shards may have any name: one with `..` must not lead elsewhere.
fn below(partition: &str) -> Result<&Path> {
    let path = Path::new(partition);
    let plain = |part| matches!(part, Component::Normal(_));
    if path.components().all(plain) {
        Ok(path)
    } else {
        Err(StageError::config(
            "the shard's name cannot be a folder's; choose another `name`",
        ))
    }
}

/// The last file of a folder, with its number.
fn last_file(folder: &Path) -> Result<Option<(u64, PathBuf)>> {
    let mut last = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            last = last.max(number.map(|number| (number, path)));
        }
    }
    Ok(last)
}

/// The rename makes the file appear complete or not at all.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // The name is durable once its folder is.
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

etl_plugin_api::export_pipelines!({{type_name}});
