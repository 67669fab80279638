//! Tells people of failures, recoveries and late runs, by webhooks and commands.
//!
//! One task decides ([`decider`]); one per notification delivers, so that none waits for another one's server. A run never
//! waits for any of them, and never fails because of them. What is decided is kept in the state folder before it is sent:
//! a restart delivers what was not delivered, and tells nothing twice.

mod command;
pub mod decider;
pub mod notice;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::decider::{Decider, Delivery, Memory};
pub use self::notice::{EndedRun, Observation};
use self::webhook::WebhookCourier;
use super::clock::Clock;
use crate::config::notifications::{Channel, CommandHook, Notification};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::state::State;

/// Observations that may wait for the task that decides.
const WAITING: usize = 1_024;
/// Before a webhook is tried for the second time.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes what the daemon sees.
pub struct Notifier {
    /// `None` where nobody is to be told, and when it is closed.
    desk: Mutex<Option<(mpsc::Sender<Observation>, JoinHandle<()>)>>,
}

impl Notifier {
    /// One that tells nobody.
    pub fn silent() -> Self {
        Self {
            desk: Mutex::new(None),
        }
    }

    /// Starts the tasks; none if nobody is to be told. `state` is a connection of its own to the state folder.
    pub fn start(
        notifications: Vec<Notification>,
        state: State,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::start_with(notifications, state, clock, PAUSE)
    }

    /// The same, with another pause before the first retry of a webhook.
    pub fn start_with(
        notifications: Vec<Notification>,
        state: State,
        clock: Arc<dyn Clock>,
        pause: Duration,
    ) -> Result<Self> {
        if notifications.is_empty() {
            return Ok(Self::silent());
        }
        let memory = state.notices()?.and_then(|text| {
            let memory = serde_json::from_str(&text);
            memory
                .inspect_err(|error| {
                    tracing::warn!(%error, "what was told before is not known any more: something may be told again");
                })
                .ok()
        });
        let (done, delivered) = mpsc::unbounded_channel();
        let mut couriers = BTreeMap::new();
        for notification in &notifications {
            let courier = Courier::build(&notification.channel, pause).map_err(|error| {
                error.while_trying(format!("notification {}", notification.name))
            })?;
            let (sender, deliveries) = mpsc::unbounded_channel();
            tokio::spawn(courier.serve(deliveries, done.clone()));
            couriers.insert(notification.name.clone(), sender);
        }
        let host = Holder::of_this_process().host().to_owned();
        let desk = Desk {
            decider: Decider::new(notifications, host, memory.unwrap_or_default()),
            state: Some(state),
            clock,
            couriers,
            delivered,
        };
        let (sender, observations) = mpsc::channel(WAITING);
        Ok(Self {
            desk: Mutex::new(Some((sender, tokio::spawn(desk.serve(observations))))),
        })
    }

    /// Takes note of what was seen. Never waits.
    pub fn tell(&self, observation: Observation) {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((desk, _)) = desk.as_ref()
            && desk.try_send(observation).is_err()
        {
            tracing::warn!("too much happens at once: a notification is left out");
        }
    }

    /// Delivers what is on its way, for so long at most. What is left is delivered after the next start.
    pub async fn close(&self, limit: Duration) {
        let desk = self
            .desk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((sender, mut desk)) = desk {
            drop(sender);
            if tokio::time::timeout(limit, &mut desk).await.is_err() {
                desk.abort();
                tracing::warn!(
                    "not all notifications were delivered; the next start goes on with them"
                );
            }
        }
    }
}

/// The task that decides.
struct Desk {
    decider: Decider,
    /// `None` while a blocking thread uses it, and for ever after that thread was lost.
    state: Option<State>,
    clock: Arc<dyn Clock>,
    couriers: BTreeMap<String, mpsc::UnboundedSender<Delivery>>,
    delivered: mpsc::UnboundedReceiver<u64>,
}

impl Desk {
    async fn serve(mut self, mut observations: mpsc::Receiver<Observation>) {
        let left = self.decider.outbox().to_vec();
        self.send(left);
        let mut open = true;
        while open || !self.decider.outbox().is_empty() {
            let (clock, next) = (self.clock.clone(), self.decider.next_look());
            let late = async move {
                match next {
                    Some(next) => clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            let before = self.decider.memory().clone();
            let deliveries = tokio::select! {
                observation = observations.recv(), if open => {
                    open = observation.is_some();
                    observation.map_or_else(Vec::new, |observation| {
                        self.decider.observe(self.clock.now(), observation)
                    })
                }
                Some(id) = self.delivered.recv() => {
                    self.decider.delivered(id);
                    Vec::new()
                }
                () = late, if open => self.decider.look(self.clock.now()),
            };
            // Before it is sent: whoever dies in between sends it after the next start.
            if *self.decider.memory() != before {
                self.save().await;
            }
            self.send(deliveries);
        }
    }

    fn send(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            if let Some(courier) = self.couriers.get(&delivery.notification) {
                // It ends only after this task.
                let _ = courier.send(delivery);
            }
        }
    }

    async fn save(&mut self) {
        let Some(state) = self.state.take() else {
            return;
        };
        let memory: Memory = self.decider.memory().clone();
        let saved = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_string(&memory).map_err(|error| {
                Error::internal("what was told cannot be written down").caused_by(error)
            });
            let saved = text.and_then(|text| state.record_notices(&text));
            (state, saved)
        });
        match saved.await {
            Ok((state, saved)) => {
                self.state = Some(state);
                if let Err(error) = saved {
                    tracing::warn!(%error, "what was told is not kept: a restart may tell it again");
                }
            }
            Err(error) => tracing::error!(%error, "the notifications' memory was lost"),
        }
    }
}

/// Who delivers for one notification.
enum Courier {
    Webhook(WebhookCourier),
    Command(CommandHook),
}

impl Courier {
    fn build(channel: &Channel, pause: Duration) -> Result<Self> {
        Ok(match channel {
            Channel::Webhook(hook) => Self::Webhook(WebhookCourier::build(hook.clone(), pause)?),
            Channel::Command(hook) => Self::Command(hook.clone()),
        })
    }

    /// One after another, in their order.
    async fn serve(
        self,
        mut deliveries: mpsc::UnboundedReceiver<Delivery>,
        done: mpsc::UnboundedSender<u64>,
    ) {
        while let Some(delivery) = deliveries.recv().await {
            let (id, name) = (delivery.id, &delivery.notification);
            let (pipeline, event) = (&delivery.notice.pipeline, delivery.notice.event.word());
            match self.deliver(&delivery).await {
                Ok(()) => tracing::info!(pipeline, "notification {name} has told of a {event}"),
                Err(error) => {
                    let hint = error.own_hint().unwrap_or_default();
                    tracing::warn!(
                        pipeline,
                        "notification {name} could not tell of a {event}: {error}; {hint}"
                    );
                }
            }
            let _ = done.send(id);
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<()> {
        let notice = &delivery.notice;
        let body = serde_json::to_string(notice)
            .map_err(|error| Error::internal("a notice cannot be written down").caused_by(error))?;
        match self {
            Self::Webhook(courier) => courier.deliver(&body).await,
            Self::Command(hook) => command::deliver(hook, notice, &body).await,
        }
    }
}
