//! The command line as people use it: the built binary, its words, its JSON and its exit codes.
//!
//! Offline commands run on a copy of the shipped policies, with and without faults; the others on a daemon of
//! their own.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    daemon::{Daemon, copy_tree},
    policies,
};

mod acts;
mod bounce;
mod numbers;
mod trial;
mod upkeep;
mod versions;
mod webhooks;

const NIGHT: &str = "2025-11-14T23:00:00+01:00";
const DAY: &str = "2025-11-14T15:00:00+01:00";

/// What a command printed, and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n-- out\n{}\n-- err\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(
                self.out.contains(word) || self.err.contains(word),
                "no {word:?}\n-- out\n{}\n-- err\n{}",
                self.out,
                self.err
            );
        }
    }
}

/// A folder with the shipped policies and a tenant whose file is empty.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(&policies(), &dir.path().join("policies"));
        fs::write(dir.path().join("policies/tenants/acme.toml"), "").unwrap();
        Self(dir)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses its arguments reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(child.wait_with_output().unwrap())
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let path = self.0.path().join("policies").join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{} has no {from:?}", path.display());
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/requests").join(format!("{name}.json"))
}

fn example_of_acme(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap().replace("tenant_123", "acme")
}

#[test]
fn help_has_two_examples_for_every_command() {
    let place = Place::new();
    place.run(&["--help"]).expect(0).says(&["Examples:", "Exit codes:", "--explain"]);
    let commands: [&[&str]; 28] = [
        &["tail"],
        &["messages", "resend"],
        &["messages", "settle"],
        &["messages", "release"],
        &["pause"],
        &["resume"],
        &["erase"],
        &["acts"],
        &["trial"],
        &["serve"],
        &["send"],
        &["broadcast"],
        &["stats"],
        &["check"],
        &["test"],
        &["schema"],
        &["policies"],
        &["policies", "show"],
        &["policies", "reload"],
        &["policies", "history"],
        &["policies", "diff"],
        &["policies", "rollback"],
        &["policies", "forget"],
        &["keys"],
        &["keys", "add"],
        &["keys", "list"],
        &["keys", "revoke"],
        &["completions"],
    ];
    for command in commands {
        let ran = place.run(&[command, &["--help"]].concat()).expect(0);
        let examples =
            ran.out.split("Examples:").nth(1).unwrap_or_else(|| panic!("{command:?}: {}", ran.out));
        let count = examples.lines().filter(|line| line.starts_with("  orchestrator ")).count();
        assert_eq!(count, 2, "{command:?}: {examples}");
    }
}

#[test]
fn the_briefs_examples_are_explained_offline() {
    let place = Place::new();
    for (name, at, channel, confidence) in [
        ("urgent", DAY, "sms", 0.90),
        ("marketing", DAY, "email", 0.95),
        ("quiet_hours", NIGHT, "email", 0.75),
        ("fallback", NIGHT, "sms", 0.75),
        ("appointment", DAY, "sms", 0.95),
    ] {
        let ran = place.run_with(&["--explain", "-", "--at", at, "--json"], &example_of_acme(name)).expect(0);
        let answer = ran.json();
        assert_eq!(answer["channel"], channel, "{name}: {answer:#}");
        assert_eq!(answer["confidence"], confidence, "{name}");
        assert_eq!(answer["explanation"]["channels"].as_array().unwrap().len(), 4, "{name}");
    }
}

