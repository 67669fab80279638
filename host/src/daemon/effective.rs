//! stand-in
use crate::config::Schedule;
#[derive(Clone, Debug)]
pub enum Effective {
    On { schedule: Schedule },
    None,
    Paused { schedule: Schedule },
    Off,
    External,
}
impl Effective {
    pub fn of(configured: Option<&Schedule>, _: Option<&Set>) -> Self {
        match configured {
            Some(schedule) => Self::On {
                schedule: schedule.clone(),
            },
            None => Self::None,
        }
    }
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Paused { .. })
    }
    pub fn describe(&self) -> Option<String> {
        match self {
            Self::On { schedule } | Self::Paused { schedule } => Some(schedule.cron.clone()),
            _ => None,
        }
    }
}
pub struct Set {
    pub changed_at: String,
}
impl crate::state::State {
    pub fn schedule_of(&self, _: &str) -> crate::error::Result<Option<Set>> {
        Ok(None)
    }
}
