//! Drivers against what they speak to: SMTP against a scripted server, byte for byte, and against a real one;
//! the email itself; the settings that are refused.

mod chat;
mod dkim;
mod mail;
mod meta;
mod meta_callbacks;
mod provider_twin;
mod reference;
pub mod returned;
pub mod smtp_server;
mod smtp_sink;
mod telegram;
mod tls;
mod twilio;
mod twilio_callbacks;
mod twin;
mod verbs;
mod vonage;
mod webhook;

use std::{path::Path, sync::Arc};

use channel_orchestrator::{
    channels::{
        Driver, Drivers, Outbound, PrepareError,
        allow_list::only_to,
        settings::{DriverSettings, build},
    },
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ErrorClass, Outcome},
        ids::{AttemptId, MessageId, TenantId},
        message::{Content, MessageClass},
        time::{Clock, SystemClock},
    },
};

use self::{
    smtp_server::{Act, Script, SmtpServer},
    smtp_sink::{Sink, certificates},
};
use crate::support::daemon::eventually;

fn email(to: &str) -> Outbound {
    Outbound {
        message: MessageId::new(),
        attempt: AttemptId::new(),
        attempt_number: 1,
        channel: Channel::Email,
        to: Address::Email(to.into()),
        to_name: Some("Ada Lovelace".into()),
        from: Some("agence@example.org".into()),
        from_name: Some("L’agence".into()),
        reply_to: None,
        content: Content {
            subject: Some("Visite confirmée".into()),
            body: "Bonjour Ada\n.\nÀ demain.\n".into(),
            ..Content::default()
        },
        class: MessageClass::Transactional,
        locale: None,
        tenant: TenantId::parse("tenant_123").unwrap(),
        deadline: chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
        status_callback: None,
        return_token: None,
        unsubscribe: None,
        approved_template: None,
        in_service_window: false,
    }
}

fn driver(toml: &str) -> Result<Arc<dyn Driver>, String> {
    let settings: DriverSettings = toml::from_str(toml).map_err(|e| e.to_string())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    build("relay", &settings, Path::new("/nonexistent"), clock)
}

/// A driver that speaks plainly to this port of this machine, with short patience.
fn plain(port: u16, more: &str) -> Arc<dyn Driver> {
    driver(&format!(
        "kind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nfrom = \"no-reply@example.org\"\n\
         hello_name = \"client.test\"\n{more}\n\
         timeouts = {{ connect_seconds = 1, command_seconds = 1, data_seconds = 1 }}\n"
    ))
    .unwrap()
}

/// How an attempt ended: `accepted ID`, or the class, `code` and whether it was before the last step.
async fn attempt(driver: &Arc<dyn Driver>, outbound: &Outbound) -> String {
    let shown = |class: ErrorClass, code: Option<String>| {
        let class = serde_json::to_value(class).unwrap().as_str().unwrap().to_owned();
        code.map_or(class.clone(), |code| format!("{class} {code}"))
    };
    match driver.prepare(outbound).await {
        Err(PrepareError { error, .. }) => {
            assert_ne!(error.class, ErrorClass::Unknown, "{}", error.detail);
            format!("early {}", shown(error.class, error.code))
        }
        Ok(prepared) => match prepared.send().await {
            Outcome::Accepted { provider_message_id, .. } => {
                format!("accepted {}", provider_message_id.unwrap_or_default())
            }
            Outcome::Failed { error, .. } => shown(error.class, error.code),
        },
    }
}

