//! Namespaces of a daemon's own: mounts and limits in them change nothing outside.
//!
//! Where the system has no such namespaces whoever asks says so and is passed over; a missing tool fails where every
//! test is to be run.

use std::process::Command;

/// Runs the rest of the arguments after a script; `$1` is what it begins with.
pub const SCRIPT: [&str; 3] = ["sh", "-euc", "eval \"$1\"; shift; exec \"$@\""];

/// `unshare` with what this user needs for it; none: not to be had here.
pub fn unshare(test: &str, namespaces: &[&'static str]) -> Option<Vec<&'static str>> {
    let mut wrapper = vec!["unshare"];
    wrapper.extend_from_slice(namespaces);
    if !rustix::process::geteuid().is_root() && !namespaces.contains(&"--user") {
        wrapper.extend(["--user", "--map-root-user"]);
    }
    let tried = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output();
    let words = wrapper.join(" ");
    match tried {
        Ok(output) if output.status.success() => return Some(wrapper),
        Ok(output) => not_run(test, &format!("{words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => {
            // A tool can be installed, and fails where everything is to be run; a right cannot.
            let all = std::env::var("ORCHESTRATOR_TEST_REQUIRE_ALL").is_ok_and(|v| v == "1");
            assert!(!all, "{test} cannot be run, but every test is to be run: {words}: {error}");
            not_run(test, &format!("{words}: {error}"));
        }
    }
    None
}

/// Says what the machine does not allow.
pub fn not_run(test: &str, why: &str) {
    println!("{test}: not run: {why}");
}

/// The words that run a daemon in namespaces of its own, after a script.
pub fn under<'a>(wrapper: &[&'a str], script: &'a str) -> Vec<&'a str> {
    wrapper.iter().copied().chain(SCRIPT).chain(["sh", script]).collect()
}
