//! A daemon with its provider, and what both are asked in the end: was anything lost, was anything sent twice?
//!
//! The clock of both runs sixty times as fast as the machine's, so that an unknown outcome is settled within seconds,
//! and leaps over the rest of a dead daemon's leases. Patience is long: it is paid for by what fails alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    store::fixture::Base,
    support::{
        daemon::Daemon,
        http_provider::secret,
        ledger::{self, AtDot, Ledger},
        provider::{ACCOUNT, AUTH_TOKEN, Act, Pace, Provider, Says, phone},
    },
};

/// The sender of every SMS here.
pub const SENDER: &str = "+33700000000";
pub const SPEED: i64 = 60;
/// Where nothing is ever looked for again, so that a busy machine does not bring a lease to its end.
pub const UNHURRIED: i64 = 10;
/// How long anything may take, five minutes of look-ups by the daemon's clock and a crowded machine included.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longer than any lease, by the daemon's clock.
const LEASE_SECONDS: i64 = 905;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Sms,
    Email,
    WhatsApp,
    Telegram,
}

/// What the provider does with the first messages, as many as are sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    LosesAnswers,
    LosesMessages,
    ReceiptsFirst,
    /// One answer in nine is lost, one message in seventeen with its answer, and one in thirteen is put off; receipts
    /// come before, after, and instead.
    Rough,
    /// Every yes comes so much later.
    Slow(Duration),
    /// The first messages are kept and never answered, as many as this.
    Hangs(usize),
}

/// Messages that a mood lasts for.
const MOODY: usize = 3;

pub struct Bench {
    pub folder: TempDir,
    pub daemon: Daemon,
    pub provider: Provider,
    pub channel: Channel,
    pub ledger: Ledger,
    base: Option<Base>,
    pace: Pace,
    /// How long an answer may wait for an outcome.
    wait: &'static str,
    /// What its daemon is set up with.
    pub settings: String,
    /// Whether it may end itself with exit code 75.
    pub may_stop: bool,
    /// Deaths that were seen.
    pub deaths: usize,
    /// The messages whose attempts had begun when it died: of these alone it may be unknown what became of them.
    begun: BTreeSet<String>,
    /// The ids that were acknowledged, by number.
    acknowledged: BTreeMap<usize, String>,
}

