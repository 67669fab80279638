//! What the daemon knows of every pipeline: where it comes from, its configuration, its schedule. It is read anew whenever
//! plugins, files or the state change.
//!
//! It reads and puts together; tasks are started and told in [`Daemon`](super::Daemon).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::agenda::Agenda;
use super::dependency;
use super::shared::Spec;
use super::view::PipelineState;
use crate::config::{self, Loaded};
use crate::error::Result;
use crate::failure::Failure;
use crate::literal::hex;
use crate::pool::Pools;
use crate::schedule::{Effective, Origin, effective};
use crate::session::{Found, Session};
use crate::sink::build_due_runs;
use crate::state::Trigger;

/// A pipeline, as the daemon knows it.
#[derive(Clone)]
pub struct Known {
    /// The pipeline and its plugin.
    pub found: Found,
    /// Its configuration: the last one without mistakes.
    pub loaded: Option<Arc<Loaded>>,
    /// What is wrong with its configuration now.
    pub config_error: Option<String>,
    /// What is wrong with what it depends on.
    pub dependency_error: Option<String>,
    /// Its own schedule.
    pub effective: Effective,
    /// When it is due, by its own schedule or those of others.
    pub agenda: Agenda,
    /// Whether the agenda is what it should be: the schedules of all that go before it may not be known just now.
    pub is_agenda_known: bool,
    /// It was not stopped.
    pub enabled: bool,
    /// Its plugin has crashed too often.
    pub parked: bool,
}

impl Known {
    /// What it does while no run of it goes on or waits.
    pub fn state(&self) -> PipelineState {
        if !self.enabled {
            PipelineState::Disabled
        } else if self.problem().is_some() {
            PipelineState::Broken
        } else if self.parked {
            PipelineState::Parked
        } else if self.effective.paused {
            PipelineState::Paused
        } else {
            PipelineState::Idle
        }
    }

    /// Why it cannot run.
    pub fn problem(&self) -> Option<&String> {
        self.config_error
            .as_ref()
            .or(self.dependency_error.as_ref())
    }

    /// Whether its task need not be told anything.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_config = match (&self.loaded, &other.loaded) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_config
            && self.found.plugin.sha256 == other.found.plugin.sha256
            && self.problem() == other.problem()
            && self.effective == other.effective
            && self.agenda.patterns() == other.agenda.patterns()
            && (self.enabled, self.parked) == (other.enabled, other.parked)
    }

    /// When it is started next by itself.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.agenda.next_after(after).filter(|_| self.enabled)
    }
}

/// All pipelines, by name.
pub type Roster = BTreeMap<String, Known>;

/// Reads what there is now. A configuration that has got mistakes since `before` leaves the last good one in force, so that
/// the pipeline's due runs fail loudly instead of not taking place. Configurations are read again only if files have changed.
pub fn load_roster(session: &Session, before: &Roster, files_changed: bool) -> Result<Roster> {
    let mut roster = Roster::new();
    for found in session.all() {
        let name = found.manifest.name.clone();
        let earlier = before.get(&name);
        let kept = earlier
            .filter(|known| !files_changed && known.found.plugin.sha256 == found.plugin.sha256);
        let (loaded, config_error) = match kept {
            Some(known) => (known.loaded.clone(), known.config_error.clone()),
            None => match session.load_config(&found) {
                Ok(loaded) => (Some(Arc::new(loaded)), None),
                Err(failure) => {
                    let loaded = earlier.and_then(|known| known.loaded.clone());
                    (loaded, Some(failure.to_text()))
                }
            },
        };
        let configured = loaded
            .as_ref()
            .and_then(|loaded| loaded.config.schedule.as_ref());
        let set = session.state.schedule_of(&name)?;
        let parked = match &loaded {
            Some(loaded) => session.parked(&found, loaded)?.is_some(),
            None => false,
        };
        let known = Known {
            effective: effective(configured, set.as_ref()),
            agenda: Agenda::default(),
            is_agenda_known: false,
            dependency_error: None,
            enabled: !session.state.is_disabled(&name)?,
            found,
            loaded,
            config_error,
            parked,
        };
        roster.insert(name, known);
    }
    add_agendas(&mut roster, before);
    Ok(roster)
}

