//! `bounce`: brings one mail that came back to the daemon, as a mail server's pipe does.
//!
//! 0 only once what it says is kept; 75 for whatever went wrong, so that the mail server keeps the mail and comes again.

use std::{io::Read as _, path::PathBuf, time::Duration};

use super::{
    arguments::BounceArguments,
    client::{Client, ClientError},
    outcome::{Answer, Failure},
};
use crate::channels::returned::BYTES_MAX;

/// Less than a mail server gives a command (Postfix: 1000 s).
const TIMEOUT: Duration = Duration::from_secs(60);
/// What mail servers name the envelope's recipient by, in a command's environment.
const ENVELOPE: [&str; 2] = ["ORIGINAL_RECIPIENT", "RECIPIENT"];

/// Hands standard input, or a file, to the daemon.
pub async fn run(
    socket: Result<PathBuf, Failure>,
    arguments: &BounceArguments,
    json: bool,
) -> Result<Answer, Failure> {
    // Settings that cannot be read now may be mended while the mail waits.
    let socket = socket.map_err(|failure| Failure::TryAgain(in_words(&failure)))?;
    let mail =
        read(arguments).map_err(|error| Failure::TryAgain(format!("the mail cannot be read: {error}")))?;
    let named = ENVELOPE.iter().find_map(|name| std::env::var(name).ok().filter(|to| !to.is_empty()));
    let path = match arguments.to.clone().or(named) {
        Some(to) => format!("/v1/returned?to={}", encoded(&to)),
        None => "/v1/returned".to_owned(),
    };
    let kind = [("content-type", "message/rfc822".to_owned())];
    let client = Client::new(&socket, TIMEOUT);
    let again = |error: ClientError| Failure::TryAgain(format!("{error}: the mail is not taken"));
    let answer = client.post(&path, Some(mail), &kind).await.map_err(again)?;
    if !answer.status.is_success() {
        let detail = answer.body["detail"].as_str().unwrap_or(&answer.text).to_owned();
        return Err(Failure::TryAgain(format!("the daemon did not take the mail: {detail}")));
    }
    let (outcome, message) = (answer.body["outcome"].as_str(), answer.body["messageId"].as_str());
    if json {
        println!("{:#}", answer.body);
    } else if let (Some(outcome), Some(message)) = (outcome, message) {
        println!("{outcome}: {message}");
    } else {
        println!("ignored: {}", answer.body["reason"].as_str().unwrap_or_default());
    }
    Ok(Answer::Yes)
}

/// One line, for a mail server's log.
fn in_words(failure: &Failure) -> String {
    let Failure::Settings(faults) = failure else { return failure.to_string() };
    let all: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    format!("the settings are wrong: {}", all.join("; "))
}

/// The mail's beginning. The rest is read and left, because a mail server takes a closed pipe for a failure.
fn read(arguments: &BounceArguments) -> std::io::Result<Vec<u8>> {
    let mut source: Box<dyn std::io::Read> = match &arguments.file {
        Some(path) => Box::new(std::fs::File::open(path)?),
        None => Box::new(std::io::stdin().lock()),
    };
    let mut mail = Vec::new();
    source.by_ref().take(BYTES_MAX as u64).read_to_end(&mut mail)?;
    std::io::copy(&mut source, &mut std::io::sink())?;
    Ok(mail)
}

/// A value in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
