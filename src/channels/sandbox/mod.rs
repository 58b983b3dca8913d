//! The sandbox: a provider for every channel that delivers to a folder.
//!
//! Each message that it takes is a file, `STATE/outbox/<channel>/<messageId>-<attempt>.json`, and for email an
//! `.eml` beside it; a file is there if and only if the message was taken. It obeys magic addresses
//! (`faults`), and plays faults on request: the settings' `fail`, `refuse`, `channels` and
//! `delay_milliseconds`, or the same keys in `STATE/outbox/faults.toml`, which is read at every attempt and
//! wins. It never leaves the machine.

mod faults;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use lettre::message::Mailbox;

pub use self::faults::Fault;
use self::faults::{Play, by_address, error};
use super::{Driver, Outbound, PrepareError, Prepared, mime, settings::SandboxSettings};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptError, ErrorClass, Outcome},
    time::Clock,
};

/// Writing a file takes no time; a played delay is added.
const SEND_SECONDS: u32 = 30;
/// Bytes that are written where the attempt runs.
const IN_PLACE_MAX: usize = 64 << 10;
/// Who writes emails that name no sender.
const FROM: &str = "no-reply@sandbox.invalid";

pub struct Sandbox {
    name: String,
    settings: SandboxSettings,
    outbox: PathBuf,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sandbox({} in {})", self.name, self.outbox.display())
    }
}

impl Sandbox {
    /// `outbox` is made when the first message is written.
    pub fn new(name: &str, settings: SandboxSettings, outbox: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.to_owned(), settings, outbox, clock }
    }

    /// The settings in force: the control file's, where there is one.
    fn settings(&self) -> Result<SandboxSettings, PrepareError> {
        let path = self.outbox.join("faults.toml");
        let broken = |why: String| not_taken(&format!("{}: {why}", path.display()));
        // In place: it is seldom there, and asking takes less time than to have it asked.
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| broken(e.to_string())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(self.settings.clone()),
            Err(e) => Err(broken(e.to_string())),
        }
    }
}

fn play(settings: &SandboxSettings, outbound: &Outbound) -> Play {
    let here = settings.channels.is_empty() || settings.channels.contains(&outbound.channel);
    if here && settings.refuse.iter().any(|address| address == outbound.to.as_str()) {
        let refusal = error(ErrorClass::Permanent, Some("21211"), "refused: listed under `refuse`");
        return Play::Refuse(refusal, None);
    }
    match settings.fail {
        Some(fault) if here => fault.play(),
        _ => by_address(outbound),
    }
}

fn not_taken(detail: &str) -> PrepareError {
    PrepareError { error: error(ErrorClass::NotSent, Some("sandbox"), detail), retry_after_seconds: None }
}

#[async_trait]
impl Driver for Sandbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        &Channel::ALL
    }

    fn send_timeout_seconds(&self) -> u32 {
        SEND_SECONDS.saturating_add(self.settings.delay_milliseconds.div_ceil(1000))
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let settings = self.settings()?;
        let play = match play(&settings, outbound) {
            Play::RefuseEarly(error, retry_after_seconds) => {
                return Err(PrepareError { error, retry_after_seconds });
            }
            play => play,
        };
        Ok(Box::new(Ready {
            files: self.files(outbound).map_err(|why| PrepareError {
                error: error(ErrorClass::Permanent, Some("content"), &why),
                retry_after_seconds: None,
            })?,
            play,
            delay: Duration::from_millis(u64::from(settings.delay_milliseconds)),
            id: format!("sandbox-{}-{}", outbound.message, outbound.attempt_number),
        }))
    }
}

impl Sandbox {
    /// The files that taking the message leaves, the last one being what says that it was taken.
    fn files(&self, outbound: &Outbound) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
        let stem = format!("{}-{}", outbound.message, outbound.attempt_number);
        let path =
            |extension: &str| self.outbox.join(outbound.channel.as_str()).join(format!("{stem}.{extension}"));
        let mut files = Vec::new();
        if outbound.channel == Channel::Email {
            let from: Mailbox = mime::mailbox("from", FROM, None)?;
            files.push((path("eml"), mime::build(outbound, &from, self.clock.now())?.bytes));
        }
        let shown = serde_json::json!({
            "messageId": outbound.message,
            "attemptId": outbound.attempt,
            "attempt": outbound.attempt_number,
            "channel": outbound.channel,
            "driver": self.name,
            "to": outbound.to.as_str(),
            "toName": outbound.to_name,
            "from": outbound.from,
            "fromName": outbound.from_name,
            "replyTo": outbound.reply_to,
            "class": outbound.class,
            "statusCallback": outbound.status_callback,
            "unsubscribe": outbound.unsubscribe,
            "locale": outbound.locale,
            "subject": outbound.content.subject,
            "body": outbound.content.body,
            "html": outbound.content.html,
            "attachments": outbound.content.attachments.iter().map(|file| serde_json::json!({
                "fileName": file.file_name,
                "contentType": file.content_type,
                "bytes": file.bytes.len(),
                "base64": STANDARD.encode(&file.bytes),
            })).collect::<Vec<_>>(),
            "takenAt": self.clock.now(),
        });
        let text = serde_json::to_vec_pretty(&shown).map_err(|e| format!("no JSON: {e}"))?;
        files.push((path("json"), text));
        Ok(files)
    }
}

struct Ready {
    files: Vec<(PathBuf, Vec<u8>)>,
    play: Play,
    delay: Duration,
    id: String,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let Ready { files, play, delay, id } = *self;
        let small = files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= IN_PLACE_MAX;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if let Play::Refuse(error, retry_after_seconds) | Play::RefuseEarly(error, retry_after_seconds) = play
        {
            return Outcome::Failed { error, retry_after_seconds };
        }
        let write = move || files.iter().try_for_each(|(path, bytes)| write_file(path, bytes));
        // Small files in place: to write one takes less time than to have it written, and threads that make files in one
        // folder only wait for each other.
        let written = if small { Ok(write()) } else { tokio::task::spawn_blocking(write).await };
        match written {
            Ok(Ok(())) if play == Play::AcceptAndLoseAnswer => {
                Outcome::failed(ErrorClass::Unknown, "taken by the sandbox, which then lost its answer")
            }
            // No cost of its own: budgets are to be tried as if a provider had been paid the estimate.
            Ok(Ok(())) => Outcome::Accepted { provider_message_id: Some(id), cost: None },
            Ok(Err(e)) => failed_to_write(error(ErrorClass::NotSent, Some("sandbox"), &e.to_string())),
            Err(e) => failed_to_write(error(ErrorClass::Unknown, Some("sandbox"), &e.to_string())),
        }
    }
}

fn failed_to_write(error: AttemptError) -> Outcome {
    Outcome::Failed { error, retry_after_seconds: None }
}

/// Writes a file whole or not at all.
/// Whole or not there at all, for whoever looks. It is not made to outlive a power cut: nobody is owed what a sandbox
/// took, and a real provider does not wait for our disk.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = dir.join(format!(".{name}.part"));
    let mut file = match fs::File::create(&part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(dir)?;
            fs::File::create(&part)?
        }
        made => made?,
    };
    file.write_all(bytes)?;
    fs::rename(&part, path)
}