/// Works out when each is due, and which cannot be because of what they depend on. Where that is not known just now, what
/// it was before holds on.
fn add_agendas(roster: &mut Roster, before: &Roster) {
    let depends_on: BTreeMap<String, Vec<String>> = roster
        .iter()
        .map(|(name, known)| (name.clone(), parents(known)))
        .collect();
    let mut problems = dependency::problems(&depends_on);
    let agendas: Vec<(String, Option<Agenda>)> = roster
        .keys()
        .map(|name| (name.clone(), agenda(name, roster, &problems)))
        .collect();
    for (name, agenda) in agendas {
        let Some(known) = roster.get_mut(&name) else {
            continue;
        };
        known.dependency_error = problems.remove(&name);
        known.is_agenda_known = agenda.is_some();
        let earlier = before.get(&name).map(|known| known.agenda.clone());
        known.agenda = agenda.or(earlier).unwrap_or_default();
    }
}

/// When a pipeline is due; `None` if that cannot be known just now.
fn agenda(name: &str, roster: &Roster, problems: &BTreeMap<String, String>) -> Option<Agenda> {
    let known = roster.get(name)?;
    known.loaded.as_ref()?;
    if problems.contains_key(name) {
        return None;
    }
    let schedules = schedules(name, roster, problems)?;
    Some(if known.effective.schedule.is_some() {
        Agenda::new(&schedules)
    } else {
        Agenda::inherited(&schedules)
    })
}

fn parents(known: &Known) -> Vec<String> {
    let loaded = known.loaded.iter();
    loaded
        .flat_map(|loaded| &loaded.config.depends_on)
        .map(|dependency| dependency.pipeline.clone())
        .collect()
}

/// A pipeline's own schedule; without one, those of all that go before it, if they are known. There is no circle.
fn schedules(
    name: &str,
    roster: &Roster,
    problems: &BTreeMap<String, String>,
) -> Option<Vec<config::Schedule>> {
    let known = roster.get(name).filter(|_| !problems.contains_key(name))?;
    if known.effective.paused {
        return Some(Vec::new());
    }
    match (&known.effective.schedule, known.effective.origin) {
        (Some(schedule), _) => Some(vec![schedule.clone()]),
        (None, Origin::None) => {
            known.loaded.as_ref()?;
            let parents = parents(known);
            let inherited: Option<Vec<_>> = parents
                .iter()
                .map(|parent| schedules(parent, roster, problems))
                .collect();
            Some(inherited?.concat())
        }
        (None, _) => Some(Vec::new()),
    }
}

/// What the pipeline's task has to know; `earlier` is since when it has followed its schedule. `None` as long as there is no configuration.
pub fn build_spec(
    known: &Known,
    session: &Session,
    pools: &Arc<Pools>,
    lateness: Option<Duration>,
    earlier: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Spec>, Failure> {
    let Some(loaded) = &known.loaded else {
        return Ok(None);
    };
    let name = &known.found.manifest.name;
    let schedule = known.effective.schedule.as_ref();
    let default = config::Schedule::default();
    let schedule_or_default = schedule.unwrap_or(&default);
    // What cannot be known just now must not count as a new schedule.
    let since = match (known.is_agenda_known, earlier) {
        (true, _) => session.state.watched_since(name, &watched(known), now)?,
        (false, Some(since)) => since,
        (false, None) => now,
    };
    Ok(Some(Spec {
        enabled: known.enabled,
        agenda: known.agenda.clone(),
        since,
        catch_up: schedule_or_default.catch_up,
        overlap: schedule_or_default.overlap,
        late_after: schedule_or_default.late_after.or(lateness),
        depends_on: loaded.config.depends_on.clone(),
        trigger: if schedule.is_some() {
            Trigger::Schedule
        } else {
            Trigger::Dependency
        },
        due_runs: Arc::from(build_due_runs(&loaded.config.sink, pools)),
    }))
}

/// What must stay the same for instants of the past to count: the instants that the agenda gives, that it is enabled, and
/// when a hand last changed it.
fn watched(known: &Known) -> String {
    let changed_at = known.effective.changed_at;
    let text = format!(
        "{:?} {} {changed_at:?}",
        known.agenda.patterns(),
        known.enabled
    );
    hex(&Sha256::digest(text))
}