/// What the server does, and what the attempt ends as.
fn cases() -> Vec<(&'static str, Script, &'static str)> {
    let s = Script::default;
    let say = Act::Say;
    vec![
        ("all well", s(), "accepted 4F2A"),
        ("no queue id", Script { dot: say("250 fine\r\n"), ..s() }, "accepted <message-id>"),
        ("closed at once", Script { greeting: Act::Drop, ..s() }, "early not_sent"),
        ("silent", Script { greeting: Act::Hang, ..s() }, "early not_sent"),
        ("busy", Script { greeting: say("421 4.3.2 busy\r\n"), ..s() }, "early temporary 421 4.3.2"),
        ("we are barred", Script { greeting: say("554 no\r\n"), ..s() }, "early misconfigured 554"),
        ("not SMTP", Script { greeting: say("SSH-2.0-x\r\n"), ..s() }, "early not_sent"),
        ("EHLO dropped", Script { hello: Act::Drop, ..s() }, "early not_sent"),
        ("auth wanted", Script { mail: say("530 5.7.0 first\r\n"), ..s() }, "early misconfigured 530 5.7.0"),
        ("sender refused", Script { mail: say("550 5.7.1 no\r\n"), ..s() }, "early permanent 550 5.7.1"),
        ("sender unknown", Script { mail: say("550 5.1.1 who?\r\n"), ..s() }, "early permanent 550"),
        ("MAIL dropped", Script { mail: Act::Drop, ..s() }, "early not_sent"),
        ("no such user", Script { rcpt: say("550 5.1.1 who?\r\n"), ..s() }, "early permanent 550 5.1.1"),
        (
            "in two lines",
            Script { rcpt: say("550-5.1.1 who\r\n550 5.1.1 is that\r\n"), ..s() },
            "early permanent 550 5.1.1",
        ),
        ("greylisted", Script { rcpt: say("451 4.7.1 later\r\n"), ..s() }, "early temporary 451 4.7.1"),
        ("RCPT dropped", Script { rcpt: Act::Drop, ..s() }, "early not_sent"),
        ("RCPT silent", Script { rcpt: Act::Hang, ..s() }, "early not_sent"),
        ("half an answer", Script { rcpt: say("25"), ..s() }, "early not_sent"),
        ("DATA refused", Script { data: say("554 5.5.1 no\r\n"), ..s() }, "early permanent 554 5.5.1"),
        ("DATA out of step", Script { data: say("250 sure\r\n"), ..s() }, "early not_sent 250"),
        ("DATA dropped", Script { data: Act::Drop, ..s() }, "early not_sent"),
        ("content refused", Script { dot: say("554 5.7.1 spam\r\n"), ..s() }, "permanent 554 5.7.1"),
        ("full", Script { dot: say("452 4.3.1 full\r\n"), ..s() }, "temporary 452 4.3.1"),
        ("dot dropped", Script { dot: Act::Drop, ..s() }, "unknown"),
        ("dot silent", Script { dot: Act::Hang, ..s() }, "unknown"),
        ("half a yes", Script { dot: say("250"), ..s() }, "unknown"),
        ("garbage", Script { dot: say("hello there\r\n"), ..s() }, "unknown"),
        ("out of step", Script { dot: say("354 more\r\n"), ..s() }, "unknown 354"),
    ]
}

#[tokio::test]
async fn every_turn_of_the_conversation_is_classified() {
    for (name, script, expected) in cases() {
        let server = SmtpServer::start(script).await;
        let outbound = email("ada@example.com");
        let ended = attempt(&plain(server.port, "tls = \"none\""), &outbound).await;
        let expected = expected.replace("<message-id>", &format!("{}@example.org", outbound.message));
        assert_eq!(ended, expected, "{name}");
    }
}

#[tokio::test]
async fn a_link_lost_within_the_body_has_sent_nothing() {
    let script = Script { body_bytes: Some(4096), ..Script::default() };
    let server = SmtpServer::start(script).await;
    let mut outbound = email("ada@example.com");
    // More than the buffers between us hold, so that the loss shows before the last byte is written.
    outbound.content.body = "Bonjour tout le monde, et plus encore. ".repeat(300_000);
    assert_eq!(attempt(&plain(server.port, "tls = \"none\""), &outbound).await, "early not_sent");
    assert!(!server.heard_text().contains("\r\n.\r\n"));
}

