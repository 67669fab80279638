//! One line of an access log in the common or the combined format, as Apache and nginx write it.
//!
//! ```text
//! 203.0.113.7 - ann [10/Oct/2026:13:55:36 +0200] "GET /a?b HTTP/1.1" 200 2326 "https://example.com/" "curl/8.14"
//! ```
//!
//! Knows nothing of files and columns. What is wrong with a line is told without quoting it.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The address, or the host's name where the server looks it up.
    pub client: &'a str,
    /// Who has logged in.
    pub user: Option<&'a str>,
    /// When the request came (Apache) or was answered (nginx).
    pub time: Timestamp,
    /// What was asked for; `None` where the client sent nothing.
    pub request: Option<Request<'a>>,
    /// The status of the answer.
    pub status: i32,
    /// Its bytes without head; `-`, which Apache writes for none, is 0.
    pub bytes: i64,
    /// Where the client came from.
    pub referer: Option<Cow<'a, str>>,
    /// What the client says it is.
    pub user_agent: Option<Cow<'a, str>>,
}

/// The first line of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`; `None` where the request is not one of HTTP, as those of scanners.
    pub method: Option<Cow<'a, str>>,
    /// The path with its query; all of a request that is not one of HTTP.
    pub path: Cow<'a, str>,
    /// `HTTP/1.1`.
    pub protocol: Option<Cow<'a, str>>,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The column that it has no value for.
    pub column: &'static str,
    /// Why, without the line's content.
    pub reason: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)
    }
}

const BREAKS_OFF: &str = "the line breaks off";
/// How long `10/Oct/2026:13:55:36 +0200` is.
const TIME_LENGTH: usize = 26;

impl<'a> Line<'a> {
    /// Reads a line. Unless `further` is set, nothing may follow the user agent.
    pub fn parse(line: &'a str, further: bool) -> Result<Self, Broken> {
        let (who, time, rest) = split_at_time(line).ok_or(Broken {
            column: "time",
            reason: "no time such as [10/Oct/2026:13:55:36 +0200] before a request in quotes",
        })?;
        let mut words = who.splitn(3, ' ');
        let (client, user) = (words.next().unwrap_or_default(), words.nth(1));
        let user = user
            .filter(|_| !client.is_empty())
            .ok_or(broken("client", "no client, identity and user"))?;
        let (request, rest) = quoted(rest).ok_or(broken("path", BREAKS_OFF))?;
        let (status, rest) = word(rest).ok_or(broken("status", BREAKS_OFF))?;
        let (bytes, rest) = word(rest).ok_or(broken("bytes", BREAKS_OFF))?;
        let (referer, rest) = optional(rest, "referer")?;
        let (user_agent, rest) = if referer.is_some() {
            optional(rest, "user_agent")?
        } else {
            (None, rest)
        };
        if referer.is_some() && user_agent.is_none() {
            return Err(broken("user_agent", BREAKS_OFF));
        }
        if !(rest.is_empty() || further && rest.starts_with(' ')) {
            return Err(broken(
                "user_agent",
                "more follows than the combined format has; if that is meant, set settings.ignore_further_fields",
            ));
        }
        Ok(Self {
            client,
            user: Some(user).filter(|user| *user != "-"),
            time,
            request: Request::parse(request),
            status: whole(status)
                .and_then(|status| i32::try_from(status).ok())
                .ok_or(broken("status", "the status is no number"))?,
            bytes: match bytes {
                "-" => 0,
                bytes => whole(bytes).ok_or(broken("bytes", "the bytes are no number"))?,
            },
            referer: referer.and_then(present),
            user_agent: user_agent.and_then(present),
        })
    }
}

impl<'a> Request<'a> {
    fn parse(raw: &'a str) -> Option<Self> {
        if raw.is_empty() || raw == "-" {
            return None;
        }
        let is_method =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
        let Some((method, rest)) = raw.split_once(' ').filter(|(word, _)| is_method(word)) else {
            return Some(Self {
                method: None,
                path: unescaped(raw),
                protocol: None,
            });
        };
        let (path, protocol) = match rest.rsplit_once(' ') {
            Some((path, protocol)) if protocol.starts_with("HTTP/") => (path, Some(protocol)),
            _ => (rest, None),
        };
        Some(Self {
            method: Some(method.into()),
            path: unescaped(path),
            protocol: protocol.map(unescaped),
        })
    }
}

fn broken(column: &'static str, reason: &'static str) -> Broken {
    Broken { column, reason }
}

/// What stands before the time, the time, and what follows the quote that opens the request. A user may have any name, with
/// brackets and blanks too.
fn split_at_time(line: &str) -> Option<(&str, Timestamp, &str)> {
    line.match_indices(" [").find_map(|(at, _)| {
        let (before, rest) = line.split_at_checked(at)?;
        let (time, rest) = rest.get(2..)?.split_at_checked(TIME_LENGTH)?;
        let rest = rest.strip_prefix("] \"")?;
        let time = Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", time).ok()?;
        Some((before, time, rest))
    })
}

/// Up to the quote that closes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    let (inside, rest) = text.split_at_checked(end)?;
    Some((inside, rest.strip_prefix('"')?))
}

/// A blank, a word, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix(' ')?;
    let end = text.find(' ').unwrap_or(text.len());
    text.split_at_checked(end)
        .filter(|(word, _)| !word.is_empty())
}

/// A blank and a field in quotes, where the line has not ended yet.
fn optional<'a>(text: &'a str, column: &'static str) -> Result<(Option<&'a str>, &'a str), Broken> {
    let Some(text) = text.strip_prefix(" \"") else {
        return Ok((None, text));
    };
    let (inside, rest) = quoted(text).ok_or(broken(column, BREAKS_OFF))?;
    Ok((Some(inside), rest))
}

fn whole(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A field's value; a `-` alone says that there is none.
fn present(raw: &str) -> Option<Cow<'_, str>> {
    (raw != "-").then(|| unescaped(raw))
}

/// Without the escapes: Apache writes `\"`, `\\`, `\n` and the like, and both servers `\xHH` for other bytes. Bytes that
/// are no UTF-8 become U+FFFD; an escape that neither server writes stays as it is.
fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return raw.into();
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = unescape(escape).unwrap_or((b'\\', 0));
        bytes.push(byte);
        rest = escape.get(length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => String::from_utf8_lossy(error.as_bytes())
            .into_owned()
            .into(),
    }
}

/// The byte that an escape stands for, and how many bytes follow the backslash.
fn unescape(escape: &str) -> Option<(u8, usize)> {
    Some(match escape.bytes().next()? {
        quoted @ (b'"' | b'\\') => (quoted, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'b' => (0x08, 1),
        b'f' => (0x0c, 1),
        b'v' => (0x0b, 1),
        b'x' => {
            let digits = escape.get(1..3)?;
            let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            (hex.then(|| u8::from_str_radix(digits, 16).ok())??, 3)
        }
        _ => return None,
    })
}
