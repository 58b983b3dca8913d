//! Policy tests: a request at an instant, and what an admin expects of it. Run at every load.
//!
//! A failing test keeps a tenant's change from going live, for the tenant that it names and no other. A test
//! has its own clock (`at`) and its own facts; it never sends anything and never asks the store.

use chrono::{DateTime, NaiveTime, Utc};

use crate::{
    domain::{channel::Channel, ids::TenantId},
    policy::diagnostic::Diagnostic,
    request::Asked,
};

mod parse;
mod run;

pub use parse::parse_file;
pub use run::{Outcome, TestDecision, run};

/// The instant of a test that names none: a Wednesday at midday UTC, no holiday anywhere in sight.
pub const DEFAULT_AT: &str = "2025-01-15T12:00:00Z";

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    pub name: String,
    pub tenant: TenantId,
    /// Relative to the policies folder.
    pub file: String,
    /// Of its `[[test]]`, from 1.
    pub line: usize,
    /// That line, as it stands.
    excerpt: String,
    asked: Asked,
    at: DateTime<Utc>,
    expect: Expectation,
}

impl PolicyTest {
    /// The first of `count` tests that name a tenant which has no file: told, and held against nobody.
    pub fn of_nobody(&self, count: usize) -> Diagnostic {
        let (name, tenant) = (&self.name, &self.tenant);
        let who = match count {
            1 => format!("test {name:?} names"),
            _ => format!("{count} tests, {name:?} the first of them, name"),
        };
        let told = format!("{who} {tenant}, which has no tenants/{tenant}.toml: nothing is tested");
        let hint = format!("put tenants/{tenant}.toml back (it may be empty), or take the tests out");
        let fault = self.fault("no-such-tenant", told).hint(hint);
        Diagnostic { severity: crate::policy::diagnostic::Severity::Warning, ..fault }
    }

    /// A fault that points at this test.
    fn fault(&self, code: &str, message: impl Into<String>) -> Diagnostic {
        let mut fault = Diagnostic::error(code, &self.file, message);
        fault.line = Some(self.line);
        fault.column = Some(1);
        fault.length = Some(self.excerpt.chars().count().max(1));
        fault.excerpt = Some(self.excerpt.clone());
        fault
    }
}

/// What a test says must come out; what it leaves out may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
struct Expectation {
    /// `Some(None)`: no channel is left (`channel = "none"`).
    channel: Option<Option<Channel>>,
    alternatives: Option<Vec<Channel>>,
    excluded: Vec<Channel>,
    /// Of the chosen channel, or of one that is named.
    held: Vec<(Option<Channel>, Held)>,
    confidence: Option<f64>,
    /// Each must be part of the chosen channel's reason.
    reasons: Vec<String>,
}

/// What a test says of a hold.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    /// Held at all, or not.
    Is(bool),
    /// Until this instant.
    Until(DateTime<Utc>),
    /// Until this local time of day, in the zone that the decision was made in.
    UntilTime(NaiveTime),
}

/// A file of `tests/`, read.
#[derive(Clone, Debug, Default)]
pub struct TestFile {
    pub tests: Vec<PolicyTest>,
    /// What is wrong in it; with the tenant that the faulty test names, where it names one.
    pub faults: Vec<(Option<TenantId>, Diagnostic)>,
    /// Every tenant that the file names: their versions cover it.
    pub tenants: Vec<TenantId>,
}

#[cfg(test)]
mod tests;
