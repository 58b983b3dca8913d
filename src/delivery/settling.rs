//! An attempt whose outcome is unknown: its provider is asked three times, and then the policy decides
//! (reliability.md P4, 5.2).
//!
//! One question at a time, never a resend before the last one is answered. What the provider shows is adopted only
//! where no other attempt owns it.

use std::{sync::Arc, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use super::{
    lanes::Place,
    machine::{Standing, after_evidence, after_poll, after_settle_window},
    worker::Worker,
    writing::{Write, Written},
};
use crate::{
    channels::{Found, LookUp},
    domain::delivery::{Attempt, AttemptStatus, Next, Outcome},
    failpoint,
    store::{Claimed, Result},
};

/// The longest that a look-up may take: one call of the driver's own, and a little.
const LOOK_UP_MAX: Duration = Duration::from_secs(60);

impl Worker {
    /// What becomes of a message whose last attempt ended unknown.
    pub(super) async fn settle_unknown(&self, claimed: &Claimed, place: &Place) -> Result<()> {
        failpoint::hit("recon.start");
        let standing = Standing::of(claimed);
        let Some(last) = &claimed.last_attempt else {
            return self.advance(claimed, &after_settle_window(&standing, self.clock.now())).await;
        };
        if last.status != AttemptStatus::Unknown {
            let next = after_evidence(&standing, last, self.clock.now(), (self.jitter)());
            return self.advance(claimed, &next).await;
        }
        failpoint::hit("recon.query");
        let why = match self.look_up(claimed, last, place).await {
            Found::Accepted { provider_message_id, cost } => {
                failpoint::hit("recon.found");
                let outcome = Outcome::Accepted { provider_message_id: Some(provider_message_id), cost };
                let (next, now) = (Next::Sent, self.clock.now());
                let write = Write::Settle { attempt: last.id, outcome: &outcome, next: &next, now };
                if self.until_written(claimed, write).await? != Written::IdTaken {
                    tracing::info!(message_id = %claimed.id, driver = %last.driver, "found at its provider");
                    return Ok(());
                }
                let what = "the provider shows an id that belongs to another attempt: it is not adopted";
                tracing::error!(message_id = %claimed.id, what, "an answer that cannot be");
                "the provider's list shows another message".to_owned()
            }
            Found::Absent => {
                failpoint::hit("recon.absent");
                "the provider's list does not show it".to_owned()
            }
            Found::CannotTell(why) => why,
        };
        let (ended, now) = (last.finished_at.unwrap_or(last.started_at), self.clock.now());
        let next = after_poll(&standing, ended, claimed.polls.saturating_add(1), &why, now);
        self.advance(claimed, &next).await
    }

    /// Asks the driver that made the attempt.
    async fn look_up(&self, claimed: &Claimed, last: &Attempt, place: &Place) -> Found {
        let Some(driver) = self.drivers.get(&last.driver).map(Arc::clone) else {
            return Found::CannotTell(format!("driver {} is not there any more", last.driver));
        };
        let Some(hop) = claimed.plan.hops.get(usize::from(last.hop)) else {
            return Found::CannotTell("its plan has no such hop".into());
        };
        let mut outbound = Self::outbound(claimed, hop, last.id, last.number);
        if self.dress(claimed, driver.name(), &mut outbound).await.is_err() {
            return Found::CannotTell("what was sent cannot be made out now".into());
        }
        let (started_at, ended_at) = (last.started_at, last.finished_at.unwrap_or(last.started_at));
        let (asked, credential) = (LookUp { outbound, started_at, ended_at }, driver.credential().to_owned());
        let task = AbortOnDropHandle::new(tokio::spawn(async move { driver.look_up(&asked).await }));
        let found = tokio::time::timeout(LOOK_UP_MAX, task);
        match self.unless_it_hangs(&credential, place, found).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Found::CannotTell("the driver failed in itself while it asked".into()),
            Err(_) => Found::CannotTell("the provider did not answer in time".into()),
        }
    }
}
