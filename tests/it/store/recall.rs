//! What decisions read is kept in memory, and is at every moment what the tables hold: after any series of operations,
//! and while writers and readers race.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use channel_orchestrator::{
    domain::{
        address::Address,
        channel::{Channel, PerChannel},
        delivery::{ErrorClass, Next, Outcome, Status},
        ids::{MessageId, RecipientId},
        message::{MessageKind, Origin},
        money::MicroEuros,
        receipt::{EngagementEvent, InboundMessage},
    },
    store::{
        Access, Act, Acts, Asking, By, Caps, Contacts, Engagement, Erasures, Intake, Knowledge, OpenOptions,
        Queue, Records, Remembered, SqlStore, SuppressionKey, Suppressions, open,
    },
};

use super::{
    fixture::{Base, SMS_COST, accepted, at, begin, claim_one, intent, message, tenant},
    returns::from,
};

const OURS: &str = "+33700000000";

fn person(n: usize) -> RecipientId {
    RecipientId::parse(&format!("p-{n}")).unwrap()
}

fn phone(n: usize) -> Address {
    Address::Phone(format!("+3361234567{n}"))
}

fn key(n: usize) -> SuppressionKey {
    SuppressionKey { address: phone(n), channel: Channel::Sms, sender: None, tenant: Some(tenant()) }
}

/// Everything that a decision reads of each of these people, at `seconds`.
async fn facts(store: &SqlStore, people: usize, seconds: i64) -> Vec<String> {
    let (now, mut all) = (at(seconds), Vec::new());
    let senders = PerChannel::only(Channel::Sms, Some("AGENCE".to_owned()));
    for n in 0..people {
        let addresses = PerChannel::only(Channel::Sms, Some(phone(n)));
        for origin in [Origin::Api, Origin::Public] {
            let day = now.date_naive();
            all.push(format!(
                "{:?}",
                store.known_facts(&tenant(), &addresses, &senders, origin, day).await.unwrap()
            ));
        }
        for kind in [None, Some(MessageKind::Notification), Some(MessageKind::Marketing)] {
            all.push(format!("{:?}", store.sent_lately(&tenant(), &person(n), kind, now).await.unwrap()));
        }
        all.push(format!("{:?}", store.history(&tenant(), &person(n), now).await.unwrap()));
        all.push(format!("{:?}", store.opt_ins(&tenant(), &addresses).await.unwrap()));
        for sender in [None, Some(OURS), Some("+33799999999")] {
            let open =
                store.in_service_window(&tenant(), Channel::Sms, &phone(n), sender, now).await.unwrap();
            all.push(format!("{open}"));
        }
    }
    all
}

/// What is answered at once, out of memory, is what each question is answered by itself. How often it was at all.
async fn at_once(store: &SqlStore, people: usize, seconds: i64) -> usize {
    let (now, tenant, mut answered) = (at(seconds), tenant(), 0);
    let senders = PerChannel::only(Channel::Sms, Some("AGENCE".to_owned()));
    for (n, origin) in (0..people).flat_map(|n| [(n, Origin::Api), (n, Origin::Public)]) {
        let (recipient, kind) = (person(n), Some(MessageKind::Marketing));
        let addresses = PerChannel::only(Channel::Sms, Some(phone(n)));
        for sender in [None, Some(OURS)] {
            let asked = Asking {
                tenant: &tenant,
                recipient: &recipient,
                addresses: PerChannel::from_fn(|channel| addresses[channel].as_ref().map(Address::as_str)),
                kind,
                origin,
                at: now,
                day: now.date_naive(),
                sent_lately: true,
                opt_ins: true,
                windows: PerChannel::only(Channel::Sms, Some(sender)),
                goes_at: now,
            };
            let Some(told) = store.remembered(&asked) else { continue };
            let known =
                store.known_facts(&tenant, &addresses, &senders, origin, now.date_naive()).await.unwrap();
            assert!(known.suppressed.iter().all(|(_, refused)| refused.is_none()), "{n}: {known:?}");
            let apart = Remembered {
                spend: known.spend,
                history: store.history(&tenant, &recipient, now).await.unwrap(),
                sent_lately: store.sent_lately(&tenant, &recipient, kind, now).await.unwrap(),
                opted_in: store.opt_ins(&tenant, &addresses).await.unwrap(),
                in_service_window: PerChannel::only(
                    Channel::Sms,
                    Some(
                        store.in_service_window(&tenant, Channel::Sms, &phone(n), sender, now).await.unwrap(),
                    ),
                ),
            };
            assert_eq!(told, apart, "{n} {origin:?} {sender:?}");
            answered += 1;
        }
    }
    answered
}

/// A few numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

const PEOPLE: usize = 4;

