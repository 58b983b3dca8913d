//! A mail server that keeps an append-only ledger of what it accepted: the judge of what was sent, and how often.
//!
//! It outlives every daemon that speaks to it. It says 250 only after the ledger has the message.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// How often each Message-ID was accepted.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, u32>>>);

impl Ledger {
    pub fn accepted(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().clone()
    }

    /// How often a message was accepted: its id is the left part of its Message-ID.
    pub fn count(&self, message_id: &str) -> u32 {
        self.accepted().iter().filter(|(id, _)| id.contains(message_id)).map(|(_, n)| n).sum()
    }
}

/// Serves on a port of its own until the process ends.
pub fn serve() -> (u16, Ledger) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ledger = Ledger::default();
    let kept = ledger.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ledger = kept.clone();
            // A client that is killed ends its own conversation only.
            thread::spawn(move || converse(stream, &ledger));
        }
    });
    (port, ledger)
}

fn converse(stream: TcpStream, ledger: &Ledger) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    let mut say = |words: &str| writer.write_all(format!("{words}\r\n").as_bytes()).ok();
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
                *ledger.0.lock().unwrap().entry(id).or_default() += 1;
                say("250 2.0.0 kept")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return Some(());
            }
            _ => say("250 ok")?,
        };
    }
}

/// Reads up to the final dot; nothing is accepted before it.
fn read_message(reader: &mut impl BufRead) -> Option<String> {
    let mut id = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(id);
        }
        if line.to_ascii_lowercase().starts_with("message-id:") {
            id = line["message-id:".len()..].trim().to_owned();
        }
    }
}