#[test]
fn an_explanation_for_people_is_plain_when_piped_and_shows_the_night() {
    let place = Place::new();
    let ran = place
        .run_with(&["--explain", "-", "--at", NIGHT, "--sources"], &example_of_acme("quiet_hours"))
        .expect(0);
    ran.says(&[
        "EMAIL  25 points, confidence 0.75, 0.0006 EUR",
        "acme · policy ",
        "Fri 14 Nov 2025 23:00 Europe/Paris",
        "nothing was sent",
        "-30",
        "would be held until",
        "whatsapp: out (Contact info not available)",
        "sms would win if",
        "criteria/quiet_hours.rhai:",
    ]);
    assert!(!ran.out.contains('\u{1b}'), "colours in a pipe: {:?}", ran.out);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 110), "{}", ran.out);
    let narrow = place
        .command(&["--explain", example("urgent").to_str().unwrap(), "--at", DAY])
        .env("COLUMNS", "50")
        .output()
        .unwrap();
    let narrow = Ran::of(narrow).expect(0);
    // The headline and long sources stay whole; the list is folded.
    assert!(narrow.out.lines().skip(1).all(|line| line.chars().count() <= 50), "{}", narrow.out);
}

#[test]
fn facts_and_variants_can_be_tried() {
    let place = Place::new();
    let mut request: Value = serde_json::from_str(&example_of_acme("urgent")).unwrap();
    request["facts"] = serde_json::json!({ "suppressions": { "sms": "answered STOP" } });
    let ran = place.run_with(&["--explain", "-", "--at", DAY], &request.to_string()).expect(0);
    ran.says(&["EMAIL", "answered STOP"]);
    let file = example("urgent");
    let file = file.to_str().unwrap();
    let ran = place.run(&["--explain", file, "--at", DAY, "--variant", "frugal", "--json"]).expect(0);
    assert_eq!(ran.json()["variant"], "frugal");
    place.run(&["--explain", file, "--variant", "cheap"]).expect(2).says(&["no variant \"cheap\"", "frugal"]);
}

#[test]
fn what_cannot_be_asked_is_usage() {
    let place = Place::new();
    place.run(&[]).expect(2).says(&["nothing was asked", "Usage:"]);
    place.run(&["--explain"]).expect(2).says(&["needs a FILE"]);
    place.run(&["--explain", "no-such.json"]).expect(2).says(&["no-such.json cannot be read"]);
    place.run(&["--at", DAY]).expect(2);
    place.run(&["frobnicate"]).expect(2);
    place
        .run_with(&["--explain", "-", "--at", "noon"], &example_of_acme("urgent"))
        .expect(2)
        .says(&["RFC 3339"]);
    let wrong = example_of_acme("urgent").replace("messageType", "mesageType").replace("urgent", "urgnt");
    place.run_with(&["--explain", "-"], &wrong).expect(2).says(&[
        "/context/mesageType",
        "messageType",
        "/context/priority/level",
    ]);
    place.run_with(&["--explain", "-"], "{").expect(2).says(&["not JSON", "line 1"]);
    place.run(&["check", "nowhere"]).expect(2).says(&["no policies folder nowhere"]);
    let nobody = example_of_acme("urgent").replace("acme", "nobody");
    place.run_with(&["--explain", "-"], &nobody).expect(1).says(&["no tenant nobody", "tenants/nobody.toml"]);
}

#[test]
fn check_passes_what_is_shipped() {
    let place = Place::new();
    place.run(&["check"]).expect(0).says(&[
        "ok acme: version ",
        "ok tenant_123: version ",
        "policies: no errors",
    ]);
    let answer = place.run(&["check", "policies", "--json"]).expect(0).json();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["tenants"].as_array().unwrap().len(), 2);
}

