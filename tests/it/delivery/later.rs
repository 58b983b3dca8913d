//! What comes to light later: look-ups that find an attempt, ids that cannot be, drivers that are down, silence that
//! escalates, people who decide.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{Driver, Drivers, Found, health::Health},
    domain::{
        channel::Channel,
        delivery::{AttemptStatus, ErrorClass, NewMessage, PlannedEscalation, Status},
    },
    store::{Act, Acted, Acts, By, Cancelled, Records},
};
use chrono::TimeDelta;

use super::{
    Desk, plain,
    scripted::{Do, Scripted, found},
    statuses,
};
use crate::store::fixture::{at, marketing, message, tenant};

#[tokio::test]
async fn what_the_providers_list_shows_is_adopted_and_nothing_is_sent_twice() {
    for (shown, when) in [(0, 15), (1, 60), (2, 300)] {
        for new in [plain(message()), plain(marketing())] {
            let driver = Scripted::new("t", [Do::Late(ErrorClass::Unknown)]);
            driver.shows((0..shown).map(|_| Found::Absent).chain([found("SM7")]));
            let desk = Desk::new(driver.clone()).await;
            desk.accept(&new).await;
            desk.work_at(0).await;
            desk.work_at(15).await;
            desk.work_at(60).await;
            desk.work_at(300).await;
            let record = desk.record(&new).await;
            assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Sms)), "{when}");
            assert!(!record.possible_duplicate);
            let attempt = &record.attempts[0];
            assert_eq!(attempt.provider_message_id.as_deref(), Some("SM7"));
            assert_eq!((attempt.status, attempt.error.as_ref()), (AttemptStatus::Accepted, None));
            assert_eq!(record.timeline.last().unwrap().at, at(when));
            assert_eq!((driver.sent().len(), driver.asked.lock().unwrap().len()), (1, shown + 1));
            desk.end().await;
        }
    }
}

#[tokio::test]
async fn marketing_that_is_not_found_is_left_to_a_person() {
    let driver = Scripted::new("t", [Do::Late(ErrorClass::Unknown)]);
    driver.shows([Found::Absent, Found::CannotTell("it shows two".into()), Found::Absent]);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(marketing());
    desk.accept(&new).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0]);
    assert_eq!(desk.record(&new).await.status, Status::Unresolved);
    assert_eq!(driver.asked.lock().unwrap().len(), 3);
    let by = By { who: "zoe".into(), why: "the person called".into() };
    let act = async |act| desk.store.act(Some(&tenant()), new.id, act, &by, at(400)).await.unwrap();
    assert_eq!(act(Act::Release).await, Acted::NotNow(Status::Unresolved));
    assert_eq!(act(Act::MarkSent).await, Acted::Done);
    assert_eq!(act(Act::MarkSent).await, Acted::NotNow(Status::Sent));
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Sms)));
    assert_eq!(record.timeline.last().unwrap().detail.as_deref(), Some("by zoe: the person called"));
    desk.end().await;
}

/// F39: an id that another attempt owns is not believed, neither in an answer nor in a list.
#[tokio::test]
async fn an_id_that_belongs_to_another_attempt_is_refused() {
    let driver = Scripted::new("t", [Do::AcceptAs("SM1"), Do::AcceptAs("SM1")]);
    driver.shows([found("SM1"), found("SM2")]);
    let desk = Desk::new(driver.clone()).await;
    let (first, second) = (plain(message()), plain(message()));
    desk.accept(&first).await;
    desk.work_at(0).await;
    desk.accept(&second).await;
    desk.work_at(1).await;
    let record = desk.record(&second).await;
    assert_eq!((record.status, record.due_at), (Status::Unknown, Some(at(16))));
    assert_eq!(statuses(&record), [(Channel::Sms, AttemptStatus::Unknown)]);
    // The list shows the other's first, then its own.
    desk.work_at(16).await;
    assert_eq!(desk.record(&second).await.status, Status::Unknown);
    desk.work_at(61).await;
    let record = desk.record(&second).await;
    assert_eq!(
        (record.status, record.attempts[0].provider_message_id.as_deref()),
        (Status::Sent, Some("SM2"))
    );
    assert_eq!(driver.sent().len(), 2);
    desk.end().await;
}

