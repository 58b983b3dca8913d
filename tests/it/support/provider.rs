//! Twilio's SMS, Meta's WhatsApp and Telegram's bot behind one port, with a ledger, a list that can be asked, receipts
//! that are repeated until they are taken, and the faults that a test's rule orders.
//!
//! Threads of the test's own process: it outlives every daemon. It judges no request; the vendors' descriptions do that
//! elsewhere (`.ci/end_to_end`).

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use channel_orchestrator::channels::http::form;
use chrono::DateTime;
use ring::hmac;
use serde_json::{Value, json};

use super::ledger::Ledger;

pub const ACCOUNT: &str = "AC00000000000000000000000000000000";
pub const AUTH_TOKEN: &str = "the account's own token";
/// How long a callback is repeated until somebody takes it.
const CALLED_FOR: Duration = Duration::from_secs(300);

/// How fast a daemon's clock runs, and from when on (`ORCHESTRATOR_TEST_CLOCK`). Clones are one clock.
#[derive(Clone, Debug)]
pub struct Pace {
    speed: i64,
    from: Arc<AtomicI64>,
}

impl Pace {
    /// At least twice as fast as the machine's, or it could not leap.
    pub fn times(speed: i64) -> Self {
        assert!(speed > 1);
        Self { speed, from: Arc::new(AtomicI64::new(real_millis())) }
    }

    pub fn now_millis(&self) -> i64 {
        let from = self.from.load(Ordering::SeqCst);
        from + (real_millis() - from) * self.speed
    }

    /// Passes over so many seconds that nothing would happen in: whoever is told from now on lives later.
    pub fn leap(&self, seconds: i64) {
        // A beginning that is earlier by one is, so many times as fast, a present that is later by the rest.
        self.from.fetch_sub(seconds * 1_000 / (self.speed - 1), Ordering::SeqCst);
    }

    /// As the daemon is told it.
    pub fn told(&self) -> String {
        format!("{}@{}", self.speed, self.from.load(Ordering::SeqCst))
    }
}

fn real_millis() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What the provider answers.
#[derive(Clone, Debug)]
pub enum Says {
    /// As it does when all is well.
    Yes,
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The first bytes of a yes.
    Part(usize),
    /// Exactly that.
    Bytes(&'static [u8]),
    /// Closes without a word.
    Nothing,
    /// A yes, later.
    YesAfter(Duration),
    /// Sends the receipts and only then says yes.
    YesAfterReceipts,
}

/// What it does with one message.
#[derive(Clone, Debug)]
pub struct Act {
    /// Whether it will be delivered.
    pub keeps: bool,
    pub says: Says,
}

impl Act {
    pub const ACCEPT: Act = Act { keeps: true, says: Says::Yes };

    pub fn status(keeps: bool, status: u16) -> Self {
        Self { keeps, says: Says::Answer { status, headers: Vec::new(), body: "{}".into() } }
    }
}

type Rule = dyn Fn(usize) -> Act + Send + Sync;

/// A message that it keeps.
#[derive(Clone, Debug)]
struct Kept {
    sid: String,
    to: String,
    from: String,
    body: String,
    created_millis: i64,
    callback: Option<String>,
}

struct Shared {
    ledger: Ledger,
    rule: Box<Rule>,
    /// The present instant of whoever is spoken to.
    millis: Box<dyn Fn() -> i64 + Send + Sync>,
    messages: AtomicUsize,
    kept: Mutex<Vec<Kept>>,
    /// Where receipts go; 0: none are sent.
    public_port: AtomicU16,
    /// Callbacks still on their way.
    calling: AtomicUsize,
    /// Answers to callbacks other than 200 and 5xx.
    refused: Mutex<Vec<String>>,
}

/// The provider.
#[derive(Clone)]
pub struct Provider {
    pub port: u16,
    pub ledger: Ledger,
    shared: Arc<Shared>,
}

impl Provider {
    /// The rule is asked about the first message, the second, and so on.
    pub fn start(
        millis: impl Fn() -> i64 + Send + Sync + 'static,
        rule: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ledger = Ledger::default();
        let shared = Arc::new(Shared {
            ledger: ledger.clone(),
            rule: Box::new(rule),
            millis: Box::new(millis),
            messages: AtomicUsize::default(),
            kept: Mutex::default(),
            public_port: AtomicU16::default(),
            calling: AtomicUsize::default(),
            refused: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for link in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                thread::spawn(move || converse(link, &shared));
            }
        });
        Self { port, ledger, shared }
    }

