//! The section `schedule`.

use super::{delay, pipeline_name, timeout};
use crate::config::document::Data;
use crate::config::model::{CatchUp, Dependency, Overlap, Schedule};
use crate::config::section::{Reported, Section};
use crate::config::value::Value;
use crate::schedule::{Cron, zone};

pub(super) fn schedule(mut section: Section<'_>) -> Result<Schedule, Reported> {
    let cron = section.required("cron", |value| {
        value.parsed(|cron| Cron::parse(cron).map(|_| cron.trim().to_owned()))
    });
    let default = Schedule::default();
    let timezone = section.or("timezone", default.timezone, timezone);
    let jitter = section.or("jitter", default.jitter, |value| {
        let jitter = delay(value)?;
        if jitter <= Schedule::LONGEST_JITTER {
            Ok(jitter)
        } else {
            Err(value.report("expected a duration of at most 1d", None))
        }
    });
    let catch_up = section.or("catch_up", default.catch_up, catch_up);
    let overlap = section.or("overlap", default.overlap, |value| {
        value.one_of(&[
            ("skip", Overlap::Skip),
            ("queue", Overlap::Queue),
            ("cancel", Overlap::Cancel),
        ])
    });
    let late_after = section.optional("late_after", timeout);
    section.finish();
    Ok(Schedule {
        cron: cron?,
        timezone: timezone?,
        jitter: jitter?,
        catch_up: catch_up?,
        overlap: overlap?,
        late_after: late_after?,
    })
}

fn timezone(value: Value<'_>) -> Result<String, Reported> {
    let name = value.text()?;
    if let Err(unknown) = zone(&name) {
        let expected = unknown.to_string();
        let fix = unknown.meant.map(|zone| format!("did you mean {zone}?"));
        return Err(value.unexpected(&expected, fix));
    }
    Ok(name)
}

fn catch_up(value: Value<'_>) -> Result<CatchUp, Reported> {
    if !matches!(value.node().data, Data::Map(_)) {
        return value.one_of(&[
            ("none", CatchUp::None),
            ("last", CatchUp::Last),
            ("all", CatchUp::ALL),
        ]);
    }
    let mut section = value.section()?;
    let most = section.required("all", |value| {
        value.integer("a number of runs", 1..=CatchUp::MOST)
    });
    section.finish();
    Ok(CatchUp::All(most?))
}

/// Names of pipelines, or mappings that also say what their failures mean.
pub fn depends_on(value: Value<'_>) -> Result<Vec<Dependency>, Reported> {
    let parsed: Vec<_> = value.list()?.into_iter().map(dependency).collect();
    let mut all: Vec<Dependency> = Vec::new();
    for parsed in parsed {
        let parsed = parsed?;
        if all.iter().any(|known| known.pipeline == parsed.pipeline) {
            return Err(value.report(format!("`{}` is named twice", parsed.pipeline), None));
        }
        all.push(parsed);
    }
    Ok(all)
}

fn dependency(value: Value<'_>) -> Result<Dependency, Reported> {
    if !value.is_mapping() {
        return pipeline_name(value).map(Dependency::on);
    }
    let mut section = value.section()?;
    let pipeline = section.required("pipeline", pipeline_name);
    let words = [("skip", false), ("run", true)];
    let run_after_failed = section.or("on_failed", false, |value| value.one_of(&words));
    let run_after_partial = section.or("on_partial", false, |value| value.one_of(&words));
    section.finish();
    Ok(Dependency {
        pipeline: pipeline?,
        run_after_failed: run_after_failed?,
        run_after_partial: run_after_partial?,
    })
}
