//! The variables that the daemon reads, and what is said of those that it does not know.
//!
//! A copy is taken once, so that nothing else reads the environment; an empty value counts as unset.

use std::{collections::BTreeMap, path::PathBuf};

use crate::policy::{
    assemble::PolicyEnvironment,
    diagnostic::{Diagnostic, nearest},
};

/// Settings of the daemon itself.
const DAEMON: &[&str] = &[
    "ORCHESTRATOR_CONFIG",
    "ORCHESTRATOR_STATE_DIR",
    "ORCHESTRATOR_POLICIES",
    "ORCHESTRATOR_SOCKET",
    "ORCHESTRATOR_LISTEN",
    "ORCHESTRATOR_ALLOWED_HOSTS",
    "ORCHESTRATOR_PUBLIC_LISTEN",
    "ORCHESTRATOR_PUBLIC_URL",
    "ORCHESTRATOR_DATABASE",
];

/// Defaults beneath the tenants' files (spec.md section 13).
const POLICY: &[&str] = &[
    "ORCHESTRATOR_DEFAULT_PRIORITY",
    "ORCHESTRATOR_QUIET_HOURS_START",
    "ORCHESTRATOR_QUIET_HOURS_END",
    "ORCHESTRATOR_ENABLE_FALLBACK",
    "ORCHESTRATOR_MAX_FALLBACK_ATTEMPTS",
    "ORCHESTRATOR_MAX_COST_PER_MESSAGE",
    "ORCHESTRATOR_BUDGET_ALERT_THRESHOLD",
    "ORCHESTRATOR_ENABLE_ANALYTICS",
    "ORCHESTRATOR_TRACK_ENGAGEMENT",
];

const PREFIX: &str = "ORCHESTRATOR_";

/// The environment as it was when the process started.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own. What is not Unicode is left out: no setting of ours can hold it.
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(std::env::vars_os().filter_map(text))
    }

    /// These variables; empty values are left out.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }

    /// The variables that lie between default.toml and the tenants' files, in the order of spec.md.
    pub fn policy(&self) -> PolicyEnvironment {
        let set = |name: &&str| Some(((*name).to_owned(), self.text(name)?));
        PolicyEnvironment(POLICY.iter().filter_map(set).collect())
    }

    /// Remarks on `ORCHESTRATOR_*` variables that nobody reads. `referenced` are those that drivers name as
    /// `env:NAME`.
    pub fn check(&self, referenced: &[String], faults: &mut Vec<Diagnostic>) {
        for name in self.0.keys().filter(|name| name.starts_with(PREFIX)) {
            let known = DAEMON.iter().chain(POLICY).any(|known| known == name);
            if known || referenced.iter().any(|reference| reference == name) {
                continue;
            }
            let warning = Diagnostic::warning(
                "unknown-variable",
                "environment",
                format!("{name} is not a variable that the orchestrator reads"),
            );
            let lower: Vec<String> = DAEMON.iter().chain(POLICY).map(|n| n.to_lowercase()).collect();
            let meant = nearest(name, lower.iter().map(String::as_str));
            faults.push(match meant {
                Some(meant) => warning.hint(format!("did you mean {}?", meant.to_uppercase())),
                None => warning,
            });
        }
    }
}
