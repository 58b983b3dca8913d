//! What is counted, as OpenMetrics: seconds and whole numbers, labels from closed sets.
//!
//! No label holds anything about a person, and none is as large as the world: tenants beyond the first 200 are
//! counted together as `other`. Counting never fails and never blocks for long.

use std::{
    fmt::Write,
    sync::{OnceLock, atomic::Ordering},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::tenants::Tenants;
use crate::{
    bundles::{
        counters::{Cause, ReloadCounts},
        status::Summary,
    },
    channels::health::Shut,
    domain::{
        channel::Channel,
        decision::Decision,
        delivery::{AttemptStatus, Status},
        ids::{CriterionName, TenantId},
    },
    store::Untold,
};

/// The route that is asked most.
const DECISIONS: &str = "/v1/decisions";
/// From a decision in process to a message that waits for its outcome.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// A decision alone: microseconds to milliseconds.
const DECISION_SECONDS: [f64; 9] = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2];

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabels {
    tenant: String,
    channel: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MessageLabels {
    tenant: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BudgetLabels {
    tenant: String,
    scope: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    channel: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ScriptLabels {
    tenant: String,
    criterion: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HttpLabels {
    method: String,
    path: String,
    status: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PathLabels {
    path: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

/// The credential is by the operator's own name for it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CredentialLabels {
    credential: String,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallbackLabels {
    driver: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EngagementLabels {
    event: &'static str,
    by: &'static str,
}

/// What became of a provider's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackResult {
    Taken,
    Challenge,
    NotVerified,
    Unreadable,
    /// Too large, too slow or cut off.
    Refused,
    /// No such driver or tenant.
    Unknown,
    /// Could not be kept: its provider repeats it.
    Unavailable,
    /// No room.
    Shed,
}

impl CallbackResult {
    const fn as_str(self) -> &'static str {
        match self {
            CallbackResult::Taken => "taken",
            CallbackResult::Challenge => "challenge",
            CallbackResult::NotVerified => "not_verified",
            CallbackResult::Unreadable => "unreadable",
            CallbackResult::Refused => "refused",
            CallbackResult::Unknown => "unknown",
            CallbackResult::Unavailable => "unavailable",
            CallbackResult::Shed => "shed",
        }
    }
}

/// Everything that is counted. One to a daemon, so that tests in one process stay apart.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    tenants: Tenants,
    decisions: Family<DecisionLabels, Counter>,
    decision_seconds: Histogram,
    accepted: Family<MessageLabels, Counter>,
    outcomes: Family<MessageLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    budget_alerts: Family<BudgetLabels, Counter>,
    script_failures: Family<ScriptLabels, Counter>,
    scripts_differing: Counter,
    http: Family<HttpLabels, Counter>,
    http_seconds: Seconds<PathLabels>,
    /// Those of the route that is asked most, found once.
    decisions_answered: OnceLock<(Counter, Histogram)>,
    messages: Family<StatusLabels, Gauge>,
    reloads: Family<ResultLabels, Counter>,
    generation: Gauge,
    tenants_rejected: Gauge,
    looks: Family<CauseLabels, Counter>,
    last_reload: Gauge,
    callbacks: Family<CallbackLabels, Counter>,
    engagements: Family<EngagementLabels, Counter>,
    possible_duplicates: Counter,
    ids_taken: Counter,
    credentials_shut: Family<CredentialLabels, Gauge>,
    status_webhooks: Family<StatusLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("orchestrator"),
            tenants: Tenants::default(),
            decisions_answered: OnceLock::new(),
            decisions: Family::default(),
            decision_seconds: Histogram::new(DECISION_SECONDS),
            accepted: Family::default(),
            outcomes: Family::default(),
            attempts: Family::default(),
            budget_alerts: Family::default(),
            script_failures: Family::default(),
            scripts_differing: Counter::default(),
            http: Family::default(),
            http_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            messages: Family::default(),
            reloads: Family::default(),
            generation: Gauge::default(),
            tenants_rejected: Gauge::default(),
            looks: Family::default(),
            last_reload: Gauge::default(),
            callbacks: Family::default(),
            engagements: Family::default(),
            possible_duplicates: Counter::default(),
            ids_taken: Counter::default(),
            credentials_shut: Family::default(),
            status_webhooks: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("decisions", "Decisions, by tenant and chosen channel", self.decisions.clone());
        registry.register_with_unit(
            "decision",
            "How long deciding took, facts not counted",
            Unit::Seconds,
            self.decision_seconds.clone(),
        );
        registry.register("messages_accepted", "Messages kept, by first status", self.accepted.clone());
        registry.register("message_outcomes", "Messages that came to an end", self.outcomes.clone());
        registry.register("attempts", "Calls to providers, by outcome", self.attempts.clone());
        registry.register(
            "budget_alerts",
            "Budgets that came to their alert threshold",
            self.budget_alerts.clone(),
        );
        registry.register(
            "script_failures",
            "Criteria that failed and counted as neutral",
            self.script_failures.clone(),
        );
        let differing = "Scripts that run interpreted because their compiled form differed: bugs of ours";
        registry.register("scripts_differing", differing, self.scripts_differing.clone());
        registry.register("http_requests", "Requests, by route and status", self.http.clone());
        registry.register_with_unit(
            "http_request",
            "How long requests took, waits for outcomes included",
            Unit::Seconds,
            self.http_seconds.clone(),
        );
        registry.register("messages", "Messages that have each status now", self.messages.clone());
        registry.register(
            "status_webhooks",
            "Events that tenants' own webhooks have not taken yet (waiting) or will not be told any more (given_up)",
            self.status_webhooks.clone(),
        );
        registry.register("policy_reloads", "Reloads of the policies folder", self.reloads.clone());
        registry.register("policy_generation", "Swaps of policies since the start", self.generation.clone());
        registry.register(
            "policy_tenants_rejected",
            "Tenants whose files are not in force as they stand",
            self.tenants_rejected.clone(),
        );
        registry.register("policy_looks", "Looks at the policies folder, by cause", self.looks.clone());
        registry.register_with_unit(
            "policy_last_success_timestamp",
            "When every tenant's files were last found in force",
            Unit::Seconds,
            self.last_reload.clone(),
        );
        registry.register(
            "possible_duplicates",
            "Unknown outcomes that were resent once",
            self.possible_duplicates.clone(),
        );
        registry.register(
            "provider_ids_taken",
            "Answers with an id that belongs to another attempt, not believed",
            self.ids_taken.clone(),
        );
        registry.register(
            "credentials_shut",
            "Credentials that are not used now, by cause",
            self.credentials_shut.clone(),
        );
        registry.register("callbacks", "Calls by providers, by what became of them", self.callbacks.clone());
        registry.register(
            "engagements",
            "Opens, clicks and unsubscriptions on the public listener, by persons and machines",
            self.engagements.clone(),
        );
    }

    /// A provider called. `driver` is one of the operator's names.
    pub fn callback(&self, driver: &str, result: CallbackResult) {
        let labels = CallbackLabels { driver: driver.to_owned(), result: result.as_str() };
        self.callbacks.get_or_create(&labels).inc();
    }

    /// Someone opened a mail or followed a link of one.
    pub fn engaged(&self, event: &'static str, machine: bool) {
        let by = if machine { "machine" } else { "person" };
        self.engagements.get_or_create(&EngagementLabels { event, by }).inc();
    }

    fn tenant(&self, tenant: &TenantId) -> String {
        self.tenants.of(tenant, |counts| counts.label.clone())
    }

    /// Counts a decision, and the criteria that failed in it.
    pub fn decided(&self, decision: &Decision, took: Option<Duration>) {
        self.chosen(&decision.tenant, decision.chosen, took);
        let criteria = decision.channels.iter().flat_map(|c| &c.criteria);
        self.failed(&decision.tenant, criteria.filter(|c| c.error.is_some()).map(|c| &c.criterion));
    }

    /// Counts a decision.
    pub fn chosen(&self, tenant: &TenantId, chosen: Option<Channel>, took: Option<Duration>) {
        self.tenants.of(tenant, |counts| {
            let counter = &counts.decisions[chosen.map_or(Channel::ALL.len(), Channel::index)];
            let labels = || DecisionLabels {
                tenant: counts.label.clone(),
                channel: chosen.map_or("none", Channel::as_str),
            };
            counter.get_or_init(|| self.decisions.get_or_create_owned(&labels())).inc();
        });
        if let Some(took) = took {
            self.decision_seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts the criteria that failed in one decision, each once.
    pub fn failed<'c>(&self, tenant: &TenantId, criteria: impl Iterator<Item = &'c CriterionName>) {
        // Mostly there are none, and no list of them is made.
        let mut failed = Vec::new();
        for criterion in criteria {
            if failed.contains(&criterion) {
                continue;
            }
            failed.push(criterion);
            let labels = ScriptLabels { tenant: self.tenant(tenant), criterion: criterion.to_string() };
            self.script_failures.get_or_create(&labels).inc();
        }
    }

    /// A message was kept for the first time.
    pub fn accepted(&self, tenant: &TenantId, status: Status) {
        let tenant = self.tenant(tenant);
        self.accepted.get_or_create(&MessageLabels { tenant, status: status.as_str() }).inc();
    }

    /// A message came to an end, or was handed off.
    pub fn outcome(&self, tenant: &TenantId, status: Status) {
        let tenant = self.tenant(tenant);
        self.outcomes.get_or_create(&MessageLabels { tenant, status: status.as_str() }).inc();
    }

    /// A provider was asked.
    pub fn attempted(&self, channel: Channel, status: AttemptStatus) {
        let labels = AttemptLabels { channel: channel.as_str(), status: status.as_str() };
        self.attempts.get_or_create(&labels).inc();
    }

    /// A budget came to its alert threshold.
    pub fn budget_alert(&self, tenant: &TenantId, scope: &str) {
        let labels = BudgetLabels { tenant: self.tenant(tenant), scope: scope.to_owned() };
        self.budget_alerts.get_or_create(&labels).inc();
    }

    /// An outcome stayed unknown, and the message goes once more.
    pub fn possible_duplicate(&self) {
        self.possible_duplicates.inc();
    }

    /// A provider gave an id that belongs to another attempt.
    pub fn id_taken(&self) {
        self.ids_taken.inc();
    }

    /// Which credentials are shut now: set when it is asked for.
    pub fn set_credentials(&self, shut: &[Shut]) {
        self.credentials_shut.clear();
        for closed in shut {
            let labels =
                CredentialLabels { credential: closed.credential.clone(), cause: closed.cause.as_str() };
            self.credentials_shut.get_or_create(&labels).set(1);
        }
    }

    /// What tenants' webhooks have not taken: set when it is asked for.
    pub fn set_status_webhooks(&self, untold: Untold) {
        for (status, count) in [("waiting", untold.waiting), ("given_up", untold.given_up)] {
            let gauge = self.status_webhooks.get_or_create(&StatusLabels { status });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A request was answered. `path` is the route's pattern.
    pub fn http(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        if path == DECISIONS && status == StatusCode::OK && *method == Method::POST {
            let (counter, seconds) =
                self.decisions_answered.get_or_init(|| self.route(method.as_str(), path, status));
            counter.inc();
            seconds.observe(took.as_secs_f64());
            return;
        }
        // A method may be any token: only those that some route takes are told apart.
        let method = match method {
            &Method::GET | &Method::POST | &Method::PUT | &Method::DELETE | &Method::HEAD => method.as_str(),
            _ => "other",
        };
        let (counter, seconds) = self.route(method, path, status);
        counter.inc();
        seconds.observe(took.as_secs_f64());
    }

    fn route(&self, method: &str, path: &str, status: StatusCode) -> (Counter, Histogram) {
        let (method, path) = (method.to_owned(), path.to_owned());
        let seconds = self.http_seconds.get_or_create_owned(&PathLabels { path: path.clone() });
        let labels = HttpLabels { method, path, status: status.as_u16().into() };
        (self.http.get_or_create_owned(&labels), seconds)
    }

    /// What is in force and how reloading went: set when it is asked for.
    pub fn set_policies(&self, status: &Summary, counts: &ReloadCounts) {
        self.generation.set(i64::try_from(status.generation).unwrap_or(i64::MAX));
        self.tenants_rejected.set(i64::try_from(status.not_in_force).unwrap_or(i64::MAX));
        self.last_reload.set(counts.last_success.map_or(0, |at| at.timestamp()));
        let results =
            [("applied", counts.applied), ("rejected", counts.rejected), ("unchanged", counts.unchanged)];
        for (result, count) in results {
            self.reloads.get_or_create(&ResultLabels { result }).inner().store(count, Ordering::Relaxed);
        }
        for (cause, count) in Cause::ALL.into_iter().zip(counts.looks) {
            let labels = CauseLabels { cause: cause.as_str() };
            self.looks.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
    }

    /// How many scripts' compiled forms differed since the start: set when it is asked for.
    pub fn set_scripts_differing(&self, count: u64) {
        self.scripts_differing.inner().store(count, Ordering::Relaxed);
    }

    /// How many messages have each status; those that none has are 0.
    pub fn set_messages(&self, counts: &[(Status, u64)]) {
        for status in Status::ALL {
            let count = counts.iter().find(|(s, _)| *s == status).map_or(0, |(_, count)| *count);
            let labels = StatusLabels { status: status.as_str() };
            self.messages.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// OpenMetrics text. With `only`, other tenants' lines are left out.
    pub fn text(&self, only: Option<&TenantId>) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return "# EOF\n".to_owned();
        }
        let Some(only) = only else { return text };
        let own = format!("tenant=\"{only}\"");
        text.lines().filter(|line| !line.contains("tenant=\"") || line.contains(&own)).fold(
            String::new(),
            |mut kept, line| {
                // Writing to a string cannot fail.
                let _ = writeln!(kept, "{line}");
                kept
            },
        )
    }
}

#[cfg(test)]
mod tests;