/// The intent is recorded between the two steps: before it the relay has the whole body and no dot, and a link
/// that is given up there has sent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_dot_waits_for_the_intent_and_is_never_written_without_it() {
    let mut outbound = email("ada@example.com");
    outbound.content.body = format!("{}\nle dernier mot\n", "Bonjour. ".repeat(40_000));
    let server = SmtpServer::start(Script::default()).await;
    let driver = plain(server.port, "tls = \"none\"");
    for (bodies, sent) in [(1, false), (2, true), (3, false)] {
        let prepared = driver.prepare(&outbound).await.unwrap();
        let count = |what: &str| server.heard_text().matches(what).count();
        assert!(eventually(|| count("le dernier mot") == bodies), "the whole body is there");
        assert_eq!(count("\r\n.\r\n"), usize::from(bodies == 3), "and no dot");
        if sent {
            assert!(matches!(prepared.send().await, Outcome::Accepted { .. }));
        }
    }
    // Given up, the link is closed without a word more.
    assert!(eventually(|| server.closed() == 3));
    assert_eq!(server.heard_text().matches("\r\n.\r\n").count(), 1);
}

/// The same below TLS, of either kind, with a real server: what was given up is not kept.
#[tokio::test]
async fn what_is_given_up_before_the_dot_is_not_kept_over_tls_either() {
    for tls in ["starttls", "implicit"] {
        let Some(sink) = sink("SMTP against aiosmtpd", tls, "good") else { return required() };
        let (driver, _secrets) = secure(&sink, tls, "hunter2");
        drop(driver.prepare(&email("ada@example.com")).await.unwrap());
        assert_eq!(attempt(&driver, &email("bob@example.com")).await, "accepted T1", "{tls}");
        assert!(sink.kept().len() == 1 && sink.kept()[0].contains("X-Sink-To: bob"), "{tls}");
    }
}

/// Several relays are several drivers: tried in the order in which the tenant names them.
#[test]
fn relays_are_tried_in_the_order_in_which_they_are_named() {
    let relay = |name: &str| {
        let toml = "kind = \"smtp\"\nhost = \"mail.example.org\"\nfrom = \"a@example.org\"";
        build(name, &toml::from_str(toml).unwrap(), Path::new("/nonexistent"), Arc::new(SystemClock)).unwrap()
    };
    let drivers = Drivers::new(["alpha", "beta", "gamma"].map(relay));
    let order = |named: &[&str]| -> Vec<String> {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        let found = drivers.for_channel(Channel::Email, &named);
        found.iter().map(|driver| driver.name().to_owned()).collect()
    };
    assert_eq!(order(&["gamma", "alpha"]), ["gamma", "alpha"]);
    assert_eq!(order(&["beta", "nobody", "alpha"]), ["beta", "alpha"]);
    assert_eq!(order(&[]), ["alpha", "beta", "gamma"]);
}

#[tokio::test]
async fn wherever_the_link_is_cut_a_message_that_may_have_arrived_is_never_called_unsent() {
    for bytes in (1..700).step_by(23) {
        let script = Script { body_bytes: Some(bytes), ..Script::default() };
        let server = SmtpServer::start(script).await;
        let ended = attempt(&plain(server.port, "tls = \"none\""), &email("ada@example.com")).await;
        let whole = server.heard_text().contains("\r\n.\r\n");
        let allowed: &[&str] = match (whole, ended.starts_with("accepted")) {
            (true, false) => &["unknown"],
            (true, true) => &["accepted 4F2A"],
            (false, _) => &["unknown", "not_sent", "early not_sent"],
        };
        assert!(allowed.contains(&ended.as_str()), "cut after {bytes}: {ended}, whole: {whole}");
    }
}

