//! Where each tenant stands: which bundle is in force, and why its files are not.
//!
//! The rules of what replaces what, and nothing else: no file is read here, nothing compiled, nothing logged.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    loader::Judgement,
    status::{
        ActiveBundle, ActiveCriterion, BundleSource, CandidateState, RejectedBundle, TenantStatus, TestTally,
    },
};
use crate::{
    domain::ids::TenantId,
    policy::{assemble::BundleSources, bundle::Bundle, diagnostic::Diagnostic},
};

/// One tenant.
#[derive(Debug, Default)]
pub struct Standing {
    pub active: Option<Active>,
    pub candidate: Option<RejectedBundle>,
    /// The files as they were judged last; none: there is no file.
    pub judgement: Option<Arc<Judgement>>,
    /// An operator put an earlier version back: the files stay out as long as they have this hash.
    pub pinned: Option<String>,
}

/// A bundle in force.
#[derive(Clone, Debug)]
pub struct Active {
    pub bundle: Arc<Bundle>,
    pub since: DateTime<Utc>,
    pub source: BundleSource,
    pub tally: TestTally,
    pub warnings: Vec<Diagnostic>,
    pub sources: BundleSources,
}

/// What a judgement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Another bundle is in force.
    InForce,
    /// The files are in force again; their bundle is the one that was.
    Mended,
    /// The files have faults: what was in force stays.
    Refused,
    /// The tenant's file is gone: what was in force stays.
    Vanished,
}

impl Standing {
    /// Takes the judgement of a tenant's files.
    pub fn judged(&mut self, judgement: &Arc<Judgement>, now: DateTime<Utc>) -> Change {
        self.judgement = Some(Arc::clone(judgement));
        if self.pinned.as_ref() == Some(&judgement.source_hash) {
            self.candidate = None;
            return Change::Nothing;
        }
        let Some(bundle) = judgement.accepted() else {
            return self.refused(CandidateState::Rejected, judgement.errors.clone(), now);
        };
        self.pinned = None;
        let was_out = self.candidate.take().is_some();
        let fresh = Active {
            bundle: Arc::clone(bundle),
            since: now,
            source: BundleSource::Files,
            tally: judgement.tally(),
            warnings: judgement.warnings.clone(),
            sources: judgement.sources.clone(),
        };
        match &mut self.active {
            // The same policy judged anew (its tests, its environment): the bundle and its age stay.
            Some(active) if active.bundle.version() == bundle.version() => {
                let mended = was_out || active.source != BundleSource::Files;
                let (bundle, since) = (Arc::clone(&active.bundle), active.since);
                *active = Active { bundle, since, ..fresh };
                if mended { Change::Mended } else { Change::Nothing }
            }
            _ => {
                self.active = Some(fresh);
                Change::InForce
            }
        }
    }

    /// Takes that the tenant's file is gone. What was never good is dropped by the caller.
    pub fn vanished(&mut self, tenant: &TenantId, now: DateTime<Utc>) -> Change {
        self.judgement = None;
        let file = format!("tenants/{tenant}.toml");
        let fault = Diagnostic::error(
            "tenant-vanished",
            &file,
            "the file is gone; the last good policy stays in use",
        )
        .hint(format!("put the file back, or drop the tenant with: orchestrator policies forget {tenant}"));
        self.refused(CandidateState::Vanished, vec![fault], now)
    }

    /// Takes that nothing can be known of the files: the folder cannot be read.
    pub fn unreadable(&mut self, fault: &Diagnostic, now: DateTime<Utc>) -> Change {
        self.refused(CandidateState::Rejected, vec![fault.clone()], now)
    }

    fn refused(&mut self, state: CandidateState, errors: Vec<Diagnostic>, now: DateTime<Utc>) -> Change {
        if let Some(active) = &mut self.active
            && active.source == BundleSource::Files
        {
            active.source = BundleSource::LastGood;
        }
        if self.candidate.as_ref().is_some_and(|known| known.state == state && known.errors == errors) {
            return Change::Nothing;
        }
        let rejected = state == CandidateState::Rejected;
        self.candidate = Some(RejectedBundle { state, first_seen: now, errors });
        if rejected { Change::Refused } else { Change::Vanished }
    }

    /// Whether the files are in force as they stand.
    pub fn ok(&self) -> bool {
        self.active.is_some() && self.candidate.is_none()
    }

    pub fn status(&self, tenant: &TenantId) -> TenantStatus {
        TenantStatus {
            tenant: tenant.to_string(),
            active: self.active.as_ref().map(Active::status),
            candidate: self.candidate.clone(),
            warnings: self.active.as_ref().map(|active| active.warnings.clone()).unwrap_or_default(),
        }
    }
}

impl Active {
    fn status(&self) -> ActiveBundle {
        let bundle = &self.bundle;
        let criteria =
            bundle.criteria().iter().zip(bundle.weights(None)).map(|(criterion, weight)| ActiveCriterion {
                name: criterion.name().to_string(),
                weight: *weight,
                file: criterion.file().to_owned(),
            });
        let policy = bundle.policy();
        let mut variants: Vec<String> =
            policy.variants.keys().cloned().chain(policy.split.iter().map(|(arm, _)| arm.clone())).collect();
        variants.sort_unstable();
        variants.dedup();
        ActiveBundle {
            version: bundle.version().to_string(),
            since: self.since,
            source: self.source,
            tests: self.tally,
            criteria: criteria.collect(),
            variants,
        }
    }
}