/// Relays name what is in their queue, and such names come again.
#[tokio::test]
async fn a_queue_id_that_comes_again_is_no_alarm() {
    let driver = Scripted::new("t", [Do::AcceptAs("4F2A"), Do::AcceptAs("4F2A")]);
    let desk = Desk::new(driver.clone()).await;
    for _ in 0..2 {
        let mut new = plain(message());
        new.plan.as_mut().unwrap().hops.remove(0);
        desk.accept(&new).await;
        desk.work_at(0).await;
        assert_eq!(desk.record(&new).await.status, Status::Sent);
    }
    desk.end().await;
}

/// F43: messages wait, none of them uses an attempt, and the credential's probe lets them go.
#[tokio::test]
async fn a_wrong_credential_costs_no_attempt() {
    let driver =
        Scripted::new("t", [Do::Late(ErrorClass::Misconfigured), Do::Early(ErrorClass::Misconfigured)]);
    let desk = Desk::new(driver.clone()).await;
    let new = [plain(message()), plain(message())];
    for message in &new {
        desk.accept(message).await;
        desk.work_at(0).await;
    }
    assert!(desk.worker.breakers.down("t", None, at(1)).is_some());
    let waiting = desk.record(&new[1]).await;
    assert_eq!((waiting.status, waiting.due_at, waiting.attempts.len()), (Status::Retrying, Some(at(60)), 0));
    assert_eq!(waiting.status_reason.as_deref(), Some("t is refused by its provider"));
    // The probe fails, and the wait is longer; the next one comes through, and everybody goes.
    desk.work_at(60).await;
    assert_eq!(driver.sent().len(), 1, "one was refused at its last step, one before it");
    desk.work_at(179).await;
    assert_eq!(desk.record(&new[0]).await.status, Status::Retrying);
    desk.work_at(180).await;
    desk.work_at(200).await;
    for message in &new {
        let record = desk.record(message).await;
        assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Sms)));
    }
    assert!(desk.worker.breakers.shut().is_empty());
    desk.end().await;
}

#[tokio::test]
async fn the_next_driver_takes_over_at_once_where_a_credential_is_refused() {
    let refused = Scripted::new("a", [Do::Late(ErrorClass::Misconfigured)]);
    let well = Scripted::new("b", []);
    let mut desk = Desk::new(refused.clone()).await;
    desk.worker.drivers = Drivers::new([refused.clone() as Arc<dyn Driver>, well.clone()]);
    let new = plain(message());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    let used: Vec<_> = record.attempts.iter().map(|a| a.driver.as_str()).collect();
    assert_eq!((record.status, used), (Status::Sent, vec!["a", "b"]));
    // Others do not even try it.
    let other = plain(message());
    desk.accept(&other).await;
    desk.work_at(1).await;
    assert_eq!((refused.sent().len(), well.sent().len()), (1, 2));
    desk.end().await;
}

/// What decisions are told of a channel's drivers, before anything is sent to them.
#[tokio::test]
async fn a_channel_is_down_when_all_of_its_drivers_are() {
    let refused = Scripted::new("a", [Do::Late(ErrorClass::Misconfigured)]);
    let well = Scripted::new("b", []);
    let mut desk = Desk::new(refused.clone()).await;
    let both: [Arc<dyn Driver>; 2] = [refused.clone(), well.clone()];
    desk.worker.drivers = Drivers::new(both.clone());
    let known = Drivers::new(both).with_health(desk.worker.breakers.clone());
    desk.accept(&plain(message())).await;
    desk.work_at(0).await;
    let down = |named: &[&str], sender: Option<&str>, seconds| {
        let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
        known.down(Channel::Sms, &named, sender, at(seconds))
    };
    assert_eq!(down(&[], None, 1), None, "the second one works");
    assert_eq!(down(&["a"], None, 1).as_deref(), Some("a is refused by its provider"));
    assert_eq!(down(&["a"], Some("OTHER"), 1), None, "for another sender nothing is known");
    assert_eq!(down(&["nobody"], None, 1), None, "no driver at all is told elsewhere");
    // Once the wait is over it counts as well: somebody has to try it.
    assert_eq!(down(&["a"], None, 60), None);
    assert_eq!(known.shut().len(), 1);
    desk.end().await;
}

