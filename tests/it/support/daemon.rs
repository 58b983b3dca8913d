//! The built daemon as a process: started on a folder of its own, spoken to over its socket, killed.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a daemon may take to answer before a test gives up on it. A crowded machine takes long; only what fails
/// waits it out.
const PATIENCE: Duration = Duration::from_secs(90);

/// A folder with settings and policies, and the daemon that runs on it.
pub struct Daemon {
    folder: PathBuf,
    child: Option<Child>,
    /// Variables that it is started with.
    environment: Vec<(&'static str, String)>,
    /// It runs in a mount namespace of its own.
    apart: bool,
}

/// What the daemon answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// `Null` where it is no JSON.
    pub body: Value,
    pub text: String,
}

impl Daemon {
    /// Lays out a folder: the shipped policies, a tenant `acme` with this file, and these settings.
    pub fn prepare(folder: &Path, tenant_toml: &str, settings: &str) -> Self {
        copy_tree(&super::policies(), &folder.join("policies"));
        fs::write(folder.join("policies/tenants/acme.toml"), tenant_toml).unwrap();
        let settings = format!("state_dir = \"state\"\npolicies = \"policies\"\n{settings}");
        fs::write(folder.join("orchestrator.toml"), settings).unwrap();
        Self { folder: folder.to_owned(), child: None, environment: Vec::new(), apart: false }
    }

    /// Speaks to whatever daemon runs on a folder, and owns none.
    pub fn on(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), child: None, environment: Vec::new(), apart: false }
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.start_under(&[]);
    }

    /// The same, run by a command that ends in `exec "$@"` or does so itself.
    pub fn start_under(&mut self, wrapper: &[&str]) {
        self.launch(wrapper);
        assert!(self.becomes_ready(), "the daemon did not become ready:\n{}", self.log());
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self, wrapper: &[&str]) {
        let mut words = wrapper.iter().copied().chain([env!("CARGO_BIN_EXE_orchestrator")]);
        let program = words.next().unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let child = Command::new(program)
            .args(words)
            .args(["serve", "--config", "orchestrator.toml"])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "warn")
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.apart = wrapper.contains(&"--mount");
    }

    /// Starts it; how it ended where it did before it was ready.
    pub fn tries_to_start(&mut self) -> Option<ExitStatus> {
        self.launch(&[]);
        let ready = self.becomes_ready();
        let ended = self.has_ended();
        assert!(ready || ended.is_some(), "the daemon did not become ready:\n{}", self.log());
        ended
    }

    /// A file as the daemon sees it, whatever is mounted over its folder.
    pub fn sees(&self, file: &str) -> PathBuf {
        match (self.apart, self.pid()) {
            (true, Some(pid)) => PathBuf::from(format!("/proc/{pid}/cwd/{file}")),
            _ => self.folder.join(file),
        }
    }

    /// What it is started with from now on, besides.
    pub fn set(&mut self, name: &'static str, value: Option<String>) {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.extend(value.map(|value| (name, value)));
    }

    /// Whether it answers before its end or the end of patience.
    pub fn becomes_ready(&mut self) -> bool {
        eventually(|| self.has_ended().is_some() || self.is_ready()) && self.is_ready()
    }

    fn is_ready(&self) -> bool {
        self.call("GET", "/readyz", &[], "").is_some_and(|answer| answer.status == 200)
    }

    /// How it ended, where it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// What a command of the same program says of its settings: whether it succeeded, and its words.
    pub fn command(&self, words: &[&str]) -> (bool, String) {
        let program = env!("CARGO_BIN_EXE_orchestrator");
        let mut command = Command::new(program);
        if let (true, Some(pid)) = (self.apart, self.pid()) {
            command = Command::new("nsenter");
            let folder = format!("--wdns={}", self.folder.display());
            command.args(["--mount", &folder, "--target"]).arg(pid.to_string()).arg(program);
        }
        let output = command
            .args(words)
            .args(["--config", "orchestrator.toml"])
            .current_dir(&self.folder)
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// kill -9: it gets no chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.take()?.wait().unwrap().code()
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = self.pid() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    /// Whether it is stopped as it stands (SIGSTOP).
    pub fn is_frozen(&self) -> bool {
        let stat = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stat.is_some_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    /// One request on a connection of its own; none where nobody answers, or not wholly.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.folder.join("state/orchestrator.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let text = body.to_owned();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        Some(Answer { status, body, text })
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a condition comes true before patience runs out.
pub fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let given_up = Instant::now() + PATIENCE;
    while Instant::now() < given_up {
        if condition() {
            return true;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    false
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
