//! A real SMTP server, aiosmtpd, in a process of its own: `tests/peers/smtp_sink.py`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// The server and what it keeps, until it is dropped.
pub struct Sink {
    pub port: u16,
    child: Child,
    maildir: TempDir,
}

impl Sink {
    /// Starts one where there is a Python with aiosmtpd (`ORCHESTRATOR_TEST_PYTHON`, which `tests/run` sets).
    pub fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        let Some(python) = std::env::var_os("ORCHESTRATOR_TEST_PYTHON") else {
            assert!(
                std::env::var_os("ORCHESTRATOR_TEST_REQUIRE_ALL").is_none(),
                "{test} needs ORCHESTRATOR_TEST_PYTHON, a Python with aiosmtpd"
            );
            eprintln!("{test}: not run, ORCHESTRATOR_TEST_PYTHON names no Python with aiosmtpd");
            return None;
        };
        let maildir = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(peers().join("smtp_sink.py"))
            .arg("--maildir")
            .arg(maildir.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        Some(Self { port: port.unwrap_or_else(|| panic!("it said {line:?}")), child, maildir })
    }

    /// The messages that it took, in order.
    pub fn kept(&self) -> Vec<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.maildir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "eml"))
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// A folder with an authority and certificates under it, made once a run.
pub fn certificates() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smtp-certificates");
        let made = Command::new(peers().join("make_certs.sh")).arg(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    })
}
