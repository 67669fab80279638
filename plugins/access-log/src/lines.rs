//! The lines of one open file, from an offset on. Plain or compressed makes no difference to whoever reads them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;

use crate::folder::LogFile;

/// Longest line that is kept whole; of a longer one the beginning, which is no line of a server any more.
const LONGEST: u64 = 1 << 20;

/// Reads lines.
pub struct Lines {
    content: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    /// Whether the last line may be without an end.
    is_complete: bool,
}

impl Lines {
    /// The lines behind an offset of the uncompressed content. Unless the file is complete, a last line without an end is
    /// still being written, and left out. Of a file that grows only what was there when it was opened is read.
    pub fn behind(file: LogFile, offset: u64, is_complete: bool) -> io::Result<Self> {
        let content: Box<dyn BufRead + Send> = if file.compressed {
            let mut content = BufReader::new(MultiGzDecoder::new(BufReader::new(file.file)));
            io::copy(&mut (&mut content).take(offset), &mut io::sink())?;
            Box::new(content)
        } else {
            Box::new(plain(file.file, offset, file.length)?)
        };
        Ok(Self {
            content,
            line: Vec::new(),
            is_complete,
        })
    }

    /// The next line without its end, and how many bytes of the content it takes with it.
    pub fn read_line(&mut self) -> io::Result<Option<(&[u8], u64)>> {
        self.line.clear();
        let mut bytes = self
            .content
            .by_ref()
            .take(LONGEST)
            .read_until(b'\n', &mut self.line)? as u64;
        let mut ended = self.line.ends_with(b"\n");
        if !ended && bytes == LONGEST {
            let rest = skip_line(&mut self.content)?;
            bytes += rest.bytes;
            ended = rest.ended;
        }
        if bytes == 0 || !(ended || self.is_complete) {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), bytes)))
    }
}

fn plain(mut file: File, offset: u64, length: u64) -> io::Result<impl BufRead + Send> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::new(file.take(length.saturating_sub(offset))))
}

struct Skipped {
    bytes: u64,
    ended: bool,
}

fn skip_line(content: &mut dyn BufRead) -> io::Result<Skipped> {
    let mut bytes = 0;
    loop {
        let ahead = content.fill_buf()?;
        let end = ahead.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(ahead.len(), |end| end + 1);
        let last = end.is_some() || taken == 0;
        content.consume(taken);
        bytes += taken as u64;
        if last {
            return Ok(Skipped {
                bytes,
                ended: end.is_some(),
            });
        }
    }
}
