//! Meta and Telegram as their vendors describe them: a twin that holds every request against the vendors' own
//! schemas and signs its callbacks as they do.
//!
//! Run where `ORCHESTRATOR_TEST_TWIN` names the twin's script and `ORCHESTRATOR_TEST_TWIN_PYTHON` a Python that
//! has what it needs; passed over elsewhere.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use channel_orchestrator::{
    channels::{Driver, Outbound},
    domain::{
        address::Address,
        channel::Channel,
        delivery::ApprovedTemplate,
        receipt::{ProviderEvent, ReceiptKind},
    },
};
use serde_json::{Value, json};

use super::{
    attempt,
    chat::{ATTEMPT, Secrets, answer, call, events, file, message},
    driver,
};
use crate::support::http_provider::{Heard, HttpProvider};

const BOT_TOKEN: &str = "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The twin in a process of its own, until it is dropped.
pub struct Twin {
    pub port: u16,
    child: Child,
}

impl Twin {
    /// `hook` is where its WhatsApp statuses go.
    pub async fn start(hook: u16) -> Option<Self> {
        let (Some(script), Some(python)) =
            (std::env::var_os("ORCHESTRATOR_TEST_TWIN"), std::env::var_os("ORCHESTRATOR_TEST_TWIN_PYTHON"))
        else {
            eprintln!("not run: ORCHESTRATOR_TEST_TWIN and ORCHESTRATOR_TEST_TWIN_PYTHON name no twin");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(python)
            .arg(script)
            .arg(port.to_string())
            .args(["--callback-delay", "0"])
            .env("META_HOOK", format!("http://127.0.0.1:{hook}/callbacks/meta/tenant_123"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let twin = Self { port, child };
        eventually("the twin answers", || TcpStream::connect(("127.0.0.1", port)).ok()).await;
        Some(twin)
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut link = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: twin\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        link.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut heard = String::new();
        link.read_to_string(&mut heard).unwrap();
        let body = heard.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{heard}"))
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(seen) = look() {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}")
}

fn meta(secrets: &Secrets, port: u16, more: &str) -> Arc<dyn Driver> {
    let toml = format!(
        "kind = \"meta\"\nphone_number_id = \"106540352242922\"\naccess_token = \"{}\"\napp_secret = \"{}\"\n\
         base_url = \"http://127.0.0.1:{port}\"\n{more}\n",
        secrets.keep("token", "meta-tok"),
        secrets.keep("secret", "app-secret")
    );
    driver(&toml).unwrap()
}

fn whatsapp(to: &str) -> Outbound {
    Outbound { in_service_window: true, ..message(Channel::WhatsApp, Address::Phone(to.into())) }
}

/// What the driver reads in the callbacks that came so far.
fn read(driver: &Arc<dyn Driver>, calls: &[Heard], header: &str) -> Vec<ProviderEvent> {
    let read = |heard: &Heard| {
        let headers = [(header, heard.header(header).unwrap_or_default())];
        events(call(driver, "POST", "", &headers, heard.body.as_bytes()))
    };
    calls.iter().flat_map(read).collect()
}

fn kinds(events: &[ProviderEvent]) -> Vec<ReceiptKind> {
    events
        .iter()
        .filter_map(|event| match event {
            ProviderEvent::Receipt(receipt) => Some(receipt.kind),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_whatsapp_form_is_metas_own_and_its_callbacks_are_read() {
    let hook = HttpProvider::start(vec![answer(200, "", "")]).await;
    let Some(twin) = Twin::start(hook.port).await else { return };
    let secrets = Secrets::new();
    let silent = meta(&secrets, twin.port, "");
    let echoing = meta(&secrets, twin.port, "echo_attempt = true");
    let accepted = async |driver: &Arc<dyn Driver>, outbound: &Outbound| {
        let ended = attempt(driver, outbound).await;
        assert!(ended.starts_with("accepted wamid."), "{ended}");
    };
    accepted(&silent, &whatsapp("+33612345678")).await;
    for (name, content_type) in [("plan d’accès.pdf", "application/pdf"), ("photo.jpg", "image/jpeg")] {
        let mut outbound = whatsapp("+33612345678");
        outbound.content.attachments = vec![file(name, content_type, 2000)];
        accepted(&silent, &outbound).await;
    }
    for parameters in [vec![], vec!["Ada".to_owned(), "14 h".to_owned()]] {
        let template = ApprovedTemplate { name: "rappel_rdv".into(), language: "fr".into(), parameters };
        let outside = Outbound {
            in_service_window: false,
            approved_template: Some(template),
            ..whatsapp("+33612345678")
        };
        accepted(&echoing, &outside).await;
    }
    for (to, expected) in [("+33612340001", "permanent 131026"), ("+33612340002", "temporary 130429")] {
        assert_eq!(attempt(&silent, &whatsapp(to)).await, expected);
    }
    for (fault, expected) in [
        (json!({ "match": "messages", "status": 503, "body": "{}" }), "unknown 503"),
        (json!({ "match": "messages", "drop": true }), "unknown"),
        (json!({ "match": "messages", "after": "accept", "drop": true }), "unknown"),
    ] {
        twin.ask("POST", "/_fault", &fault.to_string());
        assert_eq!(attempt(&silent, &whatsapp("+33612345678")).await, expected, "{fault}");
    }
    let mut outbound = whatsapp("+33612345678");
    outbound.content.attachments = vec![file("a.pdf", "application/pdf", 10)];
    twin.ask("POST", "/_fault", &json!({ "match": "media", "drop": true }).to_string());
    assert_eq!(attempt(&silent, &outbound).await, "early not_sent");
    let wrong = driver(&format!(
        "kind = \"meta\"\nphone_number_id = \"106540352242922\"\naccess_token = \"{}\"\nbase_url = \"http://127.0.0.1:{}\"",
        secrets.keep("wrong", "expired"),
        twin.port
    ));
    assert_eq!(attempt(&wrong.unwrap(), &whatsapp("+33612345678")).await, "misconfigured 190");

    // Six taken, three statuses each; the one whose answer was lost among them.
    let calls = eventually("the statuses", || Some(hook.heard()).filter(|heard| heard.len() >= 18)).await;
    let read_so_far = kinds(&read(&silent, &calls, "x-hub-signature-256"));
    assert_eq!(read_so_far.iter().filter(|kind| **kind == ReceiptKind::Read).count(), 6);
    accepted(&silent, &whatsapp("+33612340004")).await;
    let stop = json!({ "provider": "meta", "from": "33612345678", "body": "STOP é 👍" });
    twin.ask("POST", "/_inbound", &stop.to_string());
    let calls =
        eventually("the failure and the STOP", || Some(hook.heard()).filter(|heard| heard.len() >= 20)).await;
    let read = read(&silent, &calls[18..], "x-hub-signature-256");
    assert_eq!(kinds(&read), [ReceiptKind::Undelivered]);
    let said = read.iter().find_map(|event| match event {
        ProviderEvent::Inbound(message) => Some((message.from.as_str(), message.text.as_str())),
        _ => None,
    });
    assert_eq!(said, Some(("+33612345678", "STOP é 👍")));
    assert_eq!(twin.ask("GET", "/_violations", ""), json!([]));
    assert!(twin.ask("GET", "/_log", "").to_string().contains(ATTEMPT));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_telegram_form_is_the_bot_apis_own_and_its_callbacks_are_read() {
    let hook = HttpProvider::start(vec![answer(200, "", "")]).await;
    let Some(twin) = Twin::start(hook.port).await else { return };
    let secrets = Secrets::new();
    let bot = |more: &str, token: &str| {
        driver(&format!(
            "kind = \"telegram\"\ntoken = \"{}\"\nwebhook_secret = \"{}\"\nbase_url = \"http://127.0.0.1:{}\"\n{more}\n",
            secrets.keep("token", token),
            secrets.keep("secret", "geheim_1"),
            twin.port
        ))
        .unwrap()
    };
    let to = |chat: &str| message(Channel::Telegram, Address::Chat(chat.into()));
    for more in ["", "link_previews = true\nprotect_content = true"] {
        let driver = bot(more, BOT_TOKEN);
        for attachment in [
            None,
            Some(file("plan d’accès.pdf", "application/pdf", 2000)),
            Some(file("photo.jpg", "image/jpeg", 2000)),
        ] {
            let mut outbound = to("123456789");
            outbound.content.attachments.extend(attachment);
            let ended = attempt(&driver, &outbound).await;
            assert!(ended.starts_with("accepted 123456:"), "{ended}");
        }
    }
    let driver = bot("", BOT_TOKEN);
    assert!(attempt(&driver, &to("@agence_dupont")).await.starts_with("accepted 123456:-100123:"));
    for (chat, expected) in
        [("403", "permanent 403 blocked"), ("404", "permanent 400 chat not found"), ("429", "temporary 429")]
    {
        assert_eq!(attempt(&driver, &to(chat)).await, expected);
    }
    for (fault, expected) in [
        (
            json!({ "match": "sendMessage", "status": 502, "body": "<html>", "type": "text/html" }),
            "unknown 502",
        ),
        (json!({ "match": "sendMessage", "after": "accept", "drop": true }), "unknown"),
    ] {
        twin.ask("POST", "/_fault", &fault.to_string());
        assert_eq!(attempt(&driver, &to("123456789")).await, expected, "{fault}");
    }
    let stranger = bot("", "123456:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB");
    assert_eq!(attempt(&stranger, &to("123456789")).await, "misconfigured 401");

    let set = json!({ "url": format!("http://127.0.0.1:{}/callbacks/telegram/tenant_123", hook.port),
        "secret_token": "geheim_1", "allowed_updates": ["message", "edited_message", "my_chat_member"] });
    assert_eq!(twin.ask("POST", &format!("/bot{BOT_TOKEN}/setWebhook"), &set.to_string())["ok"], true);
    let stop = json!({ "provider": "telegram", "from": "123456789", "body": "/stop" });
    twin.ask("POST", "/_inbound", &stop.to_string());
    let calls = eventually("the STOP", || Some(hook.heard()).filter(|heard| !heard.is_empty())).await;
    let read = read(&driver, &calls, "x-telegram-bot-api-secret-token");
    let [ProviderEvent::Inbound(message)] = read.as_slice() else { panic!("{read:?}") };
    assert_eq!(
        (message.from.as_str(), message.to.as_str(), message.text.as_str()),
        ("123456789", "123456", "stop")
    );
    assert_eq!(twin.ask("GET", "/_violations", ""), json!([]));
}
