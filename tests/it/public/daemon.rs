//! The built daemon with its public listener: a mail leaves dressed, and what comes back by its addresses is known.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, eventually};

const PERSON: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0";

/// Where its public listener is, as it said when it started.
fn public_address(daemon: &Daemon) -> String {
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("reached as")).expect("the public line");
    line.split_whitespace().nth(1).unwrap().trim_end_matches(',').to_owned()
}

/// One request to the public listener: the whole answer.
fn ask(address: &str, method: &str, url: &str) -> String {
    let path = url.strip_prefix("https://msg.example.com").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if method == "POST" { "List-Unsubscribe=One-Click" } else { "" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: msg.example.com\r\nUser-Agent: {PERSON}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn marketing(consent: Value) -> String {
    let html = "<html><body><a href=\"https://shop.example/?a=1&amp;b=2\">shop</a></body></html>";
    json!({
        "context": {
            "tenantId": "acme", "prospectId": "p1", "prospectEmail": "zoe@example.com",
            "messageType": "marketing", "priority": { "level": "low" }, "consent": consent,
        },
        "content": { "subject": "s", "body": "b", "html": html },
    })
    .to_string()
}

/// Sends it and reads what the sandbox took of it.
fn sent(daemon: &Daemon, folder: &Path, request: &str) -> (String, Value) {
    let answer = daemon.call("POST", "/v1/messages", &[], request).unwrap();
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("sent")), "{}", answer.body);
    let id = answer.body["messageId"].as_str().unwrap().to_owned();
    let path = folder.join(format!("state/outbox/email/{id}-1.json"));
    let taken: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    (id, taken)
}

fn quoted<'t>(text: &'t str, before: &str) -> &'t str {
    text.split_once(before).unwrap().1.split_once('"').unwrap().0
}

#[test]
fn a_mail_leaves_dressed_and_what_comes_back_is_on_its_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "public_listen = \"127.0.0.1:0\"\npublic_url = \"https://msg.example.com\"\n";
    let mut daemon = Daemon::prepare(folder.path(), "", settings);
    daemon.start();
    let address = public_address(&daemon);
    let (id, taken) = sent(&daemon, folder.path(), &marketing(json!(true)));
    let html = taken["html"].as_str().unwrap();
    let (link, image) = (quoted(html, "<a href=\""), quoted(html, "<img src=\""));
    let unsubscribe = taken["unsubscribe"].as_str().unwrap();
    let callback = taken["statusCallback"].as_str().unwrap();
    assert!(callback.starts_with("https://msg.example.com/callbacks/sandbox/acme?a="), "{callback}");

    let answer = ask(&address, "GET", link);
    assert!(
        answer.starts_with("HTTP/1.1 302") && answer.contains("location: https://shop.example/?a=1&b=2\r\n")
    );
    assert!(ask(&address, "GET", image).starts_with("HTTP/1.1 200"));
    assert!(ask(&address, "GET", unsubscribe).contains("<form method=\"post\">"));
    // The sandbox's provider calls nobody, and the local API is not here.
    assert!(ask(&address, "POST", callback).starts_with("HTTP/1.1 404"));
    assert!(ask(&address, "GET", "https://msg.example.com/healthz").starts_with("HTTP/1.1 404"));

    let shown = || daemon.call("GET", &format!("/v1/messages/{id}"), &[], "").unwrap().body.to_string();
    assert!(eventually(|| shown().contains("clicked") && shown().contains("opened")), "{}", shown());
    // A GET changed nothing; one POST does, at once.
    sent(&daemon, folder.path(), &marketing(json!(true)));
    assert!(ask(&address, "POST", unsubscribe).starts_with("HTTP/1.1 200"));
    let refused = daemon.call("POST", "/v1/messages", &[], &marketing(json!(true))).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.body);

    // The key is kept: what was sent before a restart still works after it, and no token is in the log.
    assert_eq!(daemon.terminate(), Some(0));
    daemon.start();
    let log = daemon.log();
    let again = log.rsplit("reached as").nth(1).unwrap().rsplit("public").next().unwrap();
    let address = again.trim().trim_end_matches(',');
    assert!(ask(address, "GET", link).starts_with("HTTP/1.1 302"));
    assert!(!log.contains(link.rsplit('/').next().unwrap()));
}

#[test]
fn without_a_public_url_or_leave_nothing_is_dressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(folder.path(), "", "");
    daemon.start();
    let (_, taken) = sent(&daemon, folder.path(), &marketing(json!(true)));
    assert_eq!((&taken["statusCallback"], &taken["unsubscribe"]), (&Value::Null, &Value::Null));
    let plain = taken["html"].as_str().unwrap().to_owned();
    assert!(plain.contains("https://shop.example/?a=1&amp;b=2") && !plain.contains("<img"), "{plain}");
    drop(daemon);

    let refusing = marketing(json!(false)).replace("\"marketing\"", "\"notification\"");
    for (tenant, request) in
        [("[learning]\ntrack_engagement = false\n", marketing(json!(true))), ("", refusing)]
    {
        let folder = tempfile::tempdir().unwrap();
        let settings = "public_url = \"https://msg.example.com\"\n";
        let mut daemon = Daemon::prepare(folder.path(), tenant, settings);
        daemon.start();
        let (_, taken) = sent(&daemon, folder.path(), &request);
        assert_eq!(taken["html"].as_str().unwrap(), plain, "{tenant}");
        assert_eq!(taken["unsubscribe"].is_string(), request.contains("marketing"), "it is no tracking");
    }
}
