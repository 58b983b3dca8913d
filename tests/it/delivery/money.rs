//! What the policy in force says right before an attempt: budgets, prices, caps, consent, pauses.

use std::sync::{Arc, Mutex};

use channel_orchestrator::{
    delivery::terms::{AttemptTerms, Terms},
    domain::{
        channel::Channel,
        delivery::{Hop, NewMessage, Status},
        message::Origin,
        money::MicroEuros,
    },
    store::{Claimed, IntentLimits, PersonCap},
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{Desk, plain, scripted::Scripted};
use crate::store::fixture::{SMS_COST, at, message};

/// Terms that a test sets.
#[derive(Default)]
struct Told(Mutex<AttemptTerms>);

impl Terms for Told {
    fn of(&self, _claimed: &Claimed, hop: &Hop, now: DateTime<Utc>) -> AttemptTerms {
        let mut terms = self.0.lock().unwrap().clone();
        // Only SMS cost anything here.
        if hop.channel != Channel::Sms {
            terms.limits = IntentLimits { caps: terms.limits.caps, ..IntentLimits::default() };
        }
        for cap in &mut terms.limits.caps {
            cap.since = now - TimeDelta::days(1);
        }
        terms
    }
}

async fn desk(terms: AttemptTerms) -> (Desk, Arc<Scripted>, Arc<Told>) {
    let driver = Scripted::new("t", []);
    let mut desk = Desk::new(driver.clone()).await;
    let told = Arc::new(Told(Mutex::new(terms)));
    desk.worker.terms = Some(told.clone());
    (desk, driver, told)
}

fn daily(limit: i64) -> AttemptTerms {
    let limits = IntentLimits { daily: Some(MicroEuros(limit)), ..IntentLimits::default() };
    AttemptTerms { limits, ..AttemptTerms::default() }
}

/// I14: however many intents come at once, they stay within the budget; the rest goes by email.
#[tokio::test]
async fn concurrent_intents_do_not_overshoot_a_budget() {
    let (desk, driver, _) = desk(daily(3 * SMS_COST.0 + 1)).await;
    let new: Vec<NewMessage> = (0..20).map(|_| plain(message())).collect();
    for message in &new {
        desk.accept(message).await;
    }
    desk.work_at(0).await;
    let by_sms = driver.sent().iter().filter(|(channel, _)| *channel == Channel::Sms).count();
    assert_eq!((by_sms, driver.sent().len()), (3, 20));
    let record = desk.record(&new[19]).await;
    let fallback = record.timeline.iter().find(|event| event.event == "fallback").unwrap();
    let words = "daily budget used up: 0.15 of 0.150001 EUR spent, this message costs 0.05";
    assert_eq!(fallback.detail.as_deref(), Some(words));
    desk.end().await;
}

#[tokio::test]
async fn a_used_up_budget_is_waited_for_where_the_policy_says_so() {
    let (desk, driver, _) = desk(AttemptTerms { waits_at_limit: true, ..daily(SMS_COST.0) }).await;
    let new = [plain(message()), plain(message())];
    for message in &new {
        desk.accept(message).await;
    }
    desk.work_at(0).await;
    let held = desk.record(&new[1]).await;
    // Ten in the morning in Paris: the next day begins in fourteen hours.
    assert_eq!((held.status, held.due_at), (Status::Held, Some(at(14 * 3600))));
    desk.work_at(14 * 3600).await;
    assert_eq!(desk.record(&new[1]).await.sent_via, Some(Channel::Sms));
    assert_eq!(driver.sent().len(), 2);
    desk.end().await;
}

/// What one origin spends is no concern of another's budget.
#[tokio::test]
async fn a_flood_through_one_origin_leaves_the_others_their_money() {
    let limits = IntentLimits { origin_daily: Some(SMS_COST), ..IntentLimits::default() };
    let (desk, driver, _) = desk(AttemptTerms { limits, ..AttemptTerms::default() }).await;
    for _ in 0..5 {
        let mut new = plain(message());
        new.request.origin = Origin::Public;
        desk.accept(&new).await;
    }
    let reminder = plain(message());
    desk.accept(&reminder).await;
    desk.work_at(0).await;
    assert_eq!(desk.record(&reminder).await.sent_via, Some(Channel::Sms));
    assert_eq!(driver.sent().iter().filter(|(channel, _)| *channel == Channel::Sms).count(), 2);
    desk.end().await;
}

#[tokio::test]
async fn the_cap_of_a_channel_and_the_price_of_a_message_are_gates() {
    for (limits, reason) in [
        (
            IntentLimits { channel_daily: Some(MicroEuros(49_999)), ..IntentLimits::default() },
            "daily cap of the channel used up: 0.00 of 0.049999 EUR spent, this message costs 0.05",
        ),
        (
            IntentLimits { message_max: Some(MicroEuros(49_999)), ..IntentLimits::default() },
            "0.05 EUR, limit 0.049999",
        ),
        (
            IntentLimits { monthly: Some(MicroEuros(49_999)), ..IntentLimits::default() },
            "monthly budget used up: 0.00 of 0.049999 EUR spent, this message costs 0.05",
        ),
    ] {
        let (desk, _, _) = desk(AttemptTerms { limits, ..AttemptTerms::default() }).await;
        let mut new = plain(message());
        new.plan.as_mut().unwrap().hops.truncate(1);
        desk.accept(&new).await;
        desk.work_at(0).await;
        let record = desk.record(&new).await;
        assert_eq!((record.status, record.status_reason.as_deref()), (Status::Skipped, Some(reason)));
        desk.end().await;
    }
}

#[tokio::test]
async fn a_person_is_written_to_no_more_often_than_they_may() {
    let cap = PersonCap { kind: None, since: at(0), most: 2, words: "2 messages a day".into() };
    let limits = IntentLimits { caps: vec![cap], ..IntentLimits::default() };
    let (desk, driver, _) = desk(AttemptTerms { limits, ..AttemptTerms::default() }).await;
    let new: Vec<NewMessage> = (0..4).map(|_| plain(message())).collect();
    for message in &new {
        desk.accept(message).await;
    }
    desk.work_at(0).await;
    assert_eq!(driver.sent().len(), 2);
    let record = desk.record(&new[3]).await;
    let words = "the person was written to 2 times: 2 messages a day";
    assert_eq!((record.status, record.status_reason.as_deref()), (Status::Skipped, Some(words)));
    // A day later they may be written to again.
    let mut later = plain(message());
    later.plan.as_mut().unwrap().deadline = at(200_000);
    desk.accept(&later).await;
    desk.work_at(86_401).await;
    assert_eq!(driver.sent().len(), 3);
    desk.end().await;
}

#[tokio::test]
async fn a_paused_tenant_waits_and_a_policy_that_changed_binds() {
    let paused = AttemptTerms { paused: Some("incident".into()), ..AttemptTerms::default() };
    let (desk, driver, told) = desk(paused).await;
    let new = plain(message());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.due_at), (Status::Held, Some(at(300))));
    *told.0.lock().unwrap() =
        AttemptTerms { refused: Some("switched off".into()), ..AttemptTerms::default() };
    desk.work_at(300).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.status_reason.as_deref()), (Status::Skipped, Some("switched off")));
    assert_eq!(driver.sent(), []);
    desk.end().await;
}