#[tokio::test]
async fn the_wire_holds_one_end_of_data_and_no_bare_line_end() {
    let server = SmtpServer::start(Script::default()).await;
    let mut outbound = email("ada@example.com");
    outbound.content.body = "a\n.\nb\r\n.\r\nc\r.\rd\n\n.".into();
    outbound.content.html = Some("<p>.\n.</p>".into());
    assert_eq!(attempt(&plain(server.port, "tls = \"none\""), &outbound).await, "accepted 4F2A");
    let heard = server.heard_text();
    let data = &heard[heard.find("DATA\r\n").unwrap() + 6..];
    let data = &data[..data.find("\r\n.\r\n").expect("an end") + 5];
    assert_eq!(heard.matches("\r\n.\r\n").count(), 1, "{heard}");
    assert!(data.contains("\r\n..\r\n"), "a lone dot is doubled: {data}");
    let without = heard.replace("\r\n", "");
    assert!(!without.contains(['\r', '\n']), "{heard}");
    assert!(heard.starts_with("EHLO client.test\r\nMAIL FROM:<agence@example.org>\r\n"), "{heard}");
}

#[tokio::test]
async fn nobody_is_there() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let ended = attempt(&plain(port, "tls = \"none\""), &email("ada@example.com")).await;
    assert_eq!(ended, "early not_sent");
}

#[tokio::test]
async fn no_password_goes_to_a_relay_that_hides_starttls_or_answers_out_of_turn() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "hunter2").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let login = format!("username = \"file:{0}\"\npassword = \"file:{0}\"", password.display());
    let offered = Act::Say("250-mail.test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n");
    for (name, script) in [
        ("stripped", Script { hello: Act::Say("250-mail.test\r\n250 AUTH PLAIN\r\n"), ..Script::default() }),
        (
            "injected",
            Script {
                hello: offered,
                // What somebody on the way added in the clear must not be read as an answer through TLS.
                starttls: Act::Say("220 go\r\n250-mail.test\r\n250 AUTH PLAIN\r\n235 welcome\r\n"),
                ..Script::default()
            },
        ),
        ("refused", Script { hello: offered, starttls: Act::Say("502 no\r\n"), ..Script::default() }),
    ] {
        let server = SmtpServer::start(script).await;
        let ended = attempt(&plain(server.port, &login), &email("ada@example.com")).await;
        assert!(ended.starts_with("early misconfigured"), "{name}: {ended}");
        let heard = String::from_utf8_lossy(&server.heard()).into_owned();
        assert!(!heard.contains("AUTH") && !heard.contains("hunter2"), "{name}: {heard}");
    }
}

