//! What a browser meets: the console's files, signing in, pages from elsewhere; and the audit log of what it does.

use super::tcp::{TOKEN, ask, bearer, config};
use super::*;

const HOST: &str = "Host: localhost:8484";

/// Signs in, and gives the cookie and what goes with it.
async fn sign_in(address: SocketAddr) -> (String, String) {
    let body = json!({"token": TOKEN}).to_string();
    let headers = json_headers(&body);
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let (status, answer) = ask(address, "POST /api/v1/session", &headers, &body).await;
    assert_eq!(status, 200, "{answer}");
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(line.contains("HttpOnly; SameSite=Strict"), "{line}");
    assert!(!answer.contains(TOKEN), "{answer}");
    let cookie = line.split(';').next().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let view: Value = serde_json::from_str(body).unwrap();
    assert_eq!(view["signed_in"], true);
    (
        format!("Cookie: {cookie}"),
        format!("X-CSRF-Token: {}", view["csrf"].as_str().unwrap()),
    )
}

fn json_headers(body: &str) -> [String; 3] {
    [
        HOST.to_owned(),
        "Content-Type: application/json".to_owned(),
        format!("Content-Length: {}", body.len()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_anybodys_and_holds_no_data() {
    let stage = Stage::open(Some(config(true))).await;
    let address = stage.listening.tcp.unwrap();
    for page in ["/", "/pipelines/logins", "/runs/1", "/audit", "/login"] {
        // As from a link in a ticket.
        let elsewhere = "Sec-Fetch-Site: cross-site";
        let (status, answer) = ask(address, &format!("GET {page}"), &[HOST, elsewhere], "").await;
        assert_eq!(status, 200, "{page}");
        assert!(answer.contains("content-type: text/html"), "{answer}");
        assert!(answer.contains("script-src 'self';"), "{answer}");
        assert!(!answer.contains("logins"), "{answer}");
    }
    let (status, answer) = ask(address, "GET /", &[HOST], "").await;
    assert_eq!(status, 200);
    let tag = answer
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let known = format!("If-None-Match: {tag}");
    assert_eq!(ask(address, "GET /", &[HOST, &known], "").await.0, 304);
    assert_eq!(ask(address, "GET /assets/x.js", &[HOST], "").await.0, 404);
    // What is anybody's to read is nobody's to write to, nor to fill the audit log with.
    for page in ["/", "/runs", "/assets/app.js", "/healthz"] {
        assert_eq!(
            ask(address, &format!("POST {page}"), &[HOST], "").await.0,
            401,
            "{page}"
        );
    }
    let audit = stage.client().await.get("/api/v1/audit").await.unwrap();
    assert_eq!(audit["entries"], json!([]));
    assert_eq!(
        ask(address, "GET /assets/../api/v1/daemon", &[HOST], "")
            .await
            .0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_serves_in_place_of_the_token() {
    let stage = Stage::open(Some(config(true))).await;
    let address = stage.listening.tcp.unwrap();
    let (status, answer) = ask(address, "GET /api/v1/session", &[HOST], "").await;
    assert_eq!(status, 200);
    assert!(
        answer.contains(r#""token_needed":true,"signed_in":false"#),
        "{answer}"
    );
    for wrong in ["", "x", "0123456789abcdef-toke"] {
        let body = json!({"token": wrong}).to_string();
        let headers = json_headers(&body);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let (status, answer) = ask(address, "POST /api/v1/session", &headers, &body).await;
        assert_eq!(status, 401, "{answer}");
        assert!(!answer.contains("set-cookie"), "{answer}");
    }
    let (cookie, csrf) = sign_in(address).await;
    let get = "GET /api/v1/daemon";
    let start = "POST /api/v1/pipelines/logins/start";
    assert_eq!(ask(address, get, &[HOST, &cookie], "").await.0, 200);
    assert_eq!(
        ask(address, start, &[HOST, &cookie, &csrf], "").await.0,
        202
    );
    assert_eq!(stage.asked(), ["start logins"]);
    for (line, headers, expected) in [
        // A page from elsewhere cannot know it.
        (start, vec![HOST, &cookie], 403),
        (start, vec![HOST, &cookie, "X-CSRF-Token: x"], 403),
        (start, vec![HOST, &csrf], 401),
        (get, vec![HOST, &cookie, &bearer("wrong")], 401),
        (
            get,
            vec![HOST, &cookie, "Origin: http://attacker.example"],
            403,
        ),
        (get, vec![HOST, &cookie, "Sec-Fetch-Site: cross-site"], 403),
        (get, vec![HOST, &cookie, "Sec-Fetch-Site: same-site"], 403),
        (get, vec![HOST, "Cookie: etl_session_8484=x"], 401),
        // Another daemon of this machine.
        (get, vec!["Host: localhost:9", &cookie], 401),
    ] {
        let (status, answer) = ask(address, line, &headers, "").await;
        assert_eq!(status, expected, "{headers:?} {answer}");
    }
    let (status, _) = ask(address, "DELETE /api/v1/session", &[HOST, &cookie], "").await;
    assert_eq!(status, 204);
    assert_eq!(ask(address, get, &[HOST, &cookie], "").await.0, 401);
    assert_eq!(
        ask(address, start, &[HOST, &cookie, &csrf], "").await.0,
        401
    );
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_is_written_down() {
    let stage = Stage::open(Some(config(true))).await;
    let address = stage.listening.tcp.unwrap();
    let (cookie, csrf) = sign_in(address).await;
    let body = r#"{"limit":5}"#;
    let headers = json_headers(body);
    let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    headers.extend([cookie.as_str(), &csrf]);
    let run = "POST /api/v1/pipelines/logins/runs";
    assert_eq!(ask(address, run, &headers, body).await.0, 202);
    let token = bearer(TOKEN);
    let start = "POST /api/v1/pipelines/busy/start";
    assert_eq!(ask(address, start, &[HOST, &token], "").await.0, 409);
    assert_eq!(
        ask(address, "GET /api/v1/runs", &[HOST, &token], "")
            .await
            .0,
        200
    );
    let client = stage.client().await;
    client.delete("/api/v1/pipelines/logins").await.unwrap();

    let audit = client.get("/api/v1/audit").await.unwrap();
    assert!(!audit.to_string().contains(TOKEN), "{audit}");
    let entries = audit["entries"].as_array().unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or("-");
            (
                text("via"),
                text("peer"),
                text("method"),
                entry["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("socket", "-", "DELETE", 200),
            ("token", "127.0.0.1", "POST", 409),
            ("session", "127.0.0.1", "POST", 202),
            ("open", "127.0.0.1", "POST", 200),
        ]
    );
    assert_eq!(entries[1]["error"], "a run goes on already");
    assert_eq!(entries[2]["request"], json!({"limit": 5}));
    assert_eq!(entries[2]["run_id"], "run-new");
    assert_eq!(entries[3]["request"], Value::Null);
    let page = client.get("/api/v1/audit?limit=2").await.unwrap();
    assert_eq!(page["next"], entries[1]["id"]);
    let rest = format!("/api/v1/audit?before={}", page["next"]);
    assert_eq!(
        client.get(&rest).await.unwrap()["entries"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(client.get("/api/v1/audit?limit=0").await.is_err());
}
