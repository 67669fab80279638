//! Reads `notifications` of `etl-host.yaml`. A URL and a header may hold a token, so no message shows them.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::{delay, pipeline_name};
use crate::config::Secret;
use crate::config::notifications::{
    AtMost, Channel, CommandHook, NoticeKind, Notification, Webhook,
};
use crate::config::section::{Reported, Section};
use crate::config::value::{Value, all};

/// A limit that no answer and no program needs.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(10);
const REPEAT_AFTER: Duration = Duration::from_hours(24);

/// Reads the list. Names are told apart.
pub fn notifications(value: Value<'_>) -> Result<Vec<Notification>, Reported> {
    let items = value.list()?;
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for item in items {
        let notification = item.section().and_then(notification);
        if let Ok(Notification { name, .. }) = &notification
            && !names.insert(name.clone())
        {
            read.push(Err(item.report(
                format!("two notifications have the name `{name}`"),
                None,
            )));
        }
        read.push(notification);
    }
    all(read)
}

fn notification(mut section: Section<'_>) -> Result<Notification, Reported> {
    let name = section.required("name", Value::text);
    let events = section.or("events", NoticeKind::ALL.to_vec(), |value| {
        let words = NoticeKind::ALL.map(|kind| (kind.word(), kind));
        let items = value.list()?.into_iter();
        let events = all(items.map(|item| item.one_of(&words)).collect())?;
        if events.is_empty() {
            return Err(value.report("names no event", Some("leave it out for all events".into())));
        }
        Ok(events)
    });
    let pipelines = section.or("pipelines", Vec::new(), |value| {
        all(value.list()?.into_iter().map(pipeline_name).collect())
    });
    let repeat_after = section.or("repeat_after", REPEAT_AFTER, delay);
    let at_most = section.or("at_most", AtMost::default(), |value| {
        at_most(value.section()?)
    });
    let hook = section.get("webhook");
    let command = section.get("command");
    let channel = match (hook, command) {
        (Some(hook), None) => hook.section().and_then(webhook).map(Channel::Webhook),
        (None, Some(value)) => value.section().and_then(command_hook).map(Channel::Command),
        (Some(_), Some(value)) => Err(value.report(
            "a notification has either a webhook or a command",
            Some("make two notifications of it".to_owned()),
        )),
        (None, None) => Err(section.missing("webhook")),
    };
    section.finish();
    Ok(Notification {
        name: name?,
        events: events?,
        pipelines: pipelines?,
        channel: channel?,
        repeat_after: repeat_after?,
        at_most: at_most?,
    })
}

fn at_most(mut section: Section<'_>) -> Result<AtMost, Reported> {
    let default = AtMost::default();
    let times = section.required("times", |value| {
        value.integer("a number of notices", 1..=1_000)
    });
    let per = section.or("per", default.per, delay);
    section.finish();
    Ok(AtMost {
        times: times?,
        per: per?,
    })
}

fn webhook(mut section: Section<'_>) -> Result<Webhook, Reported> {
    let url = section.required("url", |value| {
        let url = value.secret()?;
        let parsed = Url::parse(url.expose());
        match parsed {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
                Ok(url)
            }
            _ => Err(value.report(
                "expected a URL",
                Some(r#"such as "https://alerts.example.com/hook""#.to_owned()),
            )),
        }
    });
    let headers = section.or("headers", Vec::new(), headers);
    let timeout = section.or("timeout", Duration::from_secs(10), timeout);
    section.finish();
    Ok(Webhook {
        url: url?,
        headers: headers?,
        timeout: timeout?,
    })
}

fn headers(value: Value<'_>) -> Result<Vec<(String, Secret)>, Reported> {
    let entries = value.section()?.into_entries().map(|(name, value)| {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(value.report(format!("`{name}` is no name of a header"), None));
        }
        let secret = value.secret()?;
        if HeaderValue::from_str(secret.expose()).is_err() {
            let fix = "write it in one line, without control characters".to_owned();
            return Err(value.report("cannot be the value of a header", Some(fix)));
        }
        Ok((name.to_owned(), secret))
    });
    all(entries.collect())
}

fn command_hook(mut section: Section<'_>) -> Result<CommandHook, Reported> {
    let run = section.required("run", |value| {
        let items = value.list()?;
        let mut items = items.into_iter();
        let Some(program) = items.next() else {
            let fix = r#"such as ["/usr/local/bin/page", "--queue", "etl"]"#.to_owned();
            return Err(value.report("names no program", Some(fix)));
        };
        let program = program.text();
        let arguments: Result<Vec<Secret>, _> = all(items.map(Value::secret).collect());
        Ok((program?, arguments?))
    });
    let timeout = section.or("timeout", Duration::from_secs(30), timeout);
    section.finish();
    let (program, arguments) = run?;
    Ok(CommandHook {
        program,
        arguments,
        timeout: timeout?,
    })
}

fn timeout(value: Value<'_>) -> Result<Duration, Reported> {
    let timeout = delay(value)?;
    if (Duration::from_millis(1)..=LONGEST_TIMEOUT).contains(&timeout) {
        Ok(timeout)
    } else {
        Err(value.report("expected a duration between 1ms and 10m", None))
    }
}
