//! What a caller over TCP proves itself with: the token of `etl-host.yaml`, or a session that was opened with it.
//!
//! A session is for browsers: its cookie is out of reach of scripts, and is not the token. Sessions live in memory and
//! end with the daemon. Which requests need a proof is decided in [`guard`](super::guard).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::config::Http;
use crate::literal::hex;

/// How long a session lasts: a shift, and not a forgotten browser.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

/// Sessions at once; beyond, the one that ends first goes.
const MOST: usize = 1_000;

/// A checksum: two of them have the same length, so comparing takes the same time for every secret.
type Checksum = [u8; 32];

/// How the API is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As it is.
    Plain,
    /// By TLS.
    Tls,
    /// As it is, by something in front of it that may encrypt.
    Proxy,
}

impl Transport {
    /// By the configuration.
    pub fn of(config: &Http) -> Self {
        if config.tls.is_some() {
            Self::Tls
        } else if config.allow_plain {
            Self::Proxy
        } else {
            Self::Plain
        }
    }
}

/// Who may call.
pub struct Credentials {
    token: Option<Checksum>,
    transport: Transport,
    sessions: Mutex<BTreeMap<Checksum, Session>>,
}

/// A browser that has signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// What a request that changes something must bring besides the cookie, which a page from elsewhere cannot read.
    pub csrf: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// It was ended before.
    ended: CancellationToken,
}

impl Session {
    /// Ends when the session does.
    pub async fn end(self) {
        let left = Timestamp::now().duration_until(self.expires_at);
        let left = Duration::try_from(left).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = self.ended.cancelled() => {}
        }
    }
}

/// A session that has just begun.
pub struct SignedIn {
    /// The session.
    pub session: Session,
    /// The value of its cookie; it is kept nowhere.
    pub secret: String,
}

impl Credentials {
    /// By the configuration.
    pub fn new(token: Option<&[u8]>, transport: Transport) -> Self {
        Self {
            token: token.map(checksum),
            transport,
            sessions: Mutex::default(),
        }
    }

    /// Whether anything is to be proven.
    pub fn are_needed(&self) -> bool {
        self.token.is_some()
    }

    /// How the API is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether this is the token. Nothing is without one.
    pub fn is_token(&self, given: &[u8]) -> bool {
        let expected = self.token.as_ref();
        expected.is_some_and(|expected| bool::from(checksum(given).ct_eq(expected)))
    }

