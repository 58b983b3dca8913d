//! The short way in and the router: what one answers, the other answers, byte for byte.

use std::fs;

use axum::http::Request;
use channel_orchestrator::{
    api::{ApiSettings, answers::DecisionAnswer, auth::Scope, listen::Door},
    request::{self, Purpose},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    house::{Answer, House, example, post},
    sockets::{Served, answer, write},
};

/// A request: its path, its headers and its body.
type Asked = (&'static str, Vec<(&'static str, String)>, String);

/// One of every kind of answer.
fn requests() -> Vec<Asked> {
    let json = || vec![("content-type", "application/json".to_owned())];
    let lines = || vec![("content-type", "application/x-ndjson; charset=utf-8".to_owned())];
    let (one, many) = ("/v1/decisions", "/v1/decisions:batch");
    let named = |name: &str| example(name).to_string();
    let mut of_nobody = example("urgent");
    of_nobody["context"]["tenantId"] = "nobody".into();
    let mut nowhere = example("urgent");
    nowhere["context"]["preferences"] = serde_json::json!({ "disabledChannels": ["sms", "email"] });
    let with = |mut headers: Vec<(&'static str, String)>, name, value: &str| {
        headers.push((name, value.to_owned()));
        headers
    };
    vec![
        (one, json(), named("urgent")),
        (one, vec![], named("marketing")),
        (one, json(), named("quiet_hours")),
        (one, json(), named("appointment")),
        (one, with(json(), "x-request-id", "mine-1"), named("fallback")),
        (one, json(), of_nobody.to_string()),
        (one, json(), nowhere.to_string()),
        (one, json(), "{\"context\": {,}".into()),
        (one, json(), "{\"context\":{\"tenantId\":\"acme\",\"prospectId\":\"p\",\"x\":1}}".into()),
        (one, json(), String::new()),
        (one, vec![("content-type", "text/plain".into())], named("urgent")),
        (one, with(json(), "content-encoding", "gzip"), named("urgent")),
        (one, json(), format!("{{\"x\":\"{}\"}}", "y".repeat(30_000))),
        (one, with(json(), "origin", "https://evil.example"), named("urgent")),
        (many, lines(), format!("{}\nno\n\n{}", named("urgent"), of_nobody)),
        (many, vec![], named("urgent")),
        (many, lines(), String::new()),
        (many, json(), named("urgent")),
    ]
}

async fn by_socket(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, asked: &Asked) -> String {
    let (path, headers, body) = asked;
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    write(stream, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    super::sockets::rest(stream).await
}

/// Status, headers and body of both, without what no two answers have in common.
#[track_caller]
fn assert_alike(socket: &str, router: &Answer, asked: &Asked) {
    let (head, body) = socket.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{asked:?}: {socket:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    assert_eq!(status, router.status.as_str(), "{asked:?}: {socket}");
    let mut headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let given = asked.1.iter().any(|(name, _)| *name == "x-request-id");
    let of_transport = |name: &str| {
        ["date", "connection", "transfer-encoding", "content-length"].contains(&name)
            || (name == "x-request-id" && !given)
    };
    assert!(headers.iter().any(|(name, value)| name == "x-request-id" && !value.is_empty()));
    headers.retain(|(name, _)| !of_transport(name));
    headers.sort();
    let mut expected: Vec<(String, String)> = router
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| !of_transport(name))
        .collect();
    expected.sort();
    assert_eq!(headers, expected, "{asked:?}");
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => whole(body),
        false => body.to_owned(),
    };
    assert_eq!(body, router.text, "{asked:?}");
}

/// A body that came in chunks.
pub fn whole(chunked: &str) -> String {
    let (mut out, mut rest) = (String::new(), chunked);
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        out.push_str(&after[..length]);
        rest = &after[length + 2..];
    }
    out
}

