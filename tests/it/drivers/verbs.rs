//! Every turn of an SMTP conversation meets every fault (reliability.md F41): with TLS and a password, byte for byte.
//! Before the final dot nothing is unknown, after it nothing but a complete answer counts, and no answer counts twice.

use std::sync::Arc;

use channel_orchestrator::channels::Driver;

use super::{
    attempt, driver, email, plain,
    smtp_server::{Act, Script, SmtpServer},
    smtp_sink::certificates,
};

const TURNS: [&str; 9] =
    ["greeting", "EHLO", "STARTTLS", "EHLO again", "AUTH", "MAIL", "RCPT", "DATA", "dot"];
const FAULTS: [&str; 8] =
    ["4xx", "5xx", "drop", "silence", "no SMTP", "lines that disagree", "a byte at a time", "two answers"];

/// Longer than the driver waits, which is a second.
const DRIP: &str = "250-this answer comes much too slowly for anybody's patience\r\n250 really\r\n";
/// What would be read as the answer to a later turn.
const MORE: &str = "250 2.0.0 Ok: queued as EARLY\r\n";

/// The right answer of a turn.
fn right(turn: &str) -> &'static str {
    match turn {
        "greeting" => "220 mail.test ready\r\n",
        "EHLO" => "250-mail.test\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
        "STARTTLS" => "220 go on\r\n",
        "EHLO again" => "250-mail.test\r\n250 AUTH PLAIN\r\n",
        "AUTH" => "235 2.7.0 welcome\r\n",
        "DATA" => "354 go on\r\n",
        "dot" => "250 2.0.0 Ok: queued as 4F2A\r\n",
        _ => "250 2.1.0 ok\r\n",
    }
}

fn script(turn: &str, act: Act) -> Script {
    let of = |name: &str| if name == turn { act } else { Act::Say(right(name)) };
    Script {
        greeting: of("greeting"),
        hello: of("EHLO"),
        starttls: of("STARTTLS"),
        tls: true,
        hello_again: of("EHLO again"),
        auth: of("AUTH"),
        mail: of("MAIL"),
        rcpt: of("RCPT"),
        data: of("DATA"),
        dot: of("dot"),
        ..Script::default()
    }
}

fn act(turn: &str, fault: &str) -> Act {
    match fault {
        "4xx" => Act::Say("451 4.3.0 later\r\n"),
        "5xx" => Act::Say("554 5.7.0 no\r\n"),
        "drop" => Act::Drop,
        "silence" => Act::Hang,
        "no SMTP" => Act::Say("\u{0}\u{7}hello there\r\n"),
        "lines that disagree" => Act::Say("250-2.0.0 yes\r\n550 5.1.1 no\r\n"),
        "a byte at a time" => Act::Drip(DRIP, 40),
        _ => Act::Say(format!("{}{MORE}", right(turn)).leak()),
    }
}

/// What the attempt must end as.
fn expected(turn: &str, fault: &str) -> &'static [&'static str] {
    match (turn, fault) {
        ("dot", "4xx") => &["temporary 451 4.3.0"],
        (_, "4xx") => &["early temporary 451 4.3.0"],
        ("MAIL" | "RCPT" | "DATA", "5xx") => &["early permanent 554 5.7.0"],
        ("dot", "5xx") => &["permanent 554 5.7.0"],
        // Whom the relay does not let in at all is no fault of the message.
        (_, "5xx") => &["early misconfigured 554 5.7.0"],
        // The real answer came first.
        ("dot", "two answers") => &["accepted 4F2A"],
        ("greeting" | "EHLO" | "STARTTLS", "two answers") => &["early misconfigured"],
        ("EHLO again" | "AUTH" | "MAIL", "two answers") => &["early not_sent 250 2.1.0"],
        ("RCPT", "two answers") => &["early not_sent 250 2.0.0"],
        ("DATA", "two answers") => &["early not_sent"],
        ("dot", _) => &["unknown"],
        _ => &["early not_sent"],
    }
}

/// A driver with TLS, a password and a second's patience.
fn patient_for_a_second(port: u16, folder: &std::path::Path) -> Arc<dyn Driver> {
    let secret = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("file:{}", path.display())
    };
    driver(&format!(
        "kind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nfrom = \"no-reply@example.org\"\n\
         username = \"{}\"\npassword = \"{}\"\nca_file = \"{}\"\n\
         timeouts = {{ connect_seconds = 2, command_seconds = 2, data_seconds = 2 }}\n",
        secret("username", "bot"),
        secret("password", "hunter2"),
        certificates().join("ca.pem").display(),
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_turn_meets_every_fault() {
    // Made once, before everybody asks for them.
    certificates();
    let mut cases = tokio::task::JoinSet::new();
    for turn in TURNS {
        for fault in FAULTS {
            cases.spawn(async move {
                let server = SmtpServer::start(script(turn, act(turn, fault))).await;
                let folder = tempfile::tempdir().unwrap();
                let ended =
                    attempt(&patient_for_a_second(server.port, folder.path()), &email("ada@example.com"))
                        .await;
                (turn, fault, ended, String::from_utf8_lossy(&server.heard()).into_owned())
            });
        }
    }
    let mut wrong = Vec::new();
    while let Some(case) = cases.join_next().await {
        let (turn, fault, ended, heard) = case.unwrap();
        if !expected(turn, fault).contains(&ended.as_str()) {
            wrong.push(format!("{turn}, {fault}: {ended}, expected {:?}", expected(turn, fault)));
        }
        // Nothing is told beyond the turn that failed: no password without TLS, no dot without a word to go on.
        if ["greeting", "EHLO", "STARTTLS"].contains(&turn) && heard.contains("AUTH") {
            wrong.push(format!("{turn}, {fault}: a password left in the clear"));
        }
        let dots = heard.matches("\r\n.\r\n").count();
        if dots != usize::from(turn == "dot") {
            wrong.push(format!("{turn}, {fault}: {dots} final dots"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An answer that stands there before the dot is nobody's answer to it: without this the mail would count as taken by
/// the words that came with the 354, and be lost where the relay then says no.
#[tokio::test]
async fn an_answer_that_came_before_the_dot_is_no_answer_to_it() {
    let script = Script {
        data: Act::Say("354 go on\r\n250 2.0.0 Ok: queued as EARLY\r\n"),
        dot: Act::Say("451 4.3.0 later\r\n"),
        ..Script::default()
    };
    let server = SmtpServer::start(script).await;
    let ended = attempt(&plain(server.port, "tls = \"none\""), &email("ada@example.com")).await;
    assert_eq!(ended, "early not_sent");
    assert!(!server.heard_text().contains("\r\n.\r\n"));
}

/// An answer of several lines is one answer, on every turn.
#[tokio::test]
async fn answers_of_several_lines_are_understood() {
    let script = Script {
        greeting: Act::Say("220-mail.test\r\n220-is glad\r\n220 to see you\r\n"),
        mail: Act::Say("250-2.1.0 well\r\n250 2.1.0 yes\r\n"),
        rcpt: Act::Say("250-2.1.5 well\r\n250-2.1.5 let me see\r\n250 2.1.5 yes\r\n"),
        data: Act::Say("354-go\r\n354 on\r\n"),
        dot: Act::Say("250-2.0.0 taken\r\n250 2.0.0 Ok: queued as 4F2A\r\n"),
        ..Script::default()
    };
    let server = SmtpServer::start(script).await;
    let ended = attempt(&plain(server.port, "tls = \"none\""), &email("ada@example.com")).await;
    assert_eq!(ended, "accepted 4F2A");
}
