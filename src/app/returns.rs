//! Empties the Maildirs that mail comes back to, `[drivers.NAME] bounces.maildir`.
//!
//! A mail is moved to `cur` once what it says is durable, and stays in `new` until then: killed in between, it is read
//! again and changes nothing. What cannot be read is moved away with the flag F, for a person to look at. Nothing is ever
//! deleted here.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::drivers;
use crate::{
    channels::returned::{self, BYTES_MAX, ReturnedMail},
    config::Config,
    delivery::receipts::Receiver,
    store::StoreError,
    tracking::TokenKey,
};

/// How often the folders are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Mails of one folder taken in one look.
const AT_ONCE: usize = 100;

/// The folders of all drivers, each once.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    let mut folders = drivers::maildirs(config);
    folders.sort();
    folders.dedup();
    folders
}

/// Empties them until `stop`.
pub async fn empty(folders: Vec<PathBuf>, receiver: Receiver, key: TokenKey, stop: CancellationToken) {
    if folders.is_empty() {
        return;
    }
    // Told once for each folder, and again when it was well in between.
    let mut unwell = vec![false; folders.len()];
    loop {
        for (folder, unwell) in folders.iter().zip(&mut unwell) {
            let emptied = look(folder, &receiver, &key).await;
            if let Err(why) = &emptied
                && !*unwell
            {
                tracing::warn!(folder = %folder.display(), why, "mail that came back waits");
            }
            *unwell = emptied.is_err();
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Takes what is new in one folder, oldest first by name.
async fn look(folder: &Path, receiver: &Receiver, key: &TokenKey) -> Result<(), String> {
    let new = folder.join("new");
    let listed = tokio::task::spawn_blocking(move || names(&new)).await.map_err(|e| e.to_string())?;
    for name in listed.map_err(|error| format!("it cannot be listed: {error}"))? {
        let path = folder.join("new").join(&name);
        let reading = tokio::task::spawn_blocking(move || read(&path)).await;
        let flag = match reading {
            Ok(Ok(mail)) => match receiver.mail_returned(mail, key).await {
                Ok(_) => 'S',
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(name, %error, "a mail that came back cannot be kept");
                    'F'
                }
                Err(error) => return Err(error.to_string()),
            },
            // Another replica was faster.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            Ok(Err(error)) => return Err(format!("{name} cannot be read: {error}")),
            Err(fault) => {
                tracing::error!(name, %fault, "a mail that came back cannot be read");
                'F'
            }
        };
        let (from, to) =
            (folder.join("new").join(&name), folder.join("cur").join(format!("{name}:2,{flag}")));
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{name} was read and cannot be moved to cur: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn names(new: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(new)? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string())
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(AT_ONCE);
    Ok(names)
}

fn read(path: &Path) -> io::Result<ReturnedMail> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(returned::read(&bytes, None))
}
