//! What the tests of Meta and Telegram share: messages, secrets, golden requests, hostile answers.

use std::{fs, path::PathBuf, sync::Arc};

use channel_orchestrator::{
    channels::{
        Driver, Outbound,
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest},
        settings::DriverSettings,
    },
    domain::{
        address::Address,
        channel::Channel,
        ids::AttemptId,
        message::{Attachment, Content},
        receipt::ProviderEvent,
    },
};

use super::email;
use crate::support::http_provider::{Act, Heard, secret};

/// The attempt of every golden request.
pub const ATTEMPT: &str = "att_0198c0de000070008000000000000000";

pub fn message(channel: Channel, to: Address) -> Outbound {
    Outbound {
        attempt: AttemptId::parse(ATTEMPT).unwrap(),
        channel,
        to,
        from: None,
        from_name: None,
        content: Content { body: "Bonjour Ada, à demain 👋\n*14 h*".into(), ..Content::default() },
        ..email("ada@example.com")
    }
}

pub fn file(name: &str, content_type: &str, bytes: usize) -> Attachment {
    Attachment { file_name: name.into(), content_type: content_type.into(), bytes: vec![b'%'; bytes] }
}

/// Secrets in files of mode 0600, gone with the value.
pub struct Secrets(tempfile::TempDir);

impl Secrets {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// `file:PATH` of a file that holds the text.
    pub fn keep(&self, name: &str, text: &str) -> String {
        secret(self.0.path(), name, text)
    }
}

/// The request as a golden file holds it: line, headers that matter, body with its line ends as they are written
/// in text files.
#[track_caller]
pub fn expect_request(name: &str, heard: &Heard) {
    let mut found = format!("{} {}\n", heard.method, heard.target);
    for header in ["authorization", "content-type", "content-encoding", "cookie"] {
        if let Some(value) = heard.header(header) {
            found.push_str(&format!("{header}: {value}\n"));
        }
    }
    let json = heard.header("content-type") == Some("application/json");
    let body = match json {
        true => format!("{:#}", heard.json()),
        false => heard.body.replace("\r\n", "\n"),
    };
    found.push_str(&format!("\n{}\n", body.trim_end()));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/drivers/{name}.txt"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} (UPDATE_EXPECT=1 accepts it)");
}

/// Bodies that are no answer of anybody's, beside those of the tables.
pub fn hostile_bodies() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("not UTF-8", b"{\"ok\":true,\"messages\":[{\"id\":\"\xff\"}]}".to_vec()),
        ("a gzip header", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec()),
        ("deep", b"[".repeat(60_000)),
        ("10 MB", [b"{\"x\":\"".as_slice(), &vec![b'a'; 10_000_000], b"\"}"].concat()),
        ("terminal codes", b"\x1b[2J\x1b[31mok".to_vec()),
        ("NULs", vec![0; 1000]),
    ]
}

/// An answer with its length, byte for byte.
pub fn answer(status: u16, more: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} Any\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    Act::Say([head.as_bytes(), body].concat())
}

/// Hears the request and closes without a word.
pub fn silence() -> Act {
    Act::Say(Vec::new())
}

/// An answer cut after every one of its bytes but the last: none of these is an answer.
pub fn cut_everywhere(whole: &Act) -> Vec<Act> {
    let Act::Say(bytes) = whole else { panic!("not an answer: {whole:?}") };
    (0..bytes.len()).map(|at| Act::Say(bytes[..at].to_vec())).collect()
}

/// A callback as it would come to the public listener.
pub fn call(
    driver: &Arc<dyn Driver>,
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<CallbackAnswer, CallbackRefused> {
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let url = format!("https://hooks.example.org/callbacks/relay/tenant_123?{query}");
    driver.callbacks().expect("callbacks").read(&CallbackRequest {
        method,
        url: &url,
        query,
        headers: &headers,
        body,
        now: chrono::DateTime::UNIX_EPOCH,
    })
}

pub fn events(answer: Result<CallbackAnswer, CallbackRefused>) -> Vec<ProviderEvent> {
    match answer {
        Ok(CallbackAnswer::Events(events)) => events,
        other => panic!("{other:?}"),
    }
}

/// The two tables of the settings' reference are what a reader would take away the `#` of.
#[test]
fn the_reference_shows_every_key_of_both_drivers() {
    let reference = include_str!("../../../examples/orchestrator.toml");
    for (kind, last) in [("meta", "echo_attempt"), ("telegram", "protect_content")] {
        let head = reference.find(&format!("# kind = \"{kind}\"")).expect(kind);
        let table: String = reference[head..]
            .lines()
            .take_while(|line| line.starts_with("# "))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        assert!(table.contains(last), "{table}");
        toml::from_str::<DriverSettings>(&table).unwrap_or_else(|fault| panic!("{fault}\n{table}"));
    }
}