/// F42: half of twenty calls fail, the driver is let alone, the second one is taken.
#[tokio::test]
async fn a_failing_driver_is_let_alone_and_the_next_one_is_taken() {
    let failing = Scripted::new("a", [(); 40].map(|()| Do::Late(ErrorClass::Temporary)));
    let well = Scripted::new("b", []);
    let mut desk = Desk::new(failing.clone()).await;
    desk.worker.drivers = Drivers::new([failing.clone() as Arc<dyn Driver>, well.clone()]);
    let new: Vec<NewMessage> = (0..30).map(|_| plain(message())).collect();
    for message in &new {
        desk.accept(message).await;
        desk.worker.run_once().await.unwrap();
    }
    assert_eq!((failing.sent().len(), well.sent().len()), (20, 10));
    // Their retries, a minute later, begin with the second driver.
    desk.work_at(60).await;
    assert_eq!((failing.sent().len(), well.sent().len()), (20, 30));
    desk.end().await;
}

#[tokio::test]
async fn where_every_driver_is_down_a_message_waits_within_its_deadline_then_takes_the_next_channel() {
    let driver = Scripted::new("t", [Do::Late(ErrorClass::Misconfigured)]);
    let desk = Desk::new(driver.clone()).await;
    let mut new = plain(message());
    let plan = new.plan.as_mut().unwrap();
    plan.deadline = at(30);
    // Another sender on the email: its credential is not concerned.
    plan.hops[1].from = Some("rdv@example.fr".into());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    let fallback = record.timeline.iter().find(|event| event.event == "fallback").unwrap();
    let words = "t is refused by its provider (longer than the message may wait)";
    assert_eq!(fallback.detail.as_deref(), Some(words));
    desk.end().await;
}

/// An email that is escalated by SMS after six hours unless it was opened.
fn escalating() -> NewMessage {
    let mut new = plain(message());
    new.request.event_at = Some(at(80_000));
    let plan = new.plan.as_mut().unwrap();
    plan.hops.reverse();
    plan.hops.push(plan.hops[1].clone());
    plan.hops[1].channel = Channel::Telegram;
    plan.escalation = Some(PlannedEscalation { hop: 2, after_seconds: 21_600, unless: "opened".into() });
    new
}

async fn echo(desk: &Desk, new: &NewMessage, name: &str, machine: u8) {
    let sql = format!(
        "INSERT INTO engagement (message_id, name, machine, link, dedup, tenant, recipient, first_at, last_at) \
         VALUES ('{}', '{name}', {machine}, -1, '', 'agency', 'p-1', 0, 0)",
        new.id
    );
    desk.base.sql(&sql).await;
}

#[tokio::test]
async fn silence_is_escalated_after_its_time_and_once_only() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let new = escalating();
    desk.accept(&new).await;
    desk.work_at(0).await;
    // A machine's open is no answer.
    echo(&desk, &new, "opened", 1).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.due_at), (Status::Sent, Some(at(21_600))));
    desk.work_at(21_599).await;
    assert_eq!(driver.sent().len(), 1);
    desk.work_at(21_600).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via, record.due_at), (Status::Sent, Some(Channel::Sms), None));
    assert!(!record.possible_duplicate, "it was meant");
    let told = record.timeline.iter().find(|event| event.event == "escalated").unwrap();
    assert_eq!(told.detail.as_deref(), Some("not opened within 6 h"));
    assert_eq!(driver.sent(), [(Channel::Email, 1), (Channel::Sms, 2)]);
    desk.end().await;
}

#[tokio::test]
async fn who_answered_hears_no_more_and_who_refused_neither() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let (answered, stopped) = (escalating(), escalating());
    for new in [&answered, &stopped] {
        desk.accept(new).await;
    }
    desk.work_at(0).await;
    echo(&desk, &answered, "clicked", 0).await;
    desk.work_at(21_000).await;
    let stop = "INSERT INTO suppressions (address, channel, sender, tenant, reason, created_at) \
                VALUES ('+33612345678', 'sms', '', '', 'STOP', 0)";
    desk.base.sql(stop).await;
    desk.work_at(21_600).await;
    let record = desk.record(&answered).await;
    assert_eq!((record.status, record.due_at), (Status::Sent, None));
    assert!(record.timeline.iter().all(|event| !event.event.contains("escalated")));
    // The SMS may not go: the message stays what it was, sent by email.
    let record = desk.record(&stopped).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    assert_eq!(record.status_reason.as_deref(), Some("the escalation was not sent: STOP"));
    assert_eq!(driver.sent().len(), 2);
    desk.base.sql("DELETE FROM suppressions").await;
    desk.end().await;
}