#[test]
fn a_misspelt_key_a_wrong_field_and_an_open_brace_are_shown_with_their_line_and_the_mend() {
    let place = Place::new();
    place.write("policies/tenants/acme.toml", "[weights]\nprefrences = 30\n");
    let ran = place.run(&["check"]).expect(1);
    ran.says(&[
        "tenants/acme.toml:2:1",
        "prefrences = 30",
        "^^^^^^^^^^",
        "did you mean \"preferences\"?",
        "x  acme: 1 error",
    ]);
    ran.says(&["ok tenant_123"]);
    let answer = place.run(&["check", "--json"]).expect(1).json();
    assert_eq!(answer["ok"], false);
    let acme = &answer["tenants"][0];
    assert_eq!(
        (&acme["errors"][0]["line"], &acme["errors"][0]["column"]),
        (&2.into(), &1.into()),
        "{acme:#}"
    );

    let place = Place::new();
    place.edit("criteria/urgency.rhai", "message.priority", "message.urgancy");
    let ran = place.run(&["check"]).expect(1);
    ran.says(&["criteria/urgency.rhai:", "urgancy", "x  acme", "x  tenant_123"]);
    assert_eq!(ran.out.matches("--> criteria/urgency.rhai").count(), 1, "told once: {}", ran.out);

    let place = Place::new();
    place.edit("criteria/cost.rhai", "{", "{ {");
    place.run(&["check"]).expect(1).says(&["criteria/cost.rhai:", "help"]);
}

#[test]
fn test_runs_policy_tests_and_tells_which_reasons_none_gave() {
    let place = Place::new();
    let test = |name: &str, channel: &str| {
        format!(
            "[[test]]\nname = \"{name}\"\ntenant = \"acme\"\nat = \"{DAY}\"\nexpect = {{ channel = \"{channel}\" }}\n\
             [test.context]\nprospectId = \"p\"\nprospectPhone = \"+33612345678\"\n\
             prospectEmail = \"client@example.com\"\nmessageType = \"notification\"\n\
             priority = {{ level = \"urgent\" }}\n[test.content]\nbody = \"x\"\n\n"
        )
    };
    place.write("policies/tests/acme_urgent.toml", &test("urgent goes by SMS", "sms"));
    let ran = place.run(&["test", "--tenant", "acme"]).expect(0);
    ran.says(&[
        "ok   acme  urgent goes by SMS",
        "tests/acme_urgent.toml:1",
        "reasons in the scripts",
        "never given: ",
    ]);
    assert!(!ran.out.contains("never given: criteria/urgency.rhai:8"), "{}", ran.out);

    place.write("policies/tests/acme_wrong.toml", &test("urgent goes by email", "email"));
    let ran = place.run(&["test"]).expect(1);
    ran.says(&["FAIL acme  urgent goes by email", "expected channel email, got sms"]);
    // What was decided instead, as `--explain` shows it.
    ran.says(&["     SMS  ", "SMS best for urgent messages", "     so "]);
    let answer = place.run(&["test", "--tenant", "acme", "--json"]).expect(1).json();
    let failed: Vec<_> =
        answer["tests"].as_array().unwrap().iter().filter(|t| t["passed"] == false).collect();
    assert_eq!(failed.len(), 1, "{answer:#}");
    assert_eq!(failed[0]["decision"]["channel"], "sms");
    assert_eq!(failed[0]["decision"]["explanation"]["channels"].as_array().unwrap().len(), 4);
    place.run(&["test", "--tenant", "nobody"]).expect(2).says(&["tenants/nobody.toml"]);
    // A daemon would not put it in force, and neither is it hidden from who explains.
    let ran = place.run_with(&["--explain", "-", "--at", DAY], &example_of_acme("urgent")).expect(0);
    ran.says(&["SMS", "would not put them in force"]);
}

#[test]
fn schema_reference_and_completions() {
    let place = Place::new();
    let schema = place.run(&["schema"]).expect(0).json();
    assert!(schema["properties"]["weights"].is_object(), "{schema:#}");
    place.run(&["schema", "--reference"]).expect(0).says(&[
        "`priority`",
        "`minutes_to_event`",
        "award(share, reason)",
    ]);
    for shell in ["bash", "zsh", "fish"] {
        place.run(&["completions", shell]).expect(0).says(&["orchestrator", "explain"]);
    }
}