/// One operation of those that move what decisions read.
async fn one(store: &SqlStore, dice: &mut Dice, now: i64, known: &mut Vec<MessageId>) {
    let n = dice.below(PEOPLE);
    let by = By { who: "a test".into(), why: "to see".into() };
    let any = |dice: &mut Dice, known: &[MessageId]| known.get(dice.below(known.len().max(1))).copied();
    match dice.below(12) {
        0..=2 => {
            let mut new = message();
            new.request.recipient = person(n);
            new.request.origin = if dice.below(2) == 0 { Origin::Api } else { Origin::Public };
            new.request.kind =
                [None, Some(MessageKind::Marketing), Some(MessageKind::Notification)][dice.below(3)];
            new.accepted_at = at(now);
            new.plan.as_mut().unwrap().hops[0].address = phone(n);
            known.push(new.id);
            store.accept(new).await.unwrap();
        }
        3 | 4 => settle_what_is_due(store, dice, now).await,
        5 => {
            store.suppress(&key(n), "asked by telephone", None, at(now)).await.unwrap();
        }
        6 if dice.below(3) == 0 => store.forget_address(&tenant(), Channel::Sms, &phone(n)).await.unwrap(),
        6 => {
            store.lift(&key(n), "asked to be written to again", at(now)).await.unwrap();
        }
        7 => {
            let Some(id) = any(dice, known) else { return };
            let name = ["opened", "clicked", "replied"][dice.below(3)].to_owned();
            let event = EngagementEvent {
                message: id,
                name,
                at: at(now),
                machine: dice.below(3) == 0,
                channel: None,
                link: None,
                dedup: None,
            };
            store.engage(&event, at(now)).await.unwrap();
        }
        8 => {
            let Some(id) = any(dice, known) else { return };
            let act = [Act::Resend, Act::MarkSent, Act::MarkFailed, Act::Cancel][dice.below(4)];
            store.act(None, id, act, &by, at(now)).await.unwrap();
        }
        9 | 10 => {
            let said = InboundMessage {
                channel: Channel::Sms,
                provider_message_id: format!("in-{now}"),
                from: phone(n).as_str().into(),
                to: [OURS, "AGENCE", "+33799999999"][dice.below(3)].into(),
                text: ["Bonjour", "STOP", "START"][dice.below(3)].into(),
                // Some are told late.
                at: [None, Some(at(now - 50_000))][dice.below(2)],
                answers: None,
            };
            store.hear(&from(None), &said, at(now)).await.unwrap();
        }
        _ if dice.below(2) == 0 => {
            store.record_opt_in(&tenant(), Channel::Sms, &phone(n), "on paper", at(now)).await.unwrap();
        }
        _ => store.withdraw_opt_in(&tenant(), Channel::Sms, &phone(n), at(now)).await.unwrap(),
    }
}

async fn settle_what_is_due(store: &SqlStore, dice: &mut Dice, now: i64) {
    for claimed in store.claim("w", at(now), 60, 3).await.unwrap() {
        if claimed.last_attempt.is_some() {
            let end = Next::End { status: Status::Unresolved, reason: "?".into() };
            store.advance(&claimed, &end, at(now)).await.unwrap();
            continue;
        }
        let channel_orchestrator::store::Intent::Recorded(open) =
            store.record_intent(&claimed, intent(&claimed, at(now))).await.unwrap()
        else {
            let end = Next::End { status: Status::Skipped, reason: "refused".into() };
            store.advance(&claimed, &end, at(now)).await.unwrap();
            continue;
        };
        let (outcome, next) = match dice.below(4) {
            0 => (
                Outcome::failed(ErrorClass::Permanent, "no"),
                Next::End { status: Status::Failed, reason: "no".into() },
            ),
            1 => (
                Outcome::failed(ErrorClass::Unknown, "?"),
                Next::End { status: Status::Unresolved, reason: "?".into() },
            ),
            _ => (
                Outcome::Accepted {
                    provider_message_id: None,
                    cost: [None, Some(MicroEuros(70_000))][dice.below(2)],
                },
                Next::Sent,
            ),
        };
        store.settle(&claimed, open.id, &outcome, &next, at(now)).await.unwrap();
    }
}

/// A store that reads the tables each time is asked the same: it opens the file to read only, and keeps nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_says_what_the_tables_say_after_any_series_of_operations() {
    let mut together = 0;
    for seed in 0..6 {
        let base = Base::sqlite();
        let mut store = base.open().await;
        let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
        let tables = open(&base.url(), options).await.unwrap();
        let (mut dice, mut known, mut now) = (Dice(seed), Vec::new(), 0);
        for step in 0..60 {
            // Sometimes days, so that messages leave the windows of a day and of a week, and months end.
            now += if dice.below(8) == 0 { 90_000 } else { 30 };
            one(&store, &mut dice, now, &mut known).await;
            let (kept, stored) = (facts(&store, PEOPLE, now).await, facts(&tables, PEOPLE, now).await);
            assert_eq!(kept, stored, "seed {seed}, step {step}");
            together += at_once(&store, PEOPLE, now).await;
            assert_eq!(at_once(&tables, PEOPLE, now).await, 0, "who keeps nothing asks the tables");
            if dice.below(20) == 0 {
                store.close().await;
                store = base.open().await;
            }
        }
        store.close().await;
        tables.close().await;
    }
    assert!(together > 1_000, "memory had everything only {together} times");
}

