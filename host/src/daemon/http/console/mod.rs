//! The web console's files: pages, scripts and styles, part of the binary.
//!
//! They hold no data: what the console shows and does goes through the API, which asks for the proof. So a link to a page
//! can be opened from anywhere.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::literal::hex;

/// Nothing but the console's own files, and no page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the files lie.
const ASSETS: &str = "/assets/";

/// What is shown at every page's address; its script finds out which page it is.
const INDEX: &str = "index.html";

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("assets/", $name)))),+]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "actions-data.js",
    "actions.js",
    "address.js",
    "api.js",
    "app.js",
    "audit-words.js",
    "chart.js",
    "charts.css",
    "components.css",
    "console.css",
    "details.css",
    "dialog.js",
    "dom.js",
    "graph.js",
    "icon.svg",
    "index.html",
    "layout.css",
    "ledger.js",
    "log.js",
    "overlays.css",
    "overview-table.js",
    "pages-audit.js",
    "pages-login.js",
    "pages-overview.js",
    "pages-pipeline-config.js",
    "pages-pipeline-letters.js",
    "pages-pipeline-logs.js",
    "pages-pipeline-overview.js",
    "pages-pipeline-runs.js",
    "pages-pipeline-schedule.js",
    "pages-pipeline.js",
    "pages-plugins.js",
    "pages-run.js",
    "pages-runs.js",
    "pages-servers.js",
    "picker.js",
    "refetch.js",
    "router.js",
    "run-card.js",
    "run-facts.js",
    "run-tables.js",
    "scale.js",
    "shell.js",
    "table.js",
    "tables.css",
    "theme.js",
    "timeline.js",
    "watch.js",
];

/// A file as it is sent.
struct Asset {
    content: &'static [u8],
    media_type: &'static str,
    /// Changes with its content.
    tag: HeaderValue,
}

static SERVED: LazyLock<BTreeMap<&str, Asset>> = LazyLock::new(|| {
    let asset = |(name, content): &(&'static str, &'static [u8])| {
        let checksum = hex(&Sha256::digest(content));
        let tag = format!("\"{}\"", checksum.get(..16).unwrap_or(&checksum));
        let tag = HeaderValue::try_from(tag).ok()?;
        let media_type = media_type(name);
        Some((
            *name,
            Asset {
                content,
                media_type,
                tag,
            },
        ))
    };
    FILES.iter().filter_map(asset).collect()
});

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// The name of the file for an address of the console.
fn file_at(path: &str) -> Option<&str> {
    if let Some(name) = path.strip_prefix(ASSETS) {
        return Some(name);
    }
    let mut parts = path.strip_prefix('/')?.split('/');
    let is_page = match (parts.next()?, parts.next(), parts.next()) {
        ("" | "runs" | "servers" | "plugins" | "audit" | "login", None, None) => true,
        ("pipelines" | "runs", Some(name), None) => !name.is_empty(),
        _ => false,
    };
    is_page.then_some(INDEX)
}

/// Whether this is an address of the console.
pub fn serves(path: &str) -> bool {
    file_at(path).is_some()
}

/// A file of the console, for an address that no route of the API has.
pub fn answer(request: &Request) -> Option<Response> {
    let name = file_at(request.uri().path())?;
    if !request.method().is_safe() {
        return None;
    }
    let Some(asset) = SERVED.get(name) else {
        let problem = Problem::new(
            StatusCode::NOT_FOUND,
            "the console has no such file",
            "load the page again: it may be that of another version",
        );
        return Some(problem.into_response());
    };
    Some(asset.answer(request.headers()))
}

impl Asset {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let own = [
            (header::ETAG, self.tag.clone()),
            // It is asked for again each time, and only sent if the daemon has become another.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(POLICY),
            ),
        ];
        let known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .any(|tag| tag == self.tag);
        if known {
            return (StatusCode::NOT_MODIFIED, own).into_response();
        }
        let kind = HeaderValue::from_static(self.media_type);
        (own, [(header::CONTENT_TYPE, kind)], self.content).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_part_of_the_binary() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/daemon/http/console/assets"
        );
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let served: BTreeSet<String> = SERVED.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(served, there);
        assert!(
            SERVED
                .values()
                .all(|asset| asset.media_type != "application/octet-stream")
        );
    }

    #[test]
    fn pages_have_addresses_and_nothing_else_does() {
        for page in [
            "/",
            "/runs",
            "/runs/1",
            "/pipelines/logins",
            "/login",
            "/audit",
        ] {
            assert_eq!(file_at(page), Some(INDEX), "{page}");
        }
        assert_eq!(file_at("/assets/app.js"), Some("app.js"));
        for other in [
            "",
            "/api/v1/runs",
            "/metrics",
            "/pipelines",
            "/pipelines/",
            "/runs/1/2",
            "/x",
            "/api",
            "//",
        ] {
            assert_eq!(file_at(other), None, "{other}");
        }
    }
}
