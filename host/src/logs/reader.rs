//! Reads the log of a pipeline back, across its rotated files, and follows it.
//!
//! Compressed files are not read: they hold the oldest lines, and `zcat` reads them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::append::{KEPT, path_of};
use super::record::{Level, Record};
use crate::error::{Error, ErrorKind, Result};

/// logrotate may be told to keep more files than the host does.
const MOST_FILES: u32 = 100;
/// The most that is read at once while a log is followed.
const MOST_BYTES: u64 = 1 << 20;

/// Which lines of a log are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those of this run.
    pub run: Option<String>,
    /// Those that matter as much as this.
    pub level: Option<Level>,
    /// Those from this time on.
    pub since: Option<jiff::Timestamp>,
}

impl Filter {
    /// Whether it wants this line.
    pub fn wants(&self, record: &Record) -> bool {
        let of_run = self
            .run
            .as_ref()
            .is_none_or(|run| record.facts.run_id.as_ref() == Some(run));
        let matters = self.level.is_none_or(|level| record.level <= level);
        let recent = self.since.is_none_or(|since| {
            record
                .time
                .parse::<jiff::Timestamp>()
                .is_ok_and(|time| time >= since)
        });
        of_run && matters && recent
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As it lies in the file, without its end.
    pub json: String,
    /// What it says.
    pub record: Record,
}

impl Line {
    /// `None` for what is no line of the host's, or was torn by a full disk.
    fn read(json: &[u8]) -> Option<Self> {
        let record = serde_json::from_slice(json).ok()?;
        let json = String::from_utf8(json.to_vec()).ok()?;
        Some(Self { json, record })
    }
}

/// A file that is being followed.
struct Open {
    file: File,
    inode: u64,
    /// How far it has been read.
    position: u64,
}

/// The log of one pipeline.
pub struct Reader {
    folder: PathBuf,
    name: String,
    filter: Filter,
    open: Option<Open>,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Opens the log of a pipeline, at its end: [`next_lines`](Self::next_lines) gives what comes from now on.
    pub fn open(folder: &Path, pipeline: &str, filter: Filter) -> Result<Self> {
        Self::find(folder, pipeline, filter)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Refused,
                format!(
                    "pipeline {pipeline} has no log in {} yet",
                    folder.display()
                ),
            )
            .hint(format!(
                "run it: etl-host run {pipeline}; if it runs elsewhere, as a service for example, name the folder of \
                 its logs with --log-dir"
            ))
        })
    }

    /// As [`open`](Self::open); `None` if the pipeline has no log yet.
    pub fn find(folder: &Path, pipeline: &str, filter: Filter) -> Result<Option<Self>> {
        let mut reader = Self {
            folder: folder.to_owned(),
            name: pipeline.to_owned(),
            filter,
            open: None,
            rest: Vec::new(),
        };
        let files = reader.load_files()?;
        let Some((file, found)) = files.into_iter().next() else {
            return Ok(None);
        };
        reader.open = Some(Open {
            file,
            inode: found.inode,
            position: found.bytes,
        });
        Ok(Some(reader))
    }

    /// The run that was started last, as far as the log knows.
    pub fn load_last_run(&self) -> Result<Option<String>> {
        for (file, found) in self.load_files()? {
            let mut last: Option<String> = None;
            read_lines(file.take(found.bytes), &mut |line| {
                // Identifiers of runs are in the order of their beginnings.
                last = last.take().max(line.record.facts.run_id);
            })
            .map_err(|error| self.cannot_read(&error))?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Only lines of this run from now on.
    pub fn want_run(&mut self, run: String) {
        self.filter.run = Some(run);
    }

    /// The last lines that are there, the oldest first; [`next_lines`](Self::next_lines) goes on behind them.
    pub fn last_lines(&mut self, most: usize) -> Result<Vec<Line>> {
        let files = self.load_files()?;
        let mut lines: VecDeque<Line> = VecDeque::new();
        for (position, (file, found)) in files.into_iter().enumerate() {
            if lines.len() >= most
                || self
                    .filter
                    .since
                    .is_some_and(|since| found.ended_before(since))
            {
                break;
            }
            let mut of_file = VecDeque::new();
            let room = most - lines.len();
            let source = file.try_clone().map_err(|error| self.cannot_read(&error))?;
            let rest = read_lines(source.take(found.bytes), &mut |line| {
                if self.filter.wants(&line.record) {
                    if of_file.len() == room {
                        of_file.pop_front();
                    }
                    of_file.push_back(line);
                }
            })
            .map_err(|error| self.cannot_read(&error))?;
            of_file.append(&mut lines);
            lines = of_file;
            if position == 0 {
                self.rest = rest;
                self.open = Some(Open {
                    file,
                    inode: found.inode,
                    position: found.bytes,
                });
            }
        }
        Ok(lines.into())
    }

    /// The lines that have come since; none if none has. Goes on over rotations.
    pub fn next_lines(&mut self) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        self.read_on(&mut lines)?;
        if lines.is_empty() && self.is_rotated() {
            // What came between the last look and the rotation.
            while self.read_on(&mut lines)? {}
            let ours = self.open.as_ref().map(|open| open.inode);
            let newer: Vec<_> = self
                .load_files()?
                .into_iter()
                .take_while(|(_, found)| Some(found.inode) != ours)
                .collect();
            for (file, found) in newer.into_iter().rev() {
                self.rest.clear();
                self.open = Some(Open {
                    file,
                    inode: found.inode,
                    position: 0,
                });
                while self.read_on(&mut lines)? {}
            }
        }
        Ok(lines)
    }

    /// Reads some more of the open file, and says whether there was more.
    fn read_on(&mut self, lines: &mut Vec<Line>) -> Result<bool> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let mut read = || {
            // Somebody has emptied it, to begin anew.
            if open.file.metadata()?.len() < open.position {
                open.position = 0;
                self.rest.clear();
            }
            open.file.seek(SeekFrom::Start(open.position))?;
            (&open.file).take(MOST_BYTES).read_to_end(&mut self.rest)
        };
        let read = match read() {
            Ok(read) => read,
            Err(error) => return Err(self.cannot_read(&error)),
        };
        open.position += read as u64;
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let complete: Vec<u8> = self.rest.drain(..end.map_or(0, |end| end + 1)).collect();
        let wanted = complete
            .split(|byte| *byte == b'\n')
            .filter_map(Line::read)
            .filter(|line| self.filter.wants(&line.record));
        lines.extend(wanted);
        Ok(read > 0)
    }

    fn is_rotated(&self) -> bool {
        let current = path_of(&self.folder, &self.name, 0).metadata();
        match (&self.open, current) {
            (Some(open), Ok(current)) => current.ino() != open.inode,
            // Renamed, and nobody has begun a new one yet.
            _ => false,
        }
    }

    /// The files of the log, the newest first. One that is renamed meanwhile is not missed, and not taken twice.
    fn load_files(&self) -> Result<Vec<(File, Found)>> {
        let mut files: Vec<(File, Found)> = Vec::new();
        for number in 0..=MOST_FILES {
            let path = path_of(&self.folder, &self.name, number);
            let file = match File::open(&path) {
                Ok(file) => file,
                // logrotate may leave out a number, and the current file may be renamed just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && number <= KEPT => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(self.cannot_read(&error)),
            };
            let found = Found::of(&file).map_err(|error| self.cannot_read(&error))?;
            if files.iter().all(|(_, known)| known.inode != found.inode) {
                files.push((file, found));
            }
        }
        Ok(files)
    }

    fn cannot_read(&self, error: &io::Error) -> Error {
        Error::new(
            ErrorKind::Refused,
            format!(
                "cannot read the log of {} in {}: {error}",
                self.name,
                self.folder.display()
            ),
        )
        .hint("logs are readable for their owner and its group: run the command as one of them")
    }
}