#[tokio::test]
async fn both_ways_answer_alike() {
    let small = |settings: &mut ApiSettings| {
        settings.bodies.decision_bytes = 20_000;
        settings.listen = Some("127.0.0.1:0".parse().unwrap());
    };
    let served = Served::new(small).await;
    let key = served.house.key("acme", &[Scope::Read]).await;
    let others = served.house.key("globex", &[Scope::Send]).await;
    let keys = ["", "ork_wrong", key.as_str(), others.as_str()];
    for asked in requests() {
        let request = |door: Door, host: &str, headers: &[(&'static str, String)]| {
            let mut request = Request::post(asked.0).header("host", host);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            request.extension(door).body(axum::body::Body::from(asked.2.clone())).unwrap()
        };
        let router = served.house.ask_as_it_is(request(Door::Unix, "x", &asked.1)).await;
        assert_alike(&by_socket(&mut served.connect().await, "x", &asked).await, &router, &asked);
        for host in ["localhost", "evil.example"] {
            for key in keys {
                let mut asked = asked.clone();
                if !key.is_empty() {
                    asked.1.push(("authorization", format!("Bearer {key}")));
                }
                let router = served.house.ask_as_it_is(request(Door::Tcp, host, &asked.1)).await;
                let mut stream = TcpStream::connect(served.tcp.unwrap()).await.unwrap();
                assert_alike(&by_socket(&mut stream, host, &asked).await, &router, &asked);
            }
        }
    }
    // Both are counted, under the routes' own names.
    let metrics = served.house.get("/metrics").await.text;
    for path in ["/v1/decisions", "/v1/decisions:batch"] {
        for status in [200, 401, 403] {
            let line = format!("{{method=\"POST\",path=\"{path}\",status=\"{status}\"}}");
            assert!(metrics.contains(&line), "{line}\n{metrics}");
        }
    }
}

#[tokio::test]
async fn a_connection_takes_one_request_after_the_other() {
    let served = Served::new(|_| {}).await;
    let mut stream = served.connect().await;
    let body = example("urgent").to_string();
    for path in ["/v1/decisions", "/v1/decisions?x=1", "/healthz", "/v1/decisions", "/v1/decisions:batch/"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        write(&mut stream, &head).await;
        let said = answer(&mut stream).await;
        let expected = match path {
            "/healthz" => "405",
            "/v1/decisions:batch/" => "404",
            _ => "200",
        };
        assert!(said.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {said}");
    }
}

/// What is written by hand is what serde writes of the whole way's decision, byte for byte.
#[tokio::test]
async fn an_answer_is_written_as_serde_would_write_it() {
    let house = House::idle(ApiSettings::default()).await;
    let policies = house.dir.path().join("policies");
    let tenant =
        "[weights]\noddly = 7\n[variants.bold.weights]\ncost = 3\n[split]\nbold = 50\ncontrol = 50\n";
    fs::write(policies.join("tenants/acme.toml"), tenant).unwrap();
    let script = r#"fn score(message, channel) {
    if message.length > 10 && channel.name != "telegram" {
        return award(0.5, "it's \"quoted\" \\ é");
    }
    neutral()
}
"#;
    fs::write(policies.join("criteria/oddly.rhai"), script).unwrap();
    let reloaded = house.post("/v1/policies/reload", &json!(null)).await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    let (mut compared, mut seen) = (0, String::new());
    for n in 0..400_u32 {
        let mut asked = example(["urgent", "marketing", "quiet_hours", "appointment"][n as usize % 4]);
        asked["context"]["prospectId"] = format!("p{n}").into();
        asked["content"] = json!({ "body": "é".repeat(n as usize), "html": if n % 5 == 0 { json!("<p>") } else { json!(null) } });
        asked["at"] = format!("2025-11-{:02}T{:02}:{:02}:00+01:00", 1 + n % 28, n % 24, n * 7 % 60).into();
        asked["context"]["consent"] = true.into();
        if n % 3 == 0 {
            asked["context"]["prospectWhatsApp"] = "+33612345678".into();
            asked["context"]["prospectTelegram"] = "42".into();
        }
        if n % 7 == 0 {
            asked["sendAt"] = format!("2025-12-01T{:02}:00:00.{:03}Z", n % 24, n).into();
        }
        if n % 11 == 0 {
            asked["variant"] = "control".into();
        }
        let bytes = asked.to_string();
        assert!(request::lean::parse(bytes.as_bytes()).is_some(), "{asked}");
        let found = house.ask(post("/v1/decisions", &asked)).await;
        let whole = request::parse(bytes.as_bytes(), Purpose::Decision).unwrap();
        let preview = house.api.orchestrator.preview(&whole).await.unwrap();
        let Some(answer) = DecisionAnswer::new(preview) else {
            assert_eq!(found.status, 422);
            continue;
        };
        assert_eq!(found.text, serde_json::to_string(&answer).unwrap());
        compared += 1;
        seen.push_str(&found.text);
    }
    assert!(compared > 300, "{compared}");
    // What has to be seen was seen.
    for part in
        [r#"\"quoted\" \\ é"#, r#""variant":"bold""#, r#""variant":"control""#, "heldUntil", r#""strategy":"#]
    {
        assert!(seen.contains(part), "{part}");
    }
}
