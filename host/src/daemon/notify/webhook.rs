//! Tells by a request to a web server. Neither the URL nor a header is shown anywhere: they hold tokens.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, redirect};

use crate::config::notifications::Webhook;
use crate::error::{Error, ErrorKind, Result};

/// How often it is tried again.
const RETRIES: u32 = 3;

/// A web server that is told.
pub struct WebhookCourier {
    client: Client,
    hook: Webhook,
    /// Before the first retry; doubled before each further one.
    pause: Duration,
}

impl WebhookCourier {
    /// Makes a client for it. Opens no connection.
    pub fn build(hook: Webhook, pause: Duration) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("etl-host/", env!("CARGO_PKG_VERSION")))
            // A token must not follow to another place.
            .redirect(redirect::Policy::none())
            .timeout(hook.timeout)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Refused, "a webhook cannot be prepared")
                    .caused_by(error.without_url())
                    .hint("install ca-certificates")
            })?;
        Ok(Self {
            client,
            hook,
            pause,
        })
    }

    /// Sends it, and again where that may help.
    pub async fn deliver(&self, body: &str) -> Result<()> {
        let mut pause = self.pause;
        let mut retries = 0;
        loop {
            let (error, again) = match self.send(body).await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) => (refused(status), may_pass(status)),
                Err(error) => {
                    let again = error.is_connect() || error.is_timeout() || error.is_request();
                    (unreached(error), again)
                }
            };
            if !again || retries == RETRIES {
                return Err(error);
            }
            retries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn send(&self, body: &str) -> reqwest::Result<StatusCode> {
        let mut request = self
            .client
            .post(self.hook.url.expose())
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in &self.hook.headers {
            // Both were looked at when the configuration was read.
            if let (Ok(name), Ok(mut value)) = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value.expose()),
            ) {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        Ok(request.body(body.to_owned()).send().await?.status())
    }
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

fn refused(status: StatusCode) -> Error {
    let error = Error::new(
        ErrorKind::Refused,
        format!("the webhook answered {}", status.as_u16()),
    );
    if status.is_redirection() {
        error.hint("a webhook is not followed elsewhere: give the URL that it points to")
    } else {
        error.hint("look at the URL, at its token and at the service behind it")
    }
}

fn unreached(error: reqwest::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the webhook was not reached")
        .caused_by(error.without_url())
        .hint("look at the network, at the server's name and at its certificate")
}
