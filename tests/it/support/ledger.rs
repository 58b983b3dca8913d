//! What a provider accepted, one line each in a file that is only ever appended to, and a mail server that keeps one:
//! the judge of what was sent, and how often.
//!
//! It outlives every daemon that is spoken to. A provider says yes only after its line is on the disk.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// One acceptance.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Something that names the message: its text, or its Message-ID.
    pub what: String,
    pub to: String,
    pub at: Instant,
}

/// Every acceptance, in order.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<(File, Vec<Entry>)>>);

impl Default for Ledger {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((tempfile::tempfile().unwrap(), Vec::new()))))
    }
}

impl Ledger {
    /// Keeps an acceptance; it is on the disk when this returns.
    pub fn enter(&self, what: &str, to: &str) {
        let mut kept = self.0.lock().unwrap();
        let line = serde_json::json!([what, to]);
        kept.0.write_all(format!("{line}\n").as_bytes()).unwrap();
        kept.0.sync_data().unwrap();
        kept.1.push(Entry { what: what.to_owned(), to: to.to_owned(), at: Instant::now() });
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().1.clone()
    }

    /// How often a message was accepted that is named like that, in whole or in part.
    pub fn count(&self, name: &str) -> u32 {
        let entries = self.entries();
        u32::try_from(entries.iter().filter(|entry| entry.what.contains(name)).count()).unwrap()
    }
}

/// What the mail server does at the final dot.
#[derive(Clone, Debug)]
pub enum AtDot {
    Accept,
    /// Keeps the mail, and closes without a word.
    KeepAndDrop,
    /// Closes without a word; keeps nothing.
    Drop,
    /// Says this; keeps nothing.
    Say(&'static str),
}

type Rule = dyn Fn(usize) -> AtDot + Send + Sync;

/// Accepts everything on a port of its own, until the process ends.
pub fn serve() -> (u16, Ledger) {
    serve_by(|_| AtDot::Accept)
}

/// The same, by a rule about the first mail, the second, and so on.
pub fn serve_by(rule: impl Fn(usize) -> AtDot + Send + Sync + 'static) -> (u16, Ledger) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ledger = Ledger::default();
    let kept = ledger.clone();
    let (rule, mails): (Arc<Rule>, Arc<AtomicUsize>) = (Arc::new(rule), Arc::default());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (ledger, rule, mails) = (kept.clone(), Arc::clone(&rule), Arc::clone(&mails));
            // A client that is killed ends its own conversation only.
            thread::spawn(move || converse(stream, &ledger, &*rule, &mails));
        }
    });
    (port, ledger)
}

fn converse(stream: TcpStream, ledger: &Ledger, rule: &Rule, mails: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    let mut say = |words: &str| writer.write_all(format!("{words}\r\n").as_bytes()).ok();
    let mut to = String::new();
    say("220 ledger.test ESMTP")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => say("250-ledger.test\r\n250-8BITMIME\r\n250 SMTPUTF8")?,
            "DATA" => {
                say("354 go on")?;
                let id = read_message(&mut reader)?;
                match rule(mails.fetch_add(1, Ordering::SeqCst)) {
                    AtDot::Accept => {
                        ledger.enter(&id, &to);
                        say("250 2.0.0 kept")?;
                    }
                    AtDot::KeepAndDrop => {
                        ledger.enter(&id, &to);
                        return None;
                    }
                    AtDot::Drop => return None,
                    AtDot::Say(words) => say(words)?,
                }
            }
            "RCPT" => {
                line.trim_end().clone_into(&mut to);
                say("250 ok")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return Some(());
            }
            _ => say("250 ok")?,
        }
    }
}

/// Reads up to the final dot, nothing is accepted before it: its Message-ID and its subject.
fn read_message(reader: &mut impl BufRead) -> Option<String> {
    let (mut id, mut subject) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(format!("{id} {subject}"));
        }
        if let Some(rest) = line.strip_prefix("Subject:") {
            rest.trim().clone_into(&mut subject);
        }
        if line.to_ascii_lowercase().starts_with("message-id:") {
            id = line["message-id:".len()..].trim().to_owned();
        }
    }
}
