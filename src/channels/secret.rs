//! Secrets by reference: `env:NAME` or `file:PATH`, read once at start.
//!
//! Never a literal: a secret in a settings file ends in a backup. Never shown: not by `Debug`, not in an error.

use std::{fmt, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// Longer than any password or token; a wrong path must not be read whole.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A run of letters, digits, `-` and `_` from this length on may be a piece of a token.
const TOKEN_PIECE_MIN: usize = 24;

/// Somebody else's words without the secret that they may repeat, whole or in long pieces: providers quote a
/// malformed token in their error.
pub fn without(text: &str, secret: &SecretString) -> String {
    let text = text.replace(secret.expose_secret(), "…");
    let of_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c| !of_token(c)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        shown.push_str(if piece.len() >= TOKEN_PIECE_MIN { "…" } else { piece });
        let next = after.find(of_token).unwrap_or(after.len());
        shown.push_str(&after[..next]);
        rest = &after[next..];
    }
    shown
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    Env(String),
    File(PathBuf),
}

impl SecretRef {
    /// Takes `env:NAME` or `file:PATH`; the refusal of anything else does not repeat it, it may be the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(PathBuf::from(path))),
            Some(("file", _)) => Err("a `file:` reference needs an absolute path: `file:/etc/…`".into()),
            _ => {
                Err("neither a user name nor a password is written here: put it in the environment and write `env:NAME`, or in a \
                      file of mode 0600 and write `file:/PATH`"
                    .into())
            }
        }
    }

    /// Reads the secret. `lookup` is the environment, handed in so that tests have their own.
    pub fn read_with(&self, lookup: impl Fn(&str) -> Option<String>) -> Result<SecretString, String> {
        let secret = match self {
            Self::Env(name) => {
                lookup(name).ok_or_else(|| format!("the environment variable {name} is not set"))?
            }
            Self::File(path) => read_file(path)?,
        };
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(format!("{self:?} is empty"));
        }
        Ok(SecretString::from(secret))
    }

    /// Reads the secret, with the environment of this process.
    pub fn read(&self) -> Result<SecretString, String> {
        self.read_with(|name| std::env::var(name).ok())
    }
}

fn read_file(path: &PathBuf) -> Result<String, String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|e| format!("the secret file {shown} cannot be read: {e}"))?;
    if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
        return Err(format!("{shown} is not a file of at most {SECRET_BYTES_MAX} bytes"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "the secret file {shown} has mode {mode:04o}, so that others may read it: chmod 600 {shown}"
        ));
    }
    fs::read_to_string(path).map_err(|e| format!("the secret file {shown} cannot be read: {e}"))
}

/// Shows the reference, which is not the secret.
impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_repeat_a_secret_lose_it() {
        let token = SecretString::from("EAAG-short");
        assert_eq!(without("Malformed access token EAAG-short.", &token), "Malformed access token ….");
        let long = "A".repeat(200);
        assert_eq!(without(&format!("bad {long}, é {long}"), &token), "bad …, é …");
        assert_eq!(without("(#131026) Message undeliverable", &token), "(#131026) Message undeliverable");
        assert_eq!(without("", &token), "");
    }

    #[test]
    fn a_literal_is_refused_and_not_repeated() {
        for literal in ["hunter2", "env:", "file:relative", "https://user:hunter2@host"] {
            let refusal = SecretRef::parse(literal).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{refusal}");
            assert!(refusal.contains("file:/"), "{refusal}");
        }
    }

    #[test]
    fn an_environment_variable_is_read_and_its_value_not_shown() {
        let reference = SecretRef::parse("env:SMTP_PASSWORD").unwrap();
        let secret = reference.read_with(|name| (name == "SMTP_PASSWORD").then(|| "hunter2".into())).unwrap();
        assert_eq!(secret.expose_secret(), "hunter2");
        assert!(!format!("{reference:?} {secret:?}").contains("hunter2"));
        assert_eq!(
            reference.read_with(|_| None).unwrap_err(),
            "the environment variable SMTP_PASSWORD is not set"
        );
    }

    #[test]
    fn a_secret_file_must_be_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        fs::write(&path, "hunter2\n").unwrap();
        let reference = SecretRef::parse(&format!("file:{}", path.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reference.read().unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(reference.read().unwrap().expose_secret(), "hunter2");
    }
}