    /// Sends receipts to this port from now on: sent, delivered, and delivered once more.
    pub fn call_back(&self, public_port: u16) {
        self.shared.public_port.store(public_port, Ordering::SeqCst);
    }

    /// Whether no callback is on its way any more.
    pub fn is_quiet(&self) -> bool {
        self.shared.calling.load(Ordering::SeqCst) == 0
    }

    /// What was answered to callbacks besides 200, 503 and nothing.
    pub fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap().clone()
    }

    /// A person writes to `to`: called back until it is taken. Whether it was.
    pub fn hear(&self, from: &str, to: &str, text: &str) -> bool {
        let port = self.shared.public_port.load(Ordering::SeqCst);
        let n = self.shared.messages.fetch_add(1, Ordering::SeqCst);
        let pairs = [
            ("AccountSid", ACCOUNT.to_owned()),
            ("MessageSid", format!("SM{:032x}", 0xfeed_0000 + n)),
            ("From", from.to_owned()),
            ("To", to.to_owned()),
            ("Body", text.to_owned()),
        ];
        let url = format!("http://127.0.0.1:{port}/callbacks/twilio/acme");
        call(&self.shared, &url, &pairs)
    }
}

fn converse(mut link: TcpStream, shared: &Arc<Shared>) -> Option<()> {
    let _ = link.set_read_timeout(Some(Duration::from_secs(30)));
    let mut raw = Vec::new();
    let mut piece = [0; 16 * 1024];
    let (head, body) = loop {
        let count = link.read(&mut piece).ok()?;
        if count == 0 {
            return None;
        }
        raw.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0_usize) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let target = head.split(' ').nth(1)?.to_owned();
    if head.starts_with("GET") {
        let answer = list(shared, &target).to_string();
        return link.write_all(yes(&answer).as_bytes()).ok();
    }
    let n = shared.messages.fetch_add(1, Ordering::SeqCst);
    let act = (shared.rule)(n);
    let (message, answer) = read(shared, n, &target, &body);
    if act.keeps {
        shared.ledger.enter(&message.body, &message.to);
        shared.kept.lock().unwrap().push(message.clone());
        if matches!(act.says, Says::YesAfterReceipts) {
            report(shared, &message);
        } else {
            let shared = Arc::clone(shared);
            shared.calling.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                report(&shared, &message);
                shared.calling.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }
    let whole = yes(&answer.to_string());
    let said = match act.says {
        Says::Yes | Says::YesAfterReceipts => whole.into_bytes(),
        Says::Part(bytes) => whole.as_bytes()[..bytes.min(whole.len())].to_vec(),
        Says::Bytes(bytes) => bytes.to_vec(),
        Says::Nothing => return None,
        Says::YesAfter(time) => {
            thread::park_timeout(time);
            whole.into_bytes()
        }
        Says::Answer { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        }
    };
    link.write_all(&said).ok()
}

fn yes(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The message that a request asks for, and the yes that its API gives.
fn read(shared: &Shared, n: usize, target: &str, body: &str) -> (Kept, Value) {
    let sid = format!("SM{n:032x}");
    let created_millis = (shared.millis)();
    if target.starts_with("/2010-04-01/") {
        let pairs = form::decode(body.as_bytes()).unwrap_or_default();
        let value =
            |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let (to, from) = (value("To").unwrap_or_default(), value("From").unwrap_or_default());
        let answer =
            json!({ "sid": sid, "account_sid": ACCOUNT, "status": "queued", "to": to, "from": from });
        let body = value("Body").unwrap_or_default();
        return (Kept { sid, to, from, body, created_millis, callback: value("StatusCallback") }, answer);
    }
    let asked: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let kept = |to: &str, text: &Value| Kept {
        sid: sid.clone(),
        to: to.to_owned(),
        from: String::new(),
        body: text.as_str().unwrap_or_default().to_owned(),
        created_millis,
        callback: None,
    };
    if target.starts_with("/bot") {
        let chat = asked["chat_id"]
            .as_i64()
            .map_or_else(|| asked["chat_id"].as_str().unwrap_or_default().to_owned(), |id| id.to_string());
        let id: i64 = chat.parse().unwrap_or(-1);
        let answer = json!({ "ok": true, "result": {
            "message_id": n + 1, "date": 1, "chat": { "id": id, "type": "private" }, "text": "x"
        } });
        return (kept(&chat, &asked["text"]), answer);
    }
    let to = asked["to"].as_str().unwrap_or_default();
    let answer = json!({
        "messaging_product": "whatsapp", "contacts": [{ "input": to, "wa_id": to }],
        "messages": [{ "id": format!("wamid.{sid}") }]
    });
    (kept(to, &asked["text"]["body"]), answer)
}

/// Twilio's list of what it keeps for a recipient.
fn list(shared: &Shared, target: &str) -> Value {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = form::decode(query.as_bytes()).unwrap_or_default();
    let to = pairs.iter().find(|(name, _)| name == "To").map(|(_, value)| value.clone()).unwrap_or_default();
    let kept = shared.kept.lock().unwrap().clone();
    let messages: Vec<Value> = kept
        .iter()
        .rev()
        .filter(|message| message.to == to)
        .map(|message| {
            let created = DateTime::from_timestamp_millis(message.created_millis).unwrap().to_rfc2822();
            json!({
                "sid": message.sid, "to": message.to, "from": message.from, "body": message.body,
                "direction": "outbound-api", "date_created": created, "messaging_service_sid": null
            })
        })
        .collect();
    json!({ "messages": messages })
}

/// Sent, delivered, and delivered once more.
fn report(shared: &Shared, message: &Kept) {
    let Some(url) = &message.callback else { return };
    if shared.public_port.load(Ordering::SeqCst) == 0 {
        return;
    }
    for status in ["sent", "delivered", "delivered"] {
        let pairs = [
            ("AccountSid", ACCOUNT.to_owned()),
            ("MessageSid", message.sid.clone()),
            ("MessageStatus", status.to_owned()),
            ("To", message.to.clone()),
            ("From", message.from.clone()),
        ];
        call(shared, url, &pairs);
    }
}

/// One callback, signed as Twilio signs, repeated until it is taken.
fn call(shared: &Shared, url: &str, pairs: &[(&str, String)]) -> bool {
    let mut sorted: Vec<_> = pairs.to_vec();
    sorted.sort();
    let signed: String = sorted.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, AUTH_TOKEN.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, format!("{url}{signed}").as_bytes()));
    let body = form::encode(pairs.iter().map(|(name, value)| (*name, value.as_str())));
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Twilio-Signature: {signature}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let until = Instant::now() + CALLED_FOR;
    while Instant::now() < until {
        let port = shared.public_port.load(Ordering::SeqCst);
        match ask(port, &request) {
            Some(200) => return true,
            Some(503) | None => thread::park_timeout(Duration::from_millis(20)),
            Some(other) => {
                shared.refused.lock().unwrap().push(format!("{other}: {path} {body}"));
                return false;
            }
        }
    }
    shared.refused.lock().unwrap().push(format!("never taken: {path} {body}"));
    false
}

fn ask(port: u16, request: &str) -> Option<u16> {
    let mut link = TcpStream::connect(("127.0.0.1", port)).ok()?;
    link.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    link.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    link.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Numbers that are each used once, so that no two messages share a recipient.
pub fn phone(n: usize) -> String {
    format!("+336{:08}", 12_000_000 + n)
}
