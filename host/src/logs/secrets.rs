//! The secrets that this process knows: of configurations, grants and notifications.
//!
//! A safety net under the rule that no message holds one. Values shorter than four characters are not looked for.

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use crate::capabilities::Redactor;
use crate::config::Secret;

static KNOWN: RwLock<Option<Redactor>> = RwLock::new(None);

/// From now on these values are taken out of everything that is logged, traced or shown as a failure.
pub fn hide<'a>(secrets: impl IntoIterator<Item = &'a Secret>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().add(secrets);
}

/// The text without the secrets.
pub fn redact(text: &str) -> Cow<'_, str> {
    match &*KNOWN.read().unwrap_or_else(PoisonError::into_inner) {
        Some(known) => known.redact(text),
        None => Cow::Borrowed(text),
    }
}