#[tokio::test]
async fn an_escalation_that_is_refused_leaves_the_message_sent_and_one_that_crashes_is_taken_up() {
    let driver = Scripted::new("t", [Do::Accept, Do::HangEarly, Do::Late(ErrorClass::Permanent)]);
    let desk = Desk::new(driver.clone()).await;
    let new = escalating();
    desk.accept(&new).await;
    desk.work_at(0).await;
    desk.clock.set(at(21_600));
    // The first pass finds that it is to be escalated, the second one sends it and never ends.
    desk.worker.run_once().await.unwrap();
    tokio::select! {
        _ = desk.worker.run_once() => panic!("it hangs"),
        () = driver.reached.notified() => {}
    }
    desk.worker.recover(true).await.unwrap();
    desk.work_at(21_601).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    assert_eq!(
        statuses(&record),
        [(Channel::Email, AttemptStatus::Accepted), (Channel::Sms, AttemptStatus::RefusedPermanent)]
    );
    desk.end().await;
}

#[tokio::test]
async fn nobody_is_reminded_of_what_is_over() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let mut new = escalating();
    new.request.event_at = Some(at(20_000));
    desk.accept(&new).await;
    desk.work_at(0).await;
    desk.work_at(21_600).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, driver.sent().len()), (Status::Sent, 1));
    assert_eq!(record.status_reason.as_deref(), Some("the escalation was not sent: its event is over"));
    desk.end().await;
}

#[tokio::test]
async fn cancelling_calls_the_escalation_off() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let new = escalating();
    desk.accept(&new).await;
    desk.work_at(0).await;
    let cancelled = desk.store.cancel(&tenant(), new.id, at(60)).await.unwrap();
    assert_eq!(cancelled, Some(Cancelled::TooLate(Status::Sent)));
    desk.work_at(30_000).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, driver.sent().len()), (Status::Sent, 1));
    assert_eq!(record.timeline.last().unwrap().event, "not_escalated");
    desk.end().await;
}

#[tokio::test]
async fn a_person_resends_what_nobody_could_settle_and_releases_what_was_set_aside() {
    let driver = Scripted::new("t", [Do::Late(ErrorClass::Unknown)]);
    let desk = Desk::new(driver.clone()).await;
    let mut new = plain(marketing());
    new.plan.as_mut().unwrap().deadline = at(600);
    desk.accept(&new).await;
    desk.work_to_the_end(&new).await;
    let by = By { who: "zoe".into(), why: String::new() };
    let stranger = channel_orchestrator::domain::ids::TenantId::parse("other").unwrap();
    let acted = desk.store.act(Some(&stranger), new.id, Act::Resend, &by, at(9_000)).await.unwrap();
    assert_eq!(acted, Acted::NotFound);
    // Long after its deadline: it gets a day more.
    assert_eq!(desk.store.act(None, new.id, Act::Resend, &by, at(9_000)).await.unwrap(), Acted::Done);
    desk.work_at(9_000).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.possible_duplicate, driver.sent().len()), (Status::Sent, true, 2));
    let aside = plain(message());
    desk.accept(&aside).await;
    let sql = format!(
        "UPDATE messages SET status = 'quarantined', due_at = NULL, crashes = 4 WHERE id = '{}'",
        aside.id
    );
    desk.base.sql(&sql).await;
    assert_eq!(desk.store.act(None, aside.id, Act::Release, &by, at(9_001)).await.unwrap(), Acted::Done);
    desk.work_at(9_001).await;
    assert_eq!(desk.record(&aside).await.status, Status::Sent);
    desk.end().await;
}

/// F32: however often the provider asks for patience, the attempts that count are those of the policy.
#[tokio::test]
async fn a_flood_wait_uses_no_attempt() {
    let script =
        [(); 6].map(|()| Do::Flood(600)).into_iter().chain([(); 4].map(|()| Do::Late(ErrorClass::Temporary)));
    let driver = Scripted::new("t", script);
    let desk = Desk::new(driver.clone()).await;
    let mut new = plain(message());
    new.plan.as_mut().unwrap().hops.truncate(1);
    desk.accept(&new).await;
    loop {
        while desk.worker.run_once().await.unwrap() > 0 {}
        let Some(due) = desk.record(&new).await.due_at else { break };
        desk.clock.set(due);
    }
    let record = desk.record(&new).await;
    let tried: Vec<i64> = record.attempts.iter().map(|a| (a.started_at - at(0)).num_seconds()).collect();
    assert_eq!(tried, [0, 600, 1200, 1800, 2400, 3000, 3600, 3660, 3960, 4860]);
    assert_eq!(record.status, Status::Failed);
    assert!(at(0) + TimeDelta::hours(2) > desk.record(&new).await.timeline.last().unwrap().at);
    desk.end().await;
}