#[test]
fn wrong_settings_are_told_with_their_line_and_end_with_78() {
    let place = Place::new();
    place.write(
        "orchestrator.toml",
        "listn = \"127.0.0.1:80\"\n[drivers.relay]\nkind = \"smtp\"\npassword = \"hunter2\"\n",
    );
    let ran = place.run(&["serve"]).expect(78);
    ran.says(&["orchestrator.toml:1:1", "did you mean `listen`?", "orchestrator.toml:4", "env:VARIABLE"]);
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    place.write("orchestrator.toml", "[drivers.relay]\nkind = \"smtp\"\nhots = \"mail.example.com\"\n");
    place.run(&["serve"]).expect(78).says(&["orchestrator.toml:3", "`hots`", "did you mean `host`?"]);
    place.write("orchestrator.toml", "[drivers.relay]\nkind = \"stmp\"\n");
    place.run(&["serve"]).expect(78).says(&["orchestrator.toml:2", "`stmp`", "did you mean `smtp`?"]);
    let ran = Ran::of(place.command(&["check"]).env("ORCHESTRATOR_POLICES", "x").output().unwrap());
    ran.says(&["did you mean ORCHESTRATOR_POLICIES?"]);
}

#[test]
fn without_a_daemon_the_commands_say_how_to_start_one() {
    let place = Place::new();
    let file = example("urgent");
    let file = file.to_str().unwrap();
    for arguments in
        [&["send", file][..], &["send", file, "--explain"], &["policies"], &["policies", "reload"]]
    {
        place.run(arguments).expect(69).says(&["no daemon answers on", "orchestrator.sock", "serve"]);
    }
    place.run(&["--explain", "--message", "msg_0198c0de000070008000000000000000"]).expect(69);
    place.run(&["--explain", "--message", "nonsense"]).expect(2);
}

#[test]
fn keys_are_shown_once_and_listed_without_themselves() {
    let place = Place::new();
    let ran = place
        .run(&["keys", "add", "acme", "--scope", "read", "--label", "dashboard", "--expires", "90d"])
        .expect(0);
    let key = ran.out.trim().to_owned();
    assert!(key.starts_with("ork_") && key.len() > 60, "{key}");
    ran.says(&["shown once", "may read for acme"]);
    let list = place.run(&["keys", "list"]).expect(0);
    list.says(&["acme", "read", "dashboard", "until "]);
    assert!(!list.out.contains(&key[16..]), "{}", list.out);
    let shown = place.run(&["keys", "list", "--tenant", "acme", "--json"]).expect(0).json();
    let prefix = shown[0]["prefix"].as_str().unwrap().to_owned();
    assert!(key.contains(&prefix));
    place.run(&["keys", "revoke", &prefix]).expect(0).says(&["is revoked"]);
    place.run(&["keys", "revoke", &prefix]).expect(1).says(&["no key in force"]);
    place.run(&["keys", "list"]).expect(0).says(&["revoked "]);
    place.run(&["keys", "add", "../x"]).expect(2).says(&["is not a tenant id"]);
    place.run(&["keys", "add", "acme", "--scope", "everything"]).expect(2);
    place.run(&["keys", "add", "acme", "--expires", "soon"]).expect(2).says(&["90d"]);
}

/// A running daemon, and commands that find its socket by the settings in their folder.
fn running() -> (TempDir, Daemon) {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), "", "");
    daemon.start();
    (dir, daemon)
}

fn in_folder(dir: &TempDir, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    command.args(arguments).current_dir(dir.path()).env_clear().env("HOME", dir.path());
    Ran::of(command.output().unwrap())
}

