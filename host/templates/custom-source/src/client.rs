//! The API that is read, page by page. The rest of the crate does not know how it is asked.
//!
//! This one answers from memory. A real one asks over the network with a client that blocks, such as `ureq`; stages
//! run on threads of their own, so no async runtime is needed:
//!
//! 1. Add `ureq` to `Cargo.toml`, keep an agent in [`Client`], and let [`Client::page`] send the request.
//! 2. In the manifest say what is reached:
//!    `.capabilities(Capabilities::none().host("api.example.com:443").secret("api_token"))`.
//! 3. The operator grants it in the file beside the library:
//!    `capabilities: { hosts: ["api.example.com:443"], secrets: { api_token: "${API_TOKEN}" } }`.
//! 4. The extractor takes the token from `cx.secret("api_token")`.

use etl_plugin_api::Result;

/// An event, as the API tells it.
pub struct Event {
    /// Grows from event to event.
    pub id: i64,
    /// Who did it.
    pub user: String,
    /// What was done; the API does not always know.
    pub action: Option<String>,
}

/// How many events the API has. A real one has more every day.
const EVENTS: i64 = 2_500;

/// The most events of a page.
const PAGE: i64 = 1_000;

/// Asks the API.
pub struct Client;

impl Client {
    /// The next events behind the one with this number; none if there are no more.
    ///
    /// An error says whether trying again makes sense: `.transient("…")` for a timeout or a server that is busy,
    /// `.fatal("…")` for an answer that makes no sense (`use etl_plugin_api::ResultExt`).
    pub fn page(&self, after: i64) -> Result<Vec<Event>> {
        let last = EVENTS.min(after + PAGE);
        Ok((after + 1..=last).map(event).collect())
    }
}

fn event(id: i64) -> Event {
    Event {
        id,
        user: format!("user-{}", id % 7),
        action: (id % 10 != 0).then(|| "login".to_owned()),
    }
}
