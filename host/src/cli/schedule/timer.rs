//! A schedule as the lines of a systemd timer, for whoever lets systemd start a pipeline.
//!
//! It writes no file: `scripts/manage-pipeline.sh` does.

use std::fmt::Write;

use crate::config::{CatchUp, Overlap, Schedule as Config};
use crate::error::{Error, Result};
use crate::schedule::Schedule;

/// The lines of the `[Timer]` section. What systemd has no words for is refused.
pub(super) fn to_timer(config: &Config) -> Result<String> {
    if config.overlap != Overlap::Skip {
        return Err(
            Error::config("systemd leaves out a run while the last one goes on").hint(
                "say `--overlap skip` to have it so, or let the daemon run it: etl-host serve",
            ),
        );
    }
    let calendar = Schedule::new(config)?
        .to_calendar()
        .map_err(|error| Error::config(error.to_string()))?;
    // Writing to a String cannot fail.
    let mut text = format!("OnCalendar={calendar}\n");
    // Of all that were missed, systemd makes up for one.
    let _ = writeln!(text, "Persistent={}", config.catch_up != CatchUp::None);
    if !config.jitter.is_zero() {
        let _ = writeln!(text, "RandomizedDelaySec={}ms", config.jitter.as_millis());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_says_what_the_schedule_says() {
        let mut config = Config {
            cron: "0 */2 * * *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            ..Config::default()
        };
        assert_eq!(
            to_timer(&config).unwrap(),
            "OnCalendar=*-*-* 00/2:00:00 Europe/Berlin\nPersistent=true\n"
        );
        config.jitter = Duration::from_mins(5);
        config.catch_up = CatchUp::None;
        assert_eq!(
            to_timer(&config).unwrap(),
            "OnCalendar=*-*-* 00/2:00:00 Europe/Berlin\nPersistent=false\nRandomizedDelaySec=300000ms\n"
        );
        config.overlap = Overlap::Queue;
        assert!(to_timer(&config).is_err());
    }
}
