//! A schedule as `schedule`, `info` and `list` show it.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use crate::cli::table::{indented, table};
use crate::config::duration::DisplayDuration;
use crate::error::Result;
use crate::schedule::{Effective, Origin, Schedule};

/// A pipeline's schedule with its next instants.
pub(in crate::cli) struct Shown {
    pub pipeline: String,
    pub effective: Effective,
    /// The schedule, unless there is none.
    pub schedule: Option<Schedule>,
    /// When it is due next; never while it is paused.
    pub next: Vec<Timestamp>,
    /// What is true of it, but may not be meant.
    pub notice: Option<String>,
    /// It is only looked at, and holds for nothing.
    pub is_preview: bool,
}

impl Shown {
    pub fn new(
        pipeline: &str,
        effective: Effective,
        from: Timestamp,
        count: usize,
    ) -> Result<Self> {
        let schedule = effective.schedule.as_ref().map(Schedule::new).transpose()?;
        let next = effective.followed()?.map_or_else(Vec::new, |followed| {
            followed.between(from, Timestamp::MAX).take(count).collect()
        });
        Ok(Self {
            pipeline: pipeline.to_owned(),
            effective,
            schedule,
            next,
            notice: None,
            is_preview: false,
        })
    }

    pub fn to_json(&self) -> serde_json::Value {
        let next: Vec<_> = self
            .next
            .iter()
            .map(|due| json!({ "at": due, "local": self.local(*due) }))
            .collect();
        json!({
            "pipeline": self.pipeline,
            "preview": self.is_preview,
            "origin": self.effective.origin,
            "paused": self.effective.paused,
            "changed_at": self.effective.changed_at,
            "schedule": self.effective.schedule,
            "description": self.schedule.as_ref().map(Schedule::describe),
            "on_calendar": self.schedule.as_ref().and_then(|schedule| schedule.to_calendar().ok()),
            "notice": self.notice,
            "next": next,
        })
    }

    /// An instant as the schedule's zone shows it.
    pub fn local(&self, due: Timestamp) -> Option<String> {
        let local = self.schedule.as_ref()?.local(due);
        Some(local.strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
    }

    /// In one line, for a list.
    pub fn in_short(&self) -> String {
        let paused = if self.effective.paused {
            " (paused)"
        } else {
            ""
        };
        match (self.effective.origin, &self.effective.schedule) {
            (_, Some(schedule)) => format!("{}{paused}", schedule.cron),
            (Origin::External, None) => "external".to_owned(),
            (Origin::Off, None) => "off".to_owned(),
            (_, None) => "-".to_owned(),
        }
    }

    /// The schedule in words.
    pub fn headline(&self) -> String {
        match (self.effective.origin, &self.schedule) {
            (_, Some(schedule)) => schedule.describe(),
            (Origin::External, None) => {
                "something else starts it, such as a timer of systemd".to_owned()
            }
            (Origin::Off, None) => "no schedule, whatever the configuration says".to_owned(),
            (_, None) => "no schedule".to_owned(),
        }
    }

    /// What there is to say of it, line by line.
    pub fn lines(&self) -> String {
        let Effective {
            schedule,
            origin,
            paused,
            changed_at,
        } = &self.effective;
        let at = changed_at.map_or_else(String::new, |at| {
            format!(", changed at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        });
        let origin = match origin {
            Origin::None => "nobody has set one",
            Origin::Config => "the configuration",
            Origin::Set | Origin::Off | Origin::External => "set by hand",
        };
        // Writing to a String cannot fail, here and below.
        let mut text = String::new();
        if self.is_preview {
            text.push_str("  preview     nothing is changed\n");
        } else {
            let _ = writeln!(text, "  comes from  {origin}{at}");
        }
        if let Some(schedule) = schedule {
            let _ = writeln!(
                text,
                "  cron        {}\n  timezone    {}\n  jitter      {}\n  catch up    {}\n  overlap     {}",
                schedule.cron,
                schedule.timezone,
                DisplayDuration(schedule.jitter),
                schedule.catch_up,
                schedule.overlap
            );
        }
        if *paused {
            let _ = writeln!(
                text,
                "  paused      yes; `etl-host schedule {} resume` ends it",
                self.pipeline
            );
        }
        if let Some(notice) = &self.notice {
            let _ = writeln!(text, "  note        {notice}");
        }
        if !self.next.is_empty() {
            let mut lines = table(&["next", "UTC", "local"], &[]);
            for (index, due) in self.next.iter().enumerate() {
                lines.add_row([
                    (index + 1).to_string(),
                    due.to_string(),
                    self.local(*due).unwrap_or_default(),
                ]);
            }
            text.push_str(&indented(&lines));
        }
        text
    }
}