    /// Opens a session for who knows the token.
    pub fn sign_in(&self, token: &[u8], now: Timestamp) -> Option<SignedIn> {
        if !self.is_token(token) {
            return None;
        }
        let session = Session {
            csrf: secret(),
            expires_at: now.checked_add(LIFETIME).ok()?,
            ended: CancellationToken::new(),
        };
        let secret = secret();
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.expires_at > now);
        if sessions.len() >= MOST
            && let Some(first) = sessions
                .iter()
                .min_by_key(|(_, session)| session.expires_at)
                .map(|(key, _)| *key)
        {
            sessions.remove(&first);
        }
        sessions.insert(checksum(secret.as_bytes()), session.clone());
        Some(SignedIn { session, secret })
    }

    /// The session of a request's cookie, if it has one that lasts.
    pub fn session(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let secret = self.cookie(headers)?;
        // Looked up by its checksum: how long that takes says nothing about the secret.
        let session = self.sessions().get(&checksum(secret.as_bytes())).cloned()?;
        (session.expires_at > now).then_some(session)
    }

    /// Ends the session of a request's cookie.
    pub fn sign_out(&self, headers: &HeaderMap) {
        if let Some(secret) = self.cookie(headers)
            && let Some(session) = self.sessions().remove(&checksum(secret.as_bytes()))
        {
            session.ended.cancel();
        }
    }

    /// The line that makes a browser keep a session's secret, or forget it.
    pub fn set_cookie(&self, headers: &HeaderMap, secret: Option<&str>) -> String {
        let name = self.cookie_name(headers);
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let encrypted = origin.is_some_and(|origin| origin.starts_with(b"https:"));
        let secure = match self.transport {
            Transport::Tls => "; Secure",
            Transport::Proxy if encrypted => "; Secure",
            Transport::Proxy | Transport::Plain => "",
        };
        let (value, age) = match secret {
            Some(secret) => (secret, LIFETIME.as_secs()),
            None => ("", 0),
        };
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    fn cookie<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let name = self.cookie_name(headers);
        let mut given = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        match (given.next(), given.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// Browsers send a cookie to all ports of a machine, so each daemon has a name of its own.
    fn cookie_name(&self, headers: &HeaderMap) -> String {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let port = host
            .and_then(|host| host.rsplit_once(':'))
            .map(|(_, port)| port)
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        // No other host of a domain can set a cookie of this prefix.
        let prefix = match self.transport {
            Transport::Tls => "__Host-",
            Transport::Proxy | Transport::Plain => "",
        };
        format!("{prefix}etl_session_{}", port.unwrap_or("0"))
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Checksum, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two secrets are the same, in the same time for any.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    bool::from(checksum(one).ct_eq(&checksum(other)))
}

fn checksum(secret: &[u8]) -> Checksum {
    Sha256::digest(secret).into()
}

/// 256 bits that nobody can guess.
fn secret() -> String {
    hex(&rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost:8484"));
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    fn signed_in(credentials: &Credentials, now: Timestamp) -> String {
        let signed_in = credentials.sign_in(b"token", now).unwrap();
        format!("etl_session_8484={}", signed_in.secret)
    }

    #[test]
    fn only_the_token_opens_a_session() {
        let now = Timestamp::UNIX_EPOCH;
        let credentials = Credentials::new(Some(b"token"), Transport::Plain);
        for wrong in [&b""[..], b"toke", b"token ", b"Token"] {
            assert!(credentials.sign_in(wrong, now).is_none());
        }
        assert!(
            Credentials::new(None, Transport::Plain)
                .sign_in(b"", now)
                .is_none()
        );
        let cookie = signed_in(&credentials, now);
        assert!(credentials.session(&headers(&cookie), now).is_some());
        assert!(
            credentials
                .session(&headers(&format!("a=b; {cookie}; c=d")), now)
                .is_some()
        );
        for wrong in [
            "",
            "etl_session_8484=",
            "etl_session_8484=token",
            "etl_session_1=x",
            &format!("{cookie}0"),
            &format!("{cookie}; {cookie}"),
        ] {
            assert!(
                credentials.session(&headers(wrong), now).is_none(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_session_ends_by_itself_and_by_hand() {
        let now = Timestamp::UNIX_EPOCH;
        let credentials = Credentials::new(Some(b"token"), Transport::Plain);
        let headers = headers(&signed_in(&credentials, now));
        let last = now + LIFETIME - SignedDuration::from_secs(1);
        assert!(credentials.session(&headers, last).is_some());
        assert!(credentials.session(&headers, now + LIFETIME).is_none());
        credentials.sign_out(&headers);
        assert!(credentials.session(&headers, now).is_none());
    }

    #[test]
    fn there_are_only_so_many_sessions() {
        let now = Timestamp::UNIX_EPOCH;
        let credentials = Credentials::new(Some(b"token"), Transport::Plain);
        let first = headers(&signed_in(&credentials, now));
        let second = now + SignedDuration::from_secs(1);
        for _ in 0..MOST {
            signed_in(&credentials, second);
        }
        assert_eq!(credentials.sessions().len(), MOST);
        assert!(credentials.session(&first, second).is_none());
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_at_the_cookie() {
        let plain = Credentials::new(Some(b"token"), Transport::Plain)
            .set_cookie(&headers("a=b"), Some("s"));
        assert_eq!(
            plain,
            "etl_session_8484=s; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"
        );
        let tls =
            Credentials::new(Some(b"token"), Transport::Tls).set_cookie(&headers("a=b"), None);
        assert_eq!(
            tls,
            "__Host-etl_session_8484=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"
        );
    }

    #[test]
    fn behind_a_proxy_the_cookie_is_as_safe_as_the_browser_s_way_there() {
        let credentials = Credentials::new(Some(b"token"), Transport::Proxy);
        let mut headers = headers("a=b");
        assert!(
            !credentials
                .set_cookie(&headers, Some("s"))
                .contains("Secure")
        );
        let origin = HeaderValue::from_static("https://localhost:8484");
        headers.insert(header::ORIGIN, origin);
        assert!(
            credentials
                .set_cookie(&headers, Some("s"))
                .ends_with("; Secure")
        );
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_of_a_session_hears_of_it() {
        let credentials = Credentials::new(Some(b"token"), Transport::Plain);
        let headers = headers(&signed_in(&credentials, Timestamp::now()));
        let session = credentials.session(&headers, Timestamp::now()).unwrap();
        let end = tokio::spawn(session.clone().end());
        credentials.sign_out(&headers);
        end.await.unwrap();
        let over = Session {
            expires_at: Timestamp::UNIX_EPOCH,
            ended: CancellationToken::new(),
            ..session
        };
        over.end().await;
    }
}
