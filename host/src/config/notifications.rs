//! Who is told of what: the `notifications` of `etl-host.yaml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Secret;

/// What somebody may be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// A run failed, or some partitions of it.
    Failure,
    /// The first success after a failure.
    Recovery,
    /// A due run has not ended in time.
    Lateness,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Failure, Self::Recovery, Self::Lateness];

    /// As it is written and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Lateness => "lateness",
        }
    }
}

/// One way to tell somebody.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Its name, for logs and for what is remembered of it.
    pub name: String,
    /// What it is for.
    pub events: Vec<NoticeKind>,
    /// The pipelines that it is for; all if empty.
    pub pipelines: Vec<String>,
    /// How.
    #[serde(flatten)]
    pub channel: Channel,
    /// How long a pipeline has to go on failing until that is told again.
    #[serde(serialize_with = "super::duration::serialize")]
    pub repeat_after: Duration,
    /// How much is too much.
    pub at_most: AtMost,
}

/// How somebody is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// By a request to a web server.
    Webhook(Webhook),
    /// By a program on this machine.
    Command(CommandHook),
}

impl Channel {
    /// All that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (webhook, command) = match self {
            Self::Webhook(hook) => (Some(hook), None),
            Self::Command(hook) => (None, Some(hook)),
        };
        let arguments = command.into_iter().flat_map(|hook| &hook.arguments);
        webhook
            .into_iter()
            .flat_map(Webhook::secrets)
            .chain(arguments)
    }
}

/// A request to a web server.
#[derive(Clone, Debug, Serialize)]
pub struct Webhook {
    /// Where it goes. Often it holds a token.
    pub url: Secret,
    /// What goes with it.
    pub headers: Vec<(String, Secret)>,
    /// Longest wait for an answer.
    #[serde(serialize_with = "super::duration::serialize")]
    pub timeout: Duration,
}

impl Webhook {
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url).chain(headers)
    }
}

/// A program on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct CommandHook {
    /// The program.
    pub program: String,
    /// Its arguments. They may hold a token.
    pub arguments: Vec<Secret>,
    /// How long it may run.
    #[serde(serialize_with = "super::duration::serialize")]
    pub timeout: Duration,
}

/// A limit on how often somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AtMost {
    /// So often.
    pub times: u32,
    /// In any time as long as this.
    #[serde(serialize_with = "super::duration::serialize")]
    pub per: Duration,
}

impl Default for AtMost {
    fn default() -> Self {
        Self {
            times: 30,
            per: Duration::from_hours(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_headers_and_arguments_are_secret() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let webhook = Channel::Webhook(Webhook {
            url: secret("url"),
            headers: vec![("authorization".to_owned(), secret("token"))],
            timeout: Duration::from_secs(1),
        });
        let command = Channel::Command(CommandHook {
            program: "notify".to_owned(),
            arguments: vec![secret("--token"), secret("key")],
            timeout: Duration::from_secs(1),
        });
        for (channel, expected) in [(webhook, ["url", "token"]), (command, ["--token", "key"])] {
            let told: Vec<&str> = channel.secrets().map(Secret::expose).collect();
            assert_eq!(told, expected);
        }
    }
}