#[test]
fn send_answers_like_the_briefs_route_message() {
    let (dir, mut daemon) = running();
    for name in ["urgent", "fallback"] {
        fs::write(dir.path().join(format!("{name}.json")), example_of_acme(name)).unwrap();
    }
    in_folder(&dir, &["send", "urgent.json", "--explain"]).expect(0).says(&["SMS", "nothing was sent"]);
    assert!(!dir.path().join("state/outbox").exists(), "explaining sent something");
    in_folder(&dir, &["send", "urgent.json"]).expect(0).says(&["sent by sms  (msg_"]);
    let arguments = ["send", "fallback.json", "--json", "--key", "k-1"];
    let first = in_folder(&dir, &arguments).expect(0);
    assert!(
        first.out.starts_with("{\n  \"success\": true,\n  \"channel\": \"sms\",\n  \"messageId\": "),
        "{}",
        first.out
    );
    let answer = first.json();
    assert_eq!(answer["fallbackAttempted"], true);
    assert_eq!(answer["fallbackChannel"], "email");
    assert_eq!(answer["status"], "sent");
    let again = in_folder(&dir, &["send", "fallback.json", "--key", "k-1"]).expect(0);
    again.says(&["sent by email, after sms refused it", "was used before"]);
    in_folder(&dir, &["send", "urgent.json", "--key", "k-1"]).expect(1).says(&["Idempotency-Key"]);
    let id = answer["messageId"].as_str().unwrap();
    in_folder(&dir, &["--explain", "--message", id]).expect(0).says(&["SMS  25 points", "now sent"]);
    fs::write(
        dir.path().join("nowhere.json"),
        r#"{"context":{"tenantId":"acme","prospectId":"p"},"content":{"body":"x"}}"#,
    )
    .unwrap();
    in_folder(&dir, &["send", "nowhere.json"]).expect(1).says(&["No channel may be used", "email: "]);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert!(!daemon.log().contains("+33612345678"), "an address in the log");
}

#[test]
fn policies_tell_what_is_in_force_and_a_broken_file_why_it_is_not() {
    let (dir, _daemon) = running();
    in_folder(&dir, &["policies"]).expect(0).says(&["ok acme: version", "ok tenant_123: version"]);
    in_folder(&dir, &["policies", "acme"]).expect(0).says(&["urgency", "criteria/urgency.rhai"]);
    in_folder(&dir, &["policies", "nobody"]).expect(1).says(&["nobody"]);
    fs::write(dir.path().join("policies/tenants/acme.toml"), "[weights]\nurgenci = 1\n").unwrap();
    let ran = in_folder(&dir, &["policies", "reload"]).expect(1);
    ran.says(&[
        "acme: change refused",
        "stays in force",
        "tenants/acme.toml:2:1",
        "did you mean \"urgency\"?",
        "ok tenant_123",
    ]);
    in_folder(&dir, &["policies", "acme"]).expect(1).says(&["change refused"]);
    fs::write(dir.path().join("policies/tenants/acme.toml"), "[weights]\nurgency = 1\n").unwrap();
    in_folder(&dir, &["policies", "reload"]).expect(0).says(&["ok acme: version"]);
    // Keys are made beside the running daemon.
    in_folder(&dir, &["keys", "add", "acme"]).expect(0).says(&["ork_"]);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let (dir, _daemon) = running();
    in_folder(&dir, &["serve"]).expect(75).says(&["another"]);
}

/// Does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_first_start_without_anything_writes_policies_and_names_commands_that_work() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    command
        .args(["serve", "--state-dir"])
        .arg(&state)
        .current_dir(dir.path())
        .env_clear()
        .env("HOME", dir.path());
    let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.0.stdout.take().unwrap()));
    let mut said = String::new();
    while !said.contains("policies tenant_123") {
        said.push_str(&lines.next().expect("the daemon ended").unwrap());
        said.push('\n');
    }
    for words in ["SANDBOX", "there were none: the shipped ones were written", "ok tenant_123", "Try next"] {
        assert!(said.contains(words), "no {words:?} in {said}");
    }
    let commands: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("Try next")).skip(1).collect();
    assert_eq!(commands.len(), 3, "{said}");
    for line in commands {
        let ran = Command::new("sh")
            .args(["-c", line])
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path())
            .output()
            .unwrap();
        let ran = Ran::of(ran).expect(0);
        assert!(!ran.out.is_empty(), "{line}");
    }
}