/// Whether the daemon was built with the feature `failpoints`, which is what kills it and hastens its clock.
pub fn is_built_for_it() -> bool {
    let all = std::env::var("ORCHESTRATOR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    let built = cfg!(feature = "failpoints");
    assert!(built || !all, "built without --features failpoints, but every test is to be run");
    if !built {
        println!("not run: built without --features failpoints");
    }
    built
}

/// A port that no outgoing connection is given by chance.
pub fn public_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let from = u16::try_from(std::process::id() % 97).unwrap() * 100;
        let port = 20_000 + (from + NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Polls until it is so, or patience is at its end.
pub fn in_time(mut condition: impl FnMut() -> bool) -> bool {
    let given_up = Instant::now() + PATIENCE;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > given_up {
            return false;
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Part of a message's text, and of nobody else's.
pub fn mark(n: usize) -> String {
    format!("ref-{n:05}.")
}

impl Bench {
    /// A daemon that is set up and not started; none where PostgreSQL is wanted and there is none.
    pub fn new(channel: Channel, mood: Mood, postgres: bool) -> Option<Self> {
        Self::with_speed(channel, mood, postgres, SPEED)
    }

    /// The same on a clock so many times as fast.
    pub fn with_speed(channel: Channel, mood: Mood, postgres: bool, speed: i64) -> Option<Self> {
        if !is_built_for_it() {
            return None;
        }
        let base = if postgres { Some(in_runtime(Base::postgres())?) } else { None };
        Some(Self::on(base, channel, mood, speed))
    }

    /// The same on a database on a server, or on an embedded one.
    pub fn on(base: Option<Base>, channel: Channel, mood: Mood, speed: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pace = Pace::times(speed);
        let provider = {
            let pace = pace.clone();
            Provider::start(move || pace.now_millis(), move |n| act(mood, n))
        };
        let (mail_port, mails) = ledger::serve_by(move |n| at_dot(mood, n));
        let public_port = public_port();
        let keep = |name, text| secret(folder.path(), name, text);
        let url = format!("http://127.0.0.1:{}", provider.port);
        let database =
            base.as_ref().map_or_else(String::new, |base| format!("database = {:?}\n", base.url()));
        let settings = format!(
            "{database}public_listen = \"127.0.0.1:{public_port}\"\n\
             public_url = \"http://127.0.0.1:{public_port}\"\n\
             [drivers.relay]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {mail_port}\ntls = \"none\"\n\
             from = \"rdv@example.com\"\n\
             [drivers.twilio]\nkind = \"twilio\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{}\"\n\
             from = \"{SENDER}\"\nbase_url = \"{url}\"\n\
             [drivers.meta]\nkind = \"meta\"\nphone_number_id = \"106540352242922\"\naccess_token = \"{}\"\n\
             free_text_anytime = true\nbase_url = \"{url}\"\n\
             [drivers.telegram]\nkind = \"telegram\"\ntoken = \"{}\"\nbase_url = \"{url}\"\n",
            keep("twilio", AUTH_TOKEN),
            keep("meta", "EAAGm0PX4ZCpsBAKZCexampleexampleexample"),
            keep("telegram", "123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"),
        );
        let mut daemon = Daemon::prepare(folder.path(), &tenant(channel, ""), &settings);
        daemon.set("ORCHESTRATOR_TEST_CLOCK", Some(pace.told()));
        // A receipt would settle what is to be looked for.
        if !matches!(mood, Mood::LosesAnswers | Mood::LosesMessages) {
            provider.call_back(public_port);
        }
        let ledger = if channel == Channel::Email { mails } else { provider.ledger.clone() };
        let acknowledged = BTreeMap::new();
        // Nobody waits for an outcome that is looked for; any other is known before the next message comes.
        let lost = matches!(mood, Mood::LosesAnswers | Mood::LosesMessages);
        let wait = if lost { "wait=1" } else { "wait=30" };
        Self {
            folder,
            daemon,
            provider,
            channel,
            ledger,
            base,
            settings,
            may_stop: false,
            deaths: 0,
            begun: BTreeSet::new(),
            acknowledged,
            pace,
            wait,
        }
    }

    /// Changes what its daemons are set up with from the next start on: keys at the head of the settings, tables at
    /// their end.
    pub fn set_up(&mut self, keys: &str, tables: &str) {
        self.settings = format!("{keys}{}{tables}", self.settings);
        let text = format!("state_dir = \"state\"\npolicies = \"policies\"\n{}", self.settings);
        std::fs::write(self.folder.path().join("orchestrator.toml"), text).unwrap();
    }

    /// Starts it so that it dies at this hit of this point.
    pub fn start_to_die(&mut self, point: &str, hit: u32) {
        self.daemon.set("ORCHESTRATOR_FAILPOINT", Some(format!("{point}={hit}")));
        self.daemon.launch(&[]);
        if !self.daemon.becomes_ready() {
            self.revive();
        }
    }

    /// Starts it again where it has died; whether it had.
    pub fn revive(&mut self) -> bool {
        let Some(end) = self.daemon.has_ended() else { return false };
        self.bury(end);
        self.daemon.kill();
        self.daemon.set("ORCHESTRATOR_FAILPOINT", None);
        // An embedded database's next daemon takes up the claims of the last one; on a server their leases must end.
        if self.base.is_some() {
            self.pace.leap(LEASE_SECONDS);
            self.daemon.set("ORCHESTRATOR_TEST_CLOCK", Some(self.pace.told()));
        }
        // What ends it may not be over: its supervisor starts it again and again.
        let started = in_time(|| match self.daemon.tries_to_start() {
            None => true,
            Some(end) => {
                self.bury(end);
                false
            }
        });
        assert!(started, "it does not start\n{}", self.daemon.log());
        true
    }

    /// Counts a death, which must be of a kind that is expected here.
    fn bury(&mut self, end: std::process::ExitStatus) {
        use std::os::unix::process::ExitStatusExt;
        let expected = end.signal() == Some(9) || (self.may_stop && end.code() == Some(75));
        assert!(expected, "it ended by itself: {end}\n{}", self.daemon.log());
        self.deaths += usize::from(end.signal() == Some(9) || self.may_stop);
        self.begun.extend(in_runtime(self.open_attempts()));
    }

    /// The messages with an attempt whose outcome is not written, as the dead daemon left them.
    async fn open_attempts(&self) -> Vec<String> {
        const SQL: &str = "SELECT message_id FROM attempts WHERE status = 'intent'";
        if let Some(base) = &self.base {
            let made = "SELECT table_name::text FROM information_schema.tables \
                        WHERE table_name = 'attempts' AND table_schema = current_schema()";
            return if base.texts(made).await.is_empty() { Vec::new() } else { base.texts(SQL).await };
        }
        // Of a copy: whoever opens a database changes its log.
        let (copy, state) = (Base::sqlite(), self.folder.path().join("state"));
        let Base::Sqlite(folder) = &copy else { unreachable!() };
        let into = folder.path().join("state");
        std::fs::create_dir(&into).unwrap();
        if !state.join("orchestrator.db").exists() {
            return Vec::new();
        }
        for end in ["", "-wal"] {
            // There is no log where none was begun.
            let _ = std::fs::copy(
                state.join(format!("orchestrator.db{end}")),
                into.join(format!("store.db{end}")),
            );
        }
        if copy.texts("SELECT name FROM sqlite_schema WHERE name = 'attempts'").await.is_empty() {
            return Vec::new();
        }
        copy.texts(SQL).await
    }

    /// Submits message `n` with its key until it is acknowledged, whatever dies meanwhile.
    pub fn submit(&mut self, n: usize) {
        let (key, body) = (format!("key-{n}"), request(self.channel, n, "notification"));
        let headers = [("idempotency-key", key.as_str()), ("prefer", self.wait)];
        let mut id = None;
        let acknowledged = in_time(|| {
            self.revive();
            let Some(answer) = self.daemon.call("POST", "/v1/messages", &headers, &body) else {
                return false;
            };
            assert!(matches!(answer.status, 200 | 202 | 503), "{n}: {answer:?}\n{}", self.daemon.log());
            id = answer.body["messageId"].as_str().filter(|_| answer.status != 503).map(str::to_owned);
            id.is_some()
        });
        assert!(acknowledged, "lost: {n} is never acknowledged\n{}", self.daemon.log());
        let before = self.acknowledged.insert(n, id.clone().unwrap());
        assert!(before.is_none() || before == id, "doubled: {n}: one key, two messages");
    }

    /// Submits one more message to whom message `n` went and who has refused since: nothing may be sent.
    pub fn submit_refused(&mut self, n: usize) {
        let mut body: Value = serde_json::from_str(&request(self.channel, n, "notification")).unwrap();
        let words = format!("after-stop-{n}.");
        body["content"]["body"] = json!(words);
        let answered = in_time(|| {
            self.revive();
            let answer = self.daemon.call("POST", "/v1/messages", &[("prefer", "wait=1")], &body.to_string());
            let Some(answer) = answer.filter(|answer| answer.status != 503) else { return false };
            assert_eq!(answer.status, 422, "{answer:?}");
            true
        });
        assert!(answered, "{}", self.daemon.log());
        assert_eq!(self.ledger.count(&words), 0, "violation: {n} said STOP and was written to");
    }

    /// The record of a message once nothing is in motion any more.
    pub fn settled(&mut self, n: usize) -> Value {
        let id = self.acknowledged[&n].clone();
        let mut record = Value::Null;
        let settled = in_time(|| {
            self.revive();
            let Some(answer) = self.daemon.call("GET", &format!("/v1/messages/{id}"), &[], "") else {
                return false;
            };
            assert_eq!(answer.status, 200, "lost: {n} was acknowledged: {answer:?}");
            record = answer.body;
            !matches!(
                record["status"].as_str(),
                None | Some("queued" | "held" | "retrying" | "sending" | "unknown")
            )
        });
        assert!(settled, "lost: {n} is still in motion: {record}\n{}", self.daemon.log());
        record
    }

    /// Everything of reliability.md sections 2 and 5.4 that can be seen from outside, and the audit from inside. With
    /// `certain` nothing is unknown but of messages whose attempts had begun.
    pub fn judge(&mut self, certain: bool) {
        let numbers: Vec<usize> = self.acknowledged.keys().copied().collect();
        for n in numbers {
            // The same key still names the same message.
            self.submit(n);
            let record = self.settled(n);
            let times = self.ledger.count(&mark(n));
            let judged = verdict(
                &record,
                times,
                self.channel,
                certain && !self.begun.contains(&self.acknowledged[&n]),
            );
            if let Err(why) = judged {
                panic!("{why}; {n}: {record}\n{}", self.daemon.log());
            }
        }
        assert!(in_time(|| self.provider.is_quiet()), "callbacks are not taken");
        assert_eq!(self.provider.refused(), Vec::<String>::new(), "{}", self.daemon.log());
        let (clean, said) = self.daemon.command(&["audit"]);
        assert!(clean, "{said}");
    }

    /// Saves the tenant's policy anew.
    pub fn save_policy(&self, version: usize) {
        let path = self.folder.path().join("policies/tenants/acme.toml");
        let text = tenant(self.channel, &format!("[weights]\nlength = {}\n", 10 + version % 10));
        std::fs::write(path, text).unwrap();
    }

    /// One more daemon on the same database, in a folder of its own; the first one alone is public.
    pub fn replica(&self, folder: &std::path::Path) -> Daemon {
        let private: Vec<&str> =
            self.settings.lines().filter(|line| !line.starts_with("public_listen")).collect();
        let mut daemon = Daemon::prepare(folder, &tenant(self.channel, ""), &private.join("\n"));
        daemon.set("ORCHESTRATOR_TEST_CLOCK", Some(self.pace.told()));
        daemon
    }

    /// Notes what somebody else got acknowledged.
    pub fn note(&mut self, acknowledged: BTreeMap<usize, String>) {
        self.acknowledged.extend(acknowledged);
    }

    /// Leaves nothing on the server.
    pub fn end(mut self) {
        self.daemon.kill();
        if let Some(base) = self.base.take() {
            in_runtime(base.drop_schema());
        }
    }
}

/// Whether what the provider accepted is what the record allows; else why not, beginning with `lost`, `doubled` or
/// `wrong`.
pub fn verdict(record: &Value, times: u32, channel: Channel, certain: bool) -> Result<(), String> {
    let status = record["status"].as_str().unwrap_or_default();
    let unknown = record["attempts"].as_array().map_or(0, |attempts| {
        attempts.iter().filter(|a| a["status"] == "unknown" || a["error"]["class"] == "unknown").count()
    });
    let resent = record["possibleDuplicate"] == true;
    if times > 1 + u32::from(resent) {
        return Err(format!("doubled: accepted {times} times"));
    }
    if resent && matches!(channel, Channel::WhatsApp | Channel::Telegram) {
        return Err("doubled: sent again, although an unknown outcome is to be held".into());
    }
    match status {
        "sent" | "delivered" | "read" if times == 0 => Err("lost: said to be sent, and never was".into()),
        "sent" | "delivered" | "read" if certain && (resent || unknown > 0) => {
            Err("wrong: nothing could have left, and yet its outcome was unknown".into())
        }
        "sent" | "delivered" | "read" => Ok(()),
        // Only where the outcome is unknown, and after what the policy allows was done.
        "unresolved"
            if !certain && unknown > 0 && (resent || !matches!(channel, Channel::Sms | Channel::Email)) =>
        {
            Ok(())
        }
        other => Err(format!("lost: ended as {other}")),
    }
}

fn act(mood: Mood, n: usize) -> Act {
    match mood {
        Mood::LosesAnswers if n < MOODY => Act::status(true, 500),
        Mood::LosesMessages if n < MOODY => Act::status(false, 500),
        Mood::Rough if n % 9 == 4 => Act { keeps: true, says: Says::Nothing },
        Mood::Rough if n % 9 == 7 => Act { keeps: true, says: Says::YesAfterReceipts },
        Mood::Rough if n % 17 == 6 => Act { keeps: false, says: Says::Nothing },
        Mood::Rough if n % 13 == 5 => Act::status(false, 429),
        Mood::ReceiptsFirst => Act { keeps: true, says: Says::YesAfterReceipts },
        Mood::Hangs(first) if n < first => {
            Act { keeps: true, says: Says::YesAfter(Duration::from_secs(3_600)) }
        }
        Mood::Slow(time) => Act { keeps: true, says: Says::YesAfter(time) },
        _ => Act::ACCEPT,
    }
}

fn at_dot(mood: Mood, n: usize) -> AtDot {
    match mood {
        Mood::LosesAnswers if n < MOODY => AtDot::KeepAndDrop,
        Mood::LosesMessages if n < MOODY => AtDot::Drop,
        _ => AtDot::Accept,
    }
}

/// No quiet hours, and no channel but one.
fn tenant(channel: Channel, more: &str) -> String {
    let mut text = "[quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n".to_owned();
    for (name, known) in [
        ("sms", Channel::Sms),
        ("email", Channel::Email),
        ("whatsapp", Channel::WhatsApp),
        ("telegram", Channel::Telegram),
    ] {
        if known != channel {
            text.push_str(&format!("[channels.{name}]\nenabled = false\n"));
        }
    }
    format!("{text}{more}")
}

pub fn request(channel: Channel, n: usize, kind: &str) -> String {
    let mut context = json!({ "tenantId": "acme", "prospectId": format!("p{n}"), "messageType": kind });
    match channel {
        Channel::Sms => context["prospectPhone"] = json!(phone(n)),
        Channel::WhatsApp => context["prospectWhatsApp"] = json!(phone(n)),
        Channel::Email => context["prospectEmail"] = json!(format!("p{n}@example.com")),
        Channel::Telegram => context["prospectTelegram"] = json!(format!("{}", 1_000 + n)),
    }
    let words = format!("Essai {}", mark(n));
    json!({ "context": context, "content": { "subject": words, "body": words } }).to_string()
}

/// Runs what the store's fixture offers.
pub fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
