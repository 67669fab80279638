//! Reads the lines of one log, each once: file by file, each from where it was left.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etl_plugin_api::arrow::array::builder::{Int64Builder, StringBuilder};
use etl_plugin_api::prelude::*;

use crate::folder::{LogFile, failure, open_files};
use crate::lines::Lines;
use crate::position::{Place, Position};

/// Lines per batch, at most.
const LINES: usize = 8192;
/// A batch ends with the line that reaches so many bytes.
const BYTES: usize = 4 << 20;

/// The columns that the lines come in.
pub const FILE: &str = "file";
/// The number of the line in its file.
pub const LINE: &str = "line";
/// The line itself.
pub const TEXT: &str = "text";

/// The extractor.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    logs: BTreeMap<String, String>,
    /// How far each file is read, oldest first.
    places: Vec<Place>,
    /// Files with lines that are not read yet, each with the number of its place.
    unread: VecDeque<(usize, LogFile)>,
    current: Option<Current>,
}

/// The file that is being read.
struct Current {
    place: usize,
    name: String,
    head: Vec<u8>,
    compressed: bool,
    lines: Lines,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl LogReader {
    /// Of these logs in a folder; which one is the partition's business.
    pub fn new(folder: PathBuf, logs: BTreeMap<String, String>) -> Self {
        Self {
            folder,
            logs,
            places: Vec::new(),
            unread: VecDeque::new(),
            current: None,
        }
    }

    /// Goes on with the next file. Its last line may have no end, and never get one, if it is compressed or if two files
    /// have come after it: a server may still write into the one that was rotated last.
    fn open_next(&mut self) -> Result<bool> {
        let Some((place, file)) = self.unread.pop_front() else {
            return Ok(false);
        };
        let is_complete = file.compressed || place + 2 < self.places.len();
        let (name, head, compressed) = (file.name.clone(), file.head.clone(), file.compressed);
        let offset = self.places.get(place).map_or(0, |place| place.offset);
        let lines = Lines::behind(file, offset, is_complete)
            .map_err(|error| failure(&error, "read", &self.folder.join(&name)))?;
        self.current = Some(Current {
            place,
            name,
            head,
            compressed,
            lines,
        });
        Ok(true)
    }
}

impl Extractor for LogReader {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        let log = cx.partition();
        let file = self
            .logs
            .get(log)
            .ok_or_else(|| StageError::config(format!("settings.logs names no log {log}")))?;
        let mut known = Position::read(cx.attempt().from.as_ref())?;
        let first = known.is_empty();
        let mut lost = !first;
        for file in open_files(&self.folder, file)? {
            let place = known.take(&file.head);
            lost &= place.is_none();
            let place = place.unwrap_or_default();
            let is_read = if file.compressed {
                place.ended
            } else {
                place.offset >= file.length
            };
            if !is_read {
                self.unread.push_back((self.places.len(), file));
            }
            self.places.push(place);
        }
        if lost {
            cx.log(
                Level::Warn,
                "none of the files that were read before is there any more: lines in between may be missing. Run more \
                 often, or keep more rotated files",
            );
        }
        Ok(schema())
    }

    fn next(&mut self, _: &dyn ExtractContext) -> Result<Option<Extracted>> {
        while self.current.is_some() || self.open_next()? {
            let Some(current) = &mut self.current else {
                break;
            };
            let Some(place) = self.places.get_mut(current.place) else {
                break;
            };
            let (batch, ended) = read(current, place, &self.folder)?;
            if ended {
                self.current = None;
            }
            // A compressed file without a line that is new has been read to its end all the same.
            if batch.num_rows() > 0 || place.ended {
                let cursor = Position::write(self.places.iter())?;
                return Ok(Some(Extracted {
                    batch,
                    resume: Resume::After(cursor),
                }));
            }
        }
        Ok(None)
    }
}

/// The next lines of a file, and whether there are no more.
fn read(current: &mut Current, place: &mut Place, folder: &Path) -> Result<(RecordBatch, bool)> {
    let (mut numbers, mut texts) = (Int64Builder::new(), StringBuilder::new());
    let (mut rows, mut bytes, mut ended) = (0, 0, false);
    while rows < LINES && bytes < BYTES {
        let next = current.lines.read_line();
        let next = next.map_err(|error| failure(&error, "read", &folder.join(&current.name)))?;
        let Some((line, taken)) = next else {
            ended = true;
            break;
        };
        place.advance(taken);
        numbers.append_value(i64::try_from(place.lines).unwrap_or(i64::MAX));
        texts.append_value(String::from_utf8_lossy(line));
        rows += 1;
        bytes += line.len();
    }
    place.note_head(&current.head);
    place.ended = ended && current.compressed;
    let mut files = StringBuilder::new();
    files.append_value_n(&current.name, rows);
    let batch = RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(files.finish()),
            Arc::new(numbers.finish()),
            Arc::new(texts.finish()),
        ],
    )?;
    Ok((batch, ended))
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(FILE, DataType::Utf8, false),
        Field::new(LINE, DataType::Int64, false),
        Field::new(TEXT, DataType::Utf8, false),
    ]))
}
