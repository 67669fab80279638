//! Real user agents and what they are, uap-core's own cases, and the bounds.

use proptest::prelude::*;

use super::*;

fn recognise(text: &str) -> Device {
    Device::clone(&Devices::new().unwrap().recognise(Some(text)))
}

fn device(class: Class, os: &str, browser: &str) -> Device {
    let some = |text: &str| (!text.is_empty()).then(|| text.into());
    Device {
        class,
        os: some(os),
        browser: some(browser),
    }
}

#[test]
fn real_user_agents_are_what_they_are() {
    // Class, operating system, browser, user agent.
    let cases = include_str!("../../data/user-agent-classes.tsv");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in cases.lines().filter(|line| !line.starts_with('#')) {
        let [class, os, browser, text] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}");
        };
        let found = recognise(text);
        let told = [
            found.class.as_str(),
            found.os.as_deref().unwrap_or_default(),
            found.browser.as_deref().unwrap_or_default(),
        ];
        if told != [class, os, browser] {
            wrong.push(format!(
                "{text}\n  expected {class}, {os}, {browser}; got {told:?}"
            ));
        }
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count >= 60);
}

#[test]
fn cases_of_uap_core_hold() {
    let all = std::env::var("UAP_CORE_CASES").map(|path| std::fs::read_to_string(path).unwrap());
    let cases = all.unwrap_or_else(|_| include_str!("../../data/uap-core-cases.tsv").to_owned());
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in cases.lines().filter(|line| !line.starts_with('#')) {
        let [column, expected, text] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        let found = recognise(text);
        let told = match column {
            "os" => found.os.as_deref().unwrap_or_default(),
            "browser" => found.browser.as_deref().unwrap_or_default(),
            _ => found.class.as_str(),
        };
        if told != expected {
            wrong.push(format!(
                "{text}\n  expected {column} {expected}, got {told}"
            ));
        }
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count >= 200);
}

#[test]
fn a_missing_user_agent_is_other() {
    let nothing = device(Class::Other, "", "");
    assert_eq!(*Devices::new().unwrap().recognise(None), nothing);
    for text in ["", " ", "\t\r\n\u{a0}"] {
        assert_eq!(recognise(text), nothing, "{text:?}");
    }
}

#[test]
fn unknown_texts_are_other() {
    for text in [
        "-",
        "Mozilla/5.0",
        "\0\0",
        "MyCompany ERP connector",
        "日本語",
    ] {
        assert_eq!(recognise(text), device(Class::Other, "", ""), "{text:?}");
    }
}

#[test]
fn whitespace_around_does_not_matter() {
    assert_eq!(
        recognise("\tcurl/8.5.0 \n"),
        device(Class::Bot, "", "curl 8")
    );
}

#[test]
fn only_the_beginning_of_a_long_text_counts() {
    let text = format!(
        "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0{}",
        "é".repeat(1 << 20)
    );
    assert_eq!(
        recognise(&text),
        device(Class::Desktop, "Linux", "Firefox 121")
    );
    let hidden = format!("{}Googlebot/2.1", " x".repeat(MAX_LENGTH));
    assert_eq!(recognise(&hidden).class, Class::Other);
    // An odd number of bytes before two-byte characters: the limit falls inside one.
    assert_eq!(
        shortened(&format!("x{}", "é".repeat(MAX_LENGTH))).len(),
        MAX_LENGTH - 1
    );
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let mut cache = Cache::new(10);
    let mut made = 0;
    for number in 0..1_000 {
        cache.get_or_insert_with(&number.to_string(), || device(Class::Other, "", ""));
        cache.get_or_insert_with("often", || {
            made += 1;
            device(Class::Bot, "", "")
        });
        assert!(cache.len() <= 20, "{}", cache.len());
    }
    assert_eq!(made, 1);
}

#[test]
fn a_cached_answer_is_the_same_device() {
    let mut devices = Devices::new().unwrap();
    let first = devices.recognise(Some("curl/8.5.0"));
    assert!(Arc::ptr_eq(&first, &devices.recognise(Some("curl/8.5.0"))));
}

proptest! {
    #[test]
    fn any_text_has_a_device(text in any::<String>()) {
        recognise(&text);
    }

    #[test]
    fn text_like_a_user_agent_has_a_device(
        text in r"(Mozilla|Opera|Dalvik|curl|[A-Za-z]{1,8})/[0-9.]{1,8} \((Windows NT|iPhone|iPad|Linux; Android|X11)[ ;0-9._a-zA-Z]{0,40}\) .{0,80}",
    ) {
        let found = recognise(&text);
        prop_assert_ne!(found.os.as_deref(), Some(""));
        prop_assert_ne!(found.browser.as_deref(), Some(""));
    }
}