/// A person who is erased is nobody afterwards, and who is asked of a time long gone is read from the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_and_the_past_are_read_right() {
    let base = Base::sqlite();
    let store = base.open().await;
    let new = message();
    let (id, who) = (new.id, new.request.recipient.clone());
    store.accept(new).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let open = begin(&store, &claimed, at(0)).await;
    store.settle(&claimed, open, &accepted(), &Next::Sent, at(1)).await.unwrap();
    for seconds in [10, 10, -3600, -400 * 86_400, 10] {
        let history = store.history(&tenant(), &who, at(seconds)).await.unwrap();
        assert_eq!(history[Channel::Sms].map(|known| known.received), Some(1), "asked at {seconds}");
    }
    assert!(store.message(&tenant(), id).await.unwrap().is_some());
    let by = By { who: "a test".into(), why: "asked by letter".into() };
    store.ask_erasure(&tenant(), &who, &by, at(20)).await.unwrap();
    assert_eq!(store.erase(&tenant(), &who, None, at(20)).await.unwrap().erased, 1);
    let history = store.history(&tenant(), &who, at(30)).await.unwrap();
    assert!(history.iter().all(|(_, known)| known.is_none()), "{history:?}");
    store.close().await;
}

/// Somebody's SQL beside the daemon is noticed with the daemon's next commit, wherever it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_writes_is_noticed_with_the_next_commit() {
    let base = Base::sqlite();
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    assert!(!facts(&store, 1, 0).await[0].contains("STOP"));
    base.sql(
        "INSERT INTO suppressions (address, channel, sender, tenant, reason, created_at) \
         VALUES ('+33612345670', 'sms', '', '', 'STOP', 0); \
         INSERT INTO spend (tenant, day, channel, origin, micro_euros) VALUES ('agency', '2025-11-15', 'sms', 'api', 7); \
         UPDATE messages SET status = 'sent', sent_via = 'sms', recipient = 'p-0'",
    )
    .await;
    store.accept(message()).await.unwrap();
    let now = facts(&store, 1, 0).await.join(" ");
    assert!(
        now.contains("STOP") && now.contains("today: MicroEuros(7)") && now.contains("received: 1"),
        "{now}"
    );
    store.close().await;
}

/// One writer refuses, spends and hands off while readers ask: whoever asks after an acknowledgement is told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_who_asks_after_an_acknowledgement_is_told_what_was_before() {
    const ROUNDS: usize = 60;
    let base = Base::sqlite();
    let store = base.open().await;
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (spent, received) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for reader in 0..3 {
        let store = Arc::clone(&store);
        let (over, refused, spent, received) =
            (over.clone(), refused.clone(), spent.clone(), received.clone());
        readers.push(tokio::spawn(async move {
            let mut asked = 0_usize;
            while !over.load(Ordering::SeqCst) {
                let (refusals, money) = (refused.load(Ordering::SeqCst), spent.load(Ordering::SeqCst));
                let handed_off = received.load(Ordering::SeqCst);
                // The newest refusal, which is the likeliest to be missed, and the one that comes next.
                let newest = refusals.saturating_sub(1 + asked % 2);
                let addresses = |n| PerChannel::only(Channel::Sms, Some(number(n)));
                let (senders, day) = (PerChannel::default(), at(0).date_naive());
                let found = store
                    .known_facts(&tenant(), &addresses(newest), &senders, Origin::Api, day)
                    .await
                    .unwrap();
                assert!(
                    refusals == 0 || found.suppressed[Channel::Sms].is_some(),
                    "reader {reader}: {newest} of {refusals}"
                );
                assert!(found.spend.today.0 >= money, "{} after {money}", found.spend.today);
                let who = RecipientId::parse("p-1").unwrap();
                let history = store.history(&tenant(), &who, at(10)).await.unwrap();
                let known = history[Channel::Sms].map_or(0, |known| known.received as usize);
                assert!(known >= handed_off, "{known} after {handed_off}");
                let lately = store.sent_lately(&tenant(), &who, None, at(10)).await.unwrap();
                assert!(lately.day as usize >= handed_off);
                asked += 1;
                tokio::task::yield_now().await;
            }
            asked
        }));
    }
    for n in 0..ROUNDS {
        let refusal = SuppressionKey {
            address: number(n),
            channel: Channel::Sms,
            sender: None,
            tenant: Some(tenant()),
        };
        assert!(store.suppress(&refusal, "no", None, at(1)).await.unwrap());
        refused.store(n + 1, Ordering::SeqCst);
        store.accept(message()).await.unwrap();
        let claimed = claim_one(&store, "w", at(1)).await;
        let open = begin(&store, &claimed, at(1)).await;
        spent.fetch_add(SMS_COST.0, Ordering::SeqCst);
        let outcome = Outcome::Accepted { provider_message_id: None, cost: None };
        store.settle(&claimed, open, &outcome, &Next::Sent, at(2)).await.unwrap();
        received.store(n + 1, Ordering::SeqCst);
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > ROUNDS / 2, "the readers took part");
    }
    store.close().await;
}

fn number(n: usize) -> Address {
    Address::Phone(format!("+33700{n:06}"))
}