#[test]
fn settings_that_could_give_something_away_are_refused_in_words() {
    let smtp = |more: &str| {
        driver(&format!("kind = \"smtp\"\nhost = \"mail.example.org\"\nfrom = \"a@example.org\"\n{more}"))
            .err()
            .unwrap_or_default()
    };
    assert_eq!(smtp(""), "");
    assert_eq!(smtp("tls = \"none\"\nallow_plaintext = true"), "");
    for (more, expected) in [
        ("tls = \"none\"", "allow_plaintext = true"),
        ("password = \"hunter2\"", "env:NAME"),
        ("username = \"env:NOT_SET_ANYWHERE\"\npassword = \"env:NOT_SET_ANYWHERE\"", "is not set"),
        ("username = \"env:PATH\"", "go together"),
        (
            "tls = \"none\"\nallow_plaintext = true\nusername = \"env:PATH\"\npassword = \"env:PATH\"",
            "never sent in the clear",
        ),
        ("ca_file = \"/nonexistent.pem\"", "cannot be read"),
        ("hello_name = \"a b\"", "not a host name"),
        ("timeouts = { data_seconds = 0 }", "at least 1 second"),
        ("from_name = \"a\\u0000b\"", "control character"),
        ("pasword = \"env:X\"", "unknown field `pasword`"),
        ("dkim = { domain = \"example.org\", selector = \"s\", key = \"hunter2\" }", "file:/"),
        (
            "dkim = { domain = \"example.org\", selector = \"s\", key = \"env:NOT_SET_ANYWHERE\" }",
            "dkim: key: the environment variable",
        ),
        ("dkim = { domain = \"example.org\", selector = \"s 1\", key = \"env:PATH\" }", "dkim: selector"),
        ("dkim = { domain = \"example.org\", selector = \"s\", key = \"env:PATH\" }", "openssl genpkey"),
    ] {
        let refusal = smtp(more);
        assert!(refusal.contains(expected), "{more}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
    assert!(driver("kind = \"fax\"").err().unwrap().contains("fax"));
}

#[tokio::test]
async fn recipients_outside_the_list_are_refused_before_anything_leaves() {
    let server = SmtpServer::start(Script::default()).await;
    let guarded = only_to(plain(server.port, "tls = \"none\""), &["*@example.com".to_owned()]);
    let refused = attempt(&guarded, &email("ada@example.net")).await;
    assert_eq!((refused.as_str(), server.heard().len()), ("early permanent not_allowed", 0));
    assert_eq!(attempt(&guarded, &email("Ada@example.com")).await, "accepted 4F2A");
}

/// A driver for a sink, which trusts the tests' own authority.
fn secure(sink: &Sink, tls: &str, password: &str) -> (Arc<dyn Driver>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("file:{}", path.display())
    };
    let toml = format!(
        "kind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\nfrom = \"no-reply@example.org\"\ntls = \"{tls}\"\n\
         username = \"{}\"\npassword = \"{}\"\nca_file = \"{}\"\n",
        sink.port,
        secret("username", "bot"),
        secret("password", password),
        certificates().join("ca.pem").display()
    );
    (driver(&toml).unwrap(), dir)
}

fn sink(test: &str, tls: &str, certificate: &str) -> Option<Sink> {
    std::env::var_os("ORCHESTRATOR_TEST_PYTHON")?;
    let path =
        |extension: &str| certificates().join(format!("{certificate}.{extension}")).display().to_string();
    let (cert, key) = (path("pem"), path("key"));
    let arguments = ["--tls", tls, "--cert", &cert, "--key", &key, "--auth", "bot:hunter2"];
    Sink::start(test, &arguments)
}

#[tokio::test]
async fn a_real_server_takes_the_mail_over_starttls_and_over_tls() {
    for tls in ["starttls", "implicit"] {
        let Some(sink) = sink("SMTP against aiosmtpd", tls, "good") else { return required() };
        let (driver, _secrets) = secure(&sink, tls, "hunter2");
        let outbound = email("ada@example.com");
        assert_eq!(attempt(&driver, &outbound).await, "accepted T1", "{tls}");
        let kept = sink.kept();
        assert_eq!(kept.len(), 1);
        for line in ["X-Sink-TLS: True", "X-Sink-Auth: True", "X-Sink-To: ada@example.com"] {
            assert!(kept[0].contains(line), "{tls}: {}", kept[0]);
        }
        let id = format!("Message-ID: <{}@example.org>\r\n", outbound.message);
        assert!(kept[0].contains(&id), "{}", kept[0]);
        for (to, expected) in [
            ("perm550@example.com", "early permanent 550 5.1.1"),
            ("temp451@example.com", "early temporary 451 4.1.1"),
            ("data554@example.com", "permanent 554 5.3.0"),
            ("drop-rcpt@example.com", "early not_sent"),
            ("drop-dot@example.com", "unknown"),
        ] {
            assert_eq!(attempt(&driver, &email(to)).await, expected, "{tls} {to}");
        }
        // After a drop on the final dot the server has the mail: that is why it is unknown.
        assert_eq!(sink.kept().len(), 2, "{tls}");
    }
}

#[tokio::test]
async fn a_wrong_password_or_certificate_is_ours_to_mend() {
    for (certificate, password, expected) in [
        ("good", "wrong", "early misconfigured 535 5.7.8"),
        ("wrong", "hunter2", "early misconfigured"),
        ("expired", "hunter2", "early misconfigured"),
    ] {
        let Some(sink) = sink("SMTP against aiosmtpd", "starttls", certificate) else { return required() };
        let (driver, _secrets) = secure(&sink, "starttls", password);
        let ended = attempt(&driver, &email("ada@example.com")).await;
        assert_eq!((ended.as_str(), sink.kept().len()), (expected, 0), "{certificate} {password}");
    }
}

fn required() {
    // Says that the test was not run, or fails where it must be.
    assert!(Sink::start("SMTP against aiosmtpd", &[]).is_none());
}
