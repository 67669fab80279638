//! What servers write is read back, and nothing that they do not write is taken for it.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn parse(line: &str) -> Line<'_> {
    Line::parse(line, false).unwrap()
}

fn reason(line: &str) -> &'static str {
    Line::parse(line, false).unwrap_err().reason
}

const COMBINED: &str = r#"203.0.113.7 - ann [10/Oct/2026:13:55:36 +0200] "GET /a?b=c HTTP/1.1" 200 2326 "https://example.com/" "curl/8.14""#;

#[test]
fn the_combined_format() {
    let line = parse(COMBINED);
    assert_eq!((line.client, line.user), ("203.0.113.7", Some("ann")));
    assert_eq!(line.time.to_string(), "2026-10-10T11:55:36Z");
    let request = line.request.unwrap();
    assert_eq!(request.method.as_deref(), Some("GET"));
    assert_eq!(request.path, "/a?b=c");
    assert_eq!(request.protocol.as_deref(), Some("HTTP/1.1"));
    assert_eq!((line.status, line.bytes), (200, 2326));
    assert_eq!(line.referer.as_deref(), Some("https://example.com/"));
    assert_eq!(line.user_agent.as_deref(), Some("curl/8.14"));
}

#[test]
fn the_common_format_and_nothing_where_a_dash_stands() {
    let line = parse(r#"2001:db8::7 - - [01/Jan/2026:00:00:00 +0000] "-" 408 -"#);
    assert_eq!((line.client, line.user), ("2001:db8::7", None));
    assert_eq!((line.request, line.bytes), (None, 0));
    assert_eq!((line.referer, line.user_agent), (None, None));
    let line = parse(r#"::1 - - [01/Jan/2026:00:00:00 +0000] "" 400 0 "-" "-""#);
    assert_eq!(
        (line.request, line.referer, line.user_agent),
        (None, None, None)
    );
}

#[test]
fn escapes_of_either_server() {
    let apache = r#"::1 - - [01/Jan/2026:00:00:00 +0000] "GET /\"a\\ HTTP/1.0" 404 1 "\t\xc3\xa9" "say \"hi\" \q""#;
    let line = parse(apache);
    assert_eq!(line.request.unwrap().path, r#"/"a\"#);
    assert_eq!(line.referer.as_deref(), Some("\té"));
    assert_eq!(line.user_agent.as_deref(), Some(r#"say "hi" \q"#));
    let nginx = r#"::1 - - [01/Jan/2026:00:00:00 +0000] "\x16\x03\x01" 400 1 "\xFF" "\x22\x5C\xC3\xA9 \x4""#;
    let line = parse(nginx);
    let request = line.request.unwrap();
    assert_eq!((request.method, &*request.path), (None, "\x16\x03\x01"));
    assert_eq!(line.referer.as_deref(), Some("\u{fffd}"));
    assert_eq!(line.user_agent.as_deref(), Some("\"\\é \\x4"));
}

#[test]
fn odd_requests_and_users() {
    let of = |request: &str| format!("::1 - - [01/Jan/2026:00:00:00 +0000] \"{request}\" 400 1");
    let request = |text: &str| {
        let line = of(text);
        let found = parse(&line).request.unwrap();
        (
            found.method.is_some(),
            found.path.into_owned(),
            found.protocol.is_some(),
        )
    };
    assert_eq!(request("GET /"), (true, "/".to_owned(), false));
    assert_eq!(
        request("GET /a b HTTP/1.1"),
        (true, "/a b".to_owned(), true)
    );
    assert_eq!(request("hello"), (false, "hello".to_owned(), false));
    assert_eq!(
        request("quit now HTTP/1.1"),
        (false, "quit now HTTP/1.1".to_owned(), false)
    );
    let line = COMBINED.replace(" ann ", " ann [the first] lee ");
    assert_eq!(parse(&line).user, Some("ann [the first] lee"));
}

#[test]
fn broken_lines_are_told_by_what_they_lack() {
    for (line, expected) in [
        ("", "no time"),
        ("hello", "no time"),
        (COMBINED.replace("Oct", "Foo").as_str(), "no time"),
        (
            COMBINED.replace("203.0.113.7 - ann", "ann").as_str(),
            "no client",
        ),
        (
            COMBINED.replace(" 200 ", " 2oo ").as_str(),
            "status is no number",
        ),
        (
            COMBINED.replace(" 200 ", " +200 ").as_str(),
            "status is no number",
        ),
        (
            COMBINED
                .replace(" 2326 ", " 99999999999999999999 ")
                .as_str(),
            "bytes are no number",
        ),
        (format!("{COMBINED} \"-\"").as_str(), "more follows"),
        (format!("{COMBINED}x").as_str(), "more follows"),
        (
            r#"::1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1\" 200 1"#,
            BREAKS_OFF,
        ),
    ] {
        assert!(reason(line).contains(expected), "{line}: {}", reason(line));
    }
    // Wherever a line is cut, except where the common format ends.
    let bytes = COMBINED.find("2326").unwrap();
    for end in 0..COMBINED.len() {
        let cut = COMBINED.get(..end).unwrap();
        let common = (bytes + 1..=bytes + 4).contains(&end);
        assert_eq!(Line::parse(cut, false).is_ok(), common, "{cut}");
    }
    assert!(Line::parse(&format!("{COMBINED} \"-\" 0.003"), true).is_ok());
    assert!(Line::parse(&format!("{COMBINED}x"), true).is_err());
}

/// As `ap_escape_logitem` of Apache.
fn by_apache(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(byte)).unwrap(),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0b => out.push_str("\\v"),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").unwrap(),
        }
        out
    })
}

/// As `ngx_http_log_escape` of nginx.
fn by_nginx(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => write!(out, "\\x{byte:02X}").unwrap(),
            _ => out.push(char::from(byte)),
        }
        out
    })
}

fn field() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(any::<String>().prop_filter("that is written as none", |it| it != "-"))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        client in prop_oneof!["[0-9]{1,3}(\\.[0-9]{1,3}){3}", "[0-9a-f:]{2,39}", "[a-z]{1,9}\\.example"],
        user in proptest::option::of("[a-zA-Z@.]{1,9}( [a-z]{1,5})?"),
        seconds in 0_i64..4_000_000_000,
        path in any::<String>(),
        status in 100..600_i32,
        bytes in 0..i64::MAX,
        referer in field(),
        user_agent in field(),
        apache in any::<bool>(),
    ) {
        let escape = if apache { by_apache } else { by_nginx };
        let or_dash = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), escape);
        let time = Timestamp::from_second(seconds).unwrap();
        let text = format!(
            "{client} - {} [{}] \"POST {} HTTP/2.0\" {status} {bytes} \"{}\" \"{}\"",
            user.as_deref().unwrap_or("-"),
            time.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            escape(&path),
            or_dash(&referer),
            or_dash(&user_agent),
        );
        let request = Request {
            method: Some("POST".into()),
            path: path.into(),
            protocol: Some("HTTP/2.0".into()),
        };
        let written = Line {
            client: &client,
            user: user.as_deref(),
            time,
            request: Some(request),
            status,
            bytes,
            referer: referer.map(Cow::from),
            user_agent: user_agent.map(Cow::from),
        };
        prop_assert_eq!(Line::parse(&text, false), Ok(written));
    }

    #[test]
    fn any_line_is_read_or_refused(start in 0..COMBINED.len(), any in any::<String>(), further in any::<bool>()) {
        let _ = Line::parse(&any, further);
        let mut line = COMBINED.to_owned();
        line.insert_str(start, &any);
        let _ = Line::parse(&line, further);
    }
}
