//! Who comes over TCP: tokens, pages from elsewhere, bodies, rates, noise, TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use etl_testkit::certificates::Authority;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::Secret;

pub const TOKEN: &str = "0123456789abcdef-token";

pub fn config(token: bool) -> Http {
    Http {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: token.then(|| Secret::new(TOKEN.to_owned())),
        requests_per_second: 10_000,
        ..Http::default()
    }
}

/// Sends bytes as they are, and returns what comes back until the end. A connection of which no more is to come is
/// closed by the server, so noise says so.
fn exchange(address: SocketAddr, bytes: &[u8], noise: bool) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    // The other side may have closed already.
    let _ = stream.write_all(bytes);
    if noise {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request, and returns status and answer.
pub async fn ask(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> (u16, String) {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers.iter().copied() {
        request.extend([header, "\r\n"]);
    }
    request.extend(["\r\n", body]);
    let answer = tokio::task::spawn_blocking(move || exchange(address, request.as_bytes(), false));
    let answer = answer.await.unwrap();
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_opens_the_door() {
    let stage = Stage::open(Some(config(true))).await;
    let address = stage.listening.tcp.unwrap();
    let host = "Host: anything.example";
    let right = bearer(TOKEN);
    let (status, answer) = ask(address, "GET /api/v1/daemon", &[host, &right], "").await;
    assert_eq!(status, 200, "{answer}");
    for header in [
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "x-frame-options: DENY",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
    let wrong = [
        "X-Nothing: 1".to_owned(),
        bearer(""),
        bearer("0123456789abcdef-toke"),
        bearer("0123456789abcdef-token1"),
        bearer("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln"),
        format!("Authorization: Basic {TOKEN}"),
        format!("Authorization: {TOKEN}"),
        format!("{right}\r\n{right}"),
    ];
    for header in &wrong {
        for line in [
            "GET /api/v1/daemon",
            "GET /metrics",
            "GET /api/openapi.json",
            "GET /nothing",
            "POST /api/v1/pipelines/logins/start",
        ] {
            let (status, answer) = ask(address, line, &[host, header], "").await;
            assert_eq!(status, 401, "{line} {header}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            assert!(!answer.contains(TOKEN), "{answer}");
        }
    }
    for open in ["GET /healthz", "GET /readyz"] {
        assert_eq!(ask(address, open, &[host], "").await.0, 200, "{open}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_from_elsewhere_stay_out() {
    let stage = Stage::open(Some(config(false))).await;
    let address = stage.listening.tcp.unwrap();
    let line = "POST /api/v1/pipelines/logins/start";
    let own = format!("Host: {address}");
    let origin = format!("Origin: http://{address}");
    for headers in [
        vec![own.as_str()],
        vec![&own, &origin],
        vec!["Host: localhost:1"],
        vec!["Host: [::1]"],
    ] {
        assert_eq!(ask(address, line, &headers, "").await.0, 202, "{headers:?}");
    }
    assert_eq!(stage.asked().len(), 4);
    for (headers, expected) in [
        (vec!["Host: attacker.example"], 403),
        (vec!["Host: localhost.attacker.example"], 403),
        (vec![own.as_str(), "Origin: http://attacker.example"], 403),
        (vec![&own, "Origin: null"], 403),
        (vec![&own, "Origin: https://localhost"], 403),
        (vec![&own, &own], 400),
        (vec![], 400),
    ] {
        assert_eq!(
            ask(address, line, &headers, "").await.0,
            expected,
            "{headers:?}"
        );
    }
    let absolute = "POST http://attacker.example/api/v1/pipelines/logins/start";
    assert_eq!(ask(address, absolute, &[&own], "").await.0, 400);
    let (status, answer) = ask(address, "OPTIONS /api/v1/daemon", &[&own, &origin], "").await;
    assert_eq!(status, 405);
    assert!(
        !answer.to_ascii_lowercase().contains("access-control-allow"),
        "{answer}"
    );
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_json_and_small() {
    let stage = Stage::open(Some(config(false))).await;
    let address = stage.listening.tcp.unwrap();
    let host = format!("Host: {address}");
    let line = "POST /api/v1/pipelines/logins/runs";
    let json = "Content-Type: application/json";
    let large = format!("{{\"since\": \"{}\"}}", "x".repeat(65 * 1024));
    let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    for (headers, body, expected) in [
        (vec![json], "{\"limit\": 1}", 202),
        (
            vec!["Content-Type: application/json; charset=utf-8"],
            "{}",
            202,
        ),
        (vec![], "{}", 415),
        (vec!["Content-Type: text/plain"], "{}", 415),
        (
            vec!["Content-Type: application/x-www-form-urlencoded"],
            "limit=1",
            415,
        ),
        (vec![json], "{", 400),
        (vec![json], "[]", 422),
        (vec![json], "{\"limit\": -1}", 422),
        (vec![json], large.as_str(), 413),
    ] {
        let length = format!("Content-Length: {}", body.len());
        let mut all = vec![host.as_str(), &length];
        all.extend(headers);
        let (status, answer) = ask(address, line, &all, body).await;
        assert_eq!(status, expected, "{all:?} {answer}");
        assert!(
            expected == 202 || answer.contains("\"next_step\":\""),
            "{answer}"
        );
    }
    let headers = [host.as_str(), json, "Transfer-Encoding: chunked"];
    assert_eq!(ask(address, line, &headers, &chunked).await.0, 413);
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_to_wait() {
    let few = Http {
        requests_per_second: 1,
        ..config(true)
    };
    let stage = Stage::open(Some(few)).await;
    let address = stage.listening.tcp.unwrap();
    let mut answers = Vec::new();
    for _ in 0..8 {
        // Guessing tokens is limited as well.
        let headers = ["Host: x", "Authorization: Bearer wrong"];
        answers.push(ask(address, "GET /api/v1/daemon", &headers, "").await);
    }
    assert_eq!(answers[0].0, 401);
    let (_, refused) = answers.iter().find(|(status, _)| *status == 429).unwrap();
    assert!(refused.contains("retry-after: 1"), "{refused}");
    // The command line is not a client of TCP.
    stage.client().await.get("/api/v1/daemon").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_gets_an_error_or_nothing_and_the_server_goes_on() {
    let stage = Stage::open(Some(config(true))).await;
    let address = stage.listening.tcp.unwrap();
    let valid = format!(
        "POST /api/v1/pipelines/logins/runs HTTP/1.1\r\nHost: x\r\n{}\r\nContent-Type: application/json\r\n\
         Content-Length: 12\r\n\r\n{{\"limit\": 1}}",
        bearer("0123456789abcdef-wrong")
    );
    let noise = tokio::task::spawn_blocking(move || {
        let mut random = StdRng::seed_from_u64(8484);
        for round in 0..300 {
            let bytes: Vec<u8> = if round % 2 == 0 {
                (0..random.random_range(0..2000))
                    .map(|_| random.random())
                    .collect()
            } else {
                let mut bytes = valid.clone().into_bytes();
                for _ in 0..random.random_range(1..8) {
                    let place = random.random_range(0..bytes.len());
                    bytes[place] = random.random();
                }
                bytes.truncate(random.random_range(0..=bytes.len()));
                bytes
            };
            let answer = exchange(address, &bytes, true);
            let fine = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(fine, "round {round}: {answer}");
            assert!(
                !answer.contains(TOKEN) && !answer.contains("panicked"),
                "{answer}"
            );
        }
    });
    noise.await.unwrap();
    let (status, _) = ask(address, "GET /healthz", &["Host: x"], "").await;
    assert_eq!(status, 200);
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_with_his_question_is_cut_off() {
    let daemon = Arc::new(StageDaemon::default());
    let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api::router(Api::new(daemon, shutdown.clone()));
    let connections = Connections::new(router, shutdown.clone(), tasks.clone())
        .head_limit(Duration::from_millis(50));
    tasks.spawn(connections.serve_tcp(listener, None));
    let slow = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
        let mut answer = Vec::new();
        // It ends without our closing anything.
        let _ = stream.read_to_end(&mut answer);
    });
    slow.await.unwrap();
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_trusts_the_certificate_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let issued = authority.issue(&["localhost"]).unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (cert_file, key_file) = (
        file("cert.pem", &issued.certificate_pem),
        file("key.pem", &issued.key_pem),
    );
    let ca_file = file("ca.pem", authority.certificate_pem());
    let other = file("other.pem", Authority::new().unwrap().certificate_pem());
    let tls = Http {
        tls: Some(HttpTls {
            cert_file,
            key_file: key_file.clone(),
        }),
        ..config(true)
    };
    let stage = Stage::open(Some(tls.clone())).await;
    let port = stage.listening.tcp.unwrap().port();
    let curl = |ca: &Path, scheme: &str| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(ca)
            .args(["--header", &bearer(TOKEN)])
            .arg(format!("{scheme}://localhost:{port}/api/v1/pipelines"));
        command
    };
    let output =
        |mut command: Command| tokio::task::spawn_blocking(move || command.output().unwrap());
    let trusted = output(curl(&ca_file, "https")).await.unwrap();
    let answer: Value = serde_json::from_slice(&trusted.stdout).unwrap();
    assert_eq!(answer["pipelines"][0]["name"], "logins");
    assert!(
        !output(curl(&other, "https"))
            .await
            .unwrap()
            .status
            .success()
    );
    assert!(
        !output(curl(&ca_file, "http"))
            .await
            .unwrap()
            .status
            .success()
    );
    // Who does not speak TLS does not hold anything up.
    let noise = tokio::task::spawn_blocking(move || {
        exchange(
            ([127, 0, 0, 1], port).into(),
            b"GET / HTTP/1.1\r\n\r\n",
            true,
        )
    });
    assert!(!noise.await.unwrap().contains("HTTP"));

    for (tls, message) in [
        (
            HttpTls {
                cert_file: key_file.clone(),
                key_file: key_file.clone(),
            },
            "cert_file",
        ),
        (
            HttpTls {
                cert_file: other,
                key_file,
            },
            "key_file",
        ),
        (
            HttpTls {
                cert_file: folder.path().join("none"),
                key_file: ca_file,
            },
            "cert_file",
        ),
    ] {
        let error = load_tls(&tls).err().unwrap();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let config = Http {
        listen: address,
        ..config(false)
    };
    let folder = tempfile::tempdir().unwrap();
    let daemon = Arc::new(StageDaemon::default());
    let opened = open(
        daemon,
        Some(&config),
        folder.path(),
        CancellationToken::new(),
    )
    .await;
    let error = opened.err().unwrap();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.own_hint().unwrap().contains("http.listen"));
    assert!(!folder.path().join(socket::NAME).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_how_it_is() {
    use std::sync::atomic::Ordering;
    let stage = Stage::open(Some(config(false))).await;
    let address = stage.listening.tcp.unwrap();
    let host = format!("Host: {address}");
    let get = async |line: &str, more: &str| ask(address, line, &[&host, more], "").await;
    assert_eq!(get("GET /readyz", "X: 1").await.0, 200);
    stage.daemon.ready.store(false, Ordering::Relaxed);
    let (status, answer) = get("GET /readyz", "X: 1").await;
    assert!(status == 503 && answer.contains("starting"), "{answer}");
    assert_eq!(get("GET /healthz", "X: 1").await.0, 200);
    stage.daemon.ticked_at.fetch_sub(60, Ordering::Relaxed);
    let (status, answer) = get("GET /healthz", "X: 1").await;
    assert!(status == 503 && answer.contains("stuck"), "{answer}");
    let (status, answer) = get("GET /metrics", "Accept: text/plain").await;
    assert!(
        status == 200 && answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (_, answer) = get("GET /metrics", accept).await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    assert!(answer.contains("# EOF"), "{answer}");
}