/// What is known of a file when it is opened.
struct Found {
    inode: u64,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl Found {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            inode: found.ino(),
            bytes: found.len(),
            changed: found.modified().ok(),
        })
    }

    fn ended_before(&self, since: jiff::Timestamp) -> bool {
        self.changed
            .and_then(|changed| jiff::Timestamp::try_from(changed).ok())
            .is_some_and(|changed| changed < since)
    }
}

/// Hands on every line, and gives back what comes after the last end of a line.
fn read_lines(source: impl Read, take: &mut impl FnMut(Line)) -> io::Result<Vec<u8>> {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        source.read_until(b'\n', &mut line)?;
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            return Ok(line);
        }
        if let Some(line) = Line::read(&line) {
            take(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::logs::Facts;

    fn line(number: usize, run: &str, level: Level) -> String {
        Record {
            time: format!("2026-11-23T04:00:{number:02}.000Z"),
            level,
            facts: Facts {
                pipeline: Some("copy".to_owned()),
                run_id: Some(run.to_owned()),
                ..Facts::default()
            },
            target: "plugin".to_owned(),
            message: number.to_string(),
            fields: serde_json::Map::new(),
        }
        .to_json_line()
    }

    fn info(numbers: impl IntoIterator<Item = usize>) -> String {
        numbers
            .into_iter()
            .map(|number| line(number, "a", Level::Info))
            .collect()
    }

    fn told(lines: &[Line]) -> String {
        let told: Vec<&str> = lines
            .iter()
            .map(|line| line.record.message.as_str())
            .collect();
        told.join(" ")
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_last_lines_come_from_as_many_files_as_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("copy.log.3"), info(1..4)).unwrap();
        fs::write(folder.join("copy.log.1"), info(4..6)).unwrap();
        fs::write(folder.join("copy.log"), info(6..8) + "torn").unwrap();
        let mut reader = Reader::open(folder, "copy", Filter::default()).unwrap();
        assert_eq!(told(&reader.last_lines(4).unwrap()), "4 5 6 7");
        assert_eq!(told(&reader.last_lines(100).unwrap()), "1 2 3 4 5 6 7");
        assert_eq!(told(&reader.last_lines(0).unwrap()), "");
    }

    #[test]
    fn lines_are_chosen_by_run_level_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let text = [
            line(1, "a", Level::Error),
            line(2, "b", Level::Info),
            line(3, "a", Level::Warn),
            "no line of the host's\n".to_owned(),
            line(4, "a", Level::Info),
        ];
        fs::write(folder.join("copy.log"), text.concat()).unwrap();
        for (run, level, since, expected) in [
            (None, None, None, "1 2 3 4"),
            (Some("a"), None, None, "1 3 4"),
            (Some("a"), Some(Level::Warn), None, "1 3"),
            (None, Some(Level::Error), None, "1"),
            (None, None, Some("2026-11-23T04:00:03Z"), "3 4"),
            (Some("c"), None, None, ""),
        ] {
            let filter = Filter {
                run: run.map(str::to_owned),
                level,
                since: since.map(|since| since.parse().unwrap()),
            };
            let mut reader = Reader::open(folder, "copy", filter).unwrap();
            assert_eq!(told(&reader.last_lines(100).unwrap()), expected);
        }
        let reader = Reader::open(folder, "copy", Filter::default()).unwrap();
        assert_eq!(reader.load_last_run().unwrap().as_deref(), Some("b"));
    }

    #[test]
    fn a_log_is_followed_over_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let [current, first, second] =
            ["copy.log", "copy.log.1", "copy.log.2"].map(|name| folder.join(name));
        append(&current, &info([1]));
        let mut reader = Reader::open(folder, "copy", Filter::default()).unwrap();
        assert_eq!(told(&reader.next_lines().unwrap()), "");
        let two = info([2]);
        let (head, tail) = two.split_at(20);
        append(&current, head);
        assert_eq!(told(&reader.next_lines().unwrap()), "");
        append(&current, tail);
        assert_eq!(told(&reader.next_lines().unwrap()), "2");
        // Two rotations between two looks.
        append(&current, &info([3]));
        fs::rename(&current, &first).unwrap();
        append(&current, &info([4]));
        fs::rename(&first, &second).unwrap();
        fs::rename(&current, &first).unwrap();
        let mut seen = told(&reader.next_lines().unwrap());
        append(&current, &info([5]));
        while let lines = reader.next_lines().unwrap()
            && !lines.is_empty()
        {
            seen = format!("{seen} {}", told(&lines));
        }
        assert_eq!(seen, "3 4 5");
        // Emptied, as `copytruncate` does it.
        fs::write(&current, "").unwrap();
        assert_eq!(told(&reader.next_lines().unwrap()), "");
        append(&current, &info([6]));
        assert_eq!(told(&reader.next_lines().unwrap()), "6");
    }

    #[test]
    fn a_pipeline_without_a_log_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Reader::open(folder.path(), "copy", Filter::default()).err();
        let refused = refused.unwrap();
        assert!(refused.to_string().contains("no log"), "{refused}");
    }
}
