//! The figures: whatever happened in whatever order, the counters are what a recount of the tables comes to.

use std::collections::BTreeMap;

use channel_orchestrator::{
    domain::{
        channel::Channel,
        delivery::{Counting, ErrorClass, NewMessage, Next, Outcome, Status},
        ids::{AttemptId, BroadcastId, MessageId},
        message::MessageKind,
        money::MicroEuros,
        receipt::{EngagementEvent, ProviderReceipt, ReceiptKind},
    },
    store::{
        Alert, Begun, Broadcasts, CalledBack, Claimed, Dimension, Due, Engagement, FiguresAsked, Intake,
        Intent, NewBroadcast, Numbers, Queue, Receipts, RowNote, SqlStore, Undelivered,
    },
};
use chrono::{DateTime, Days, TimeDelta, Utc};

use super::fixture::*;

/// What a message counts for on a channel: on the day of its first attempt there, else of its acceptance.
const PLACE: &str = "COALESCE((SELECT f.day FROM attempts f WHERE f.message_id = m.id AND f.channel = x.channel \
     ORDER BY f.number LIMIT 1), m.day) || '|' || x.channel || '|' || m.kind || '|' || m.template || '|' || \
     m.campaign || '|' || m.variant";

/// Each counter by its definition in terms of the tables, as `(message, channel)` pairs.
const MARKS: &[(&str, &str)] = &[
    (
        "sent",
        "SELECT message_id AS id, channel FROM attempts WHERE status = 'accepted' OR receipt IN ('delivered', 'read') \
         UNION SELECT message_id, channel FROM engagement WHERE machine = 0 AND name IN ('opened', 'clicked')",
    ),
    (
        "delivered",
        "SELECT message_id AS id, channel FROM attempts WHERE receipt IN ('delivered', 'read') \
         UNION SELECT message_id, channel FROM engagement WHERE machine = 0 AND channel IN ('sms', 'whatsapp') \
         AND name IN ('opened', 'clicked')",
    ),
    (
        "opened",
        "SELECT DISTINCT message_id AS id, channel FROM engagement WHERE machine = 0 AND (name = 'opened' \
         OR (name = 'clicked' AND channel IN ('email', 'whatsapp')))",
    ),
    (
        "clicked",
        "SELECT DISTINCT message_id AS id, channel FROM engagement WHERE machine = 0 AND name = 'clicked'",
    ),
    (
        "replied",
        "SELECT DISTINCT message_id AS id, channel FROM engagement WHERE machine = 0 AND name = 'replied'",
    ),
    (
        "converted",
        "SELECT DISTINCT message_id AS id, channel FROM engagement WHERE machine = 0 AND name = 'converted'",
    ),
    (
        "machine_opened",
        "SELECT DISTINCT message_id AS id, channel FROM engagement WHERE machine = 1 AND name = 'opened'",
    ),
    (
        "failed",
        "SELECT DISTINCT a.message_id AS id, a.channel FROM attempts a JOIN messages b ON b.id = a.message_id \
         WHERE (a.hop < b.hop OR (b.status = 'failed' AND a.hop = b.hop) OR a.receipt = 'undelivered' \
         OR (a.hop > b.hop AND EXISTS (SELECT 1 FROM events e WHERE e.message_id = b.id AND e.event = 'failed'))) \
         AND NOT EXISTS (SELECT 1 FROM attempts o WHERE o.message_id = a.message_id AND o.channel = a.channel \
         AND o.receipt IN ('delivered', 'read')) AND NOT EXISTS (SELECT 1 FROM engagement e \
         WHERE e.message_id = a.message_id AND e.channel = a.channel AND e.machine = 0 \
         AND e.channel IN ('sms', 'whatsapp') AND e.name IN ('opened', 'clicked'))",
    ),
    (
        "expired",
        "SELECT id, CASE WHEN hop = 0 THEN 'sms' ELSE 'email' END AS channel FROM messages WHERE status = 'expired'",
    ),
    (
        "skipped",
        "SELECT id, CASE WHEN chosen = '' THEN '' WHEN hop = 0 THEN 'sms' ELSE 'email' END AS channel \
         FROM messages WHERE status = 'skipped'",
    ),
];

/// Sums over attempts and messages, as `(message, channel, day, value)`.
const SUMS: &[(&str, &str)] = &[
    ("accepted", "SELECT id, chosen AS channel, day, 1 AS value FROM messages"),
    ("decided", "SELECT id, chosen AS channel, day, 1 AS value FROM messages WHERE chosen <> ''"),
    ("cost", "SELECT message_id AS id, channel, day, cost AS value FROM attempts"),
];

/// Every counter that can be recounted, as `place|counter|value`.
async fn recount(base: &Base) -> Vec<String> {
    let marks = MARKS.iter().map(|(name, pairs)| {
        format!(
            "SELECT k.place || '|{name}|' || CAST(COUNT(*) AS TEXT) FROM (SELECT {PLACE} AS place FROM ({pairs}) x \
             JOIN messages m ON m.id = x.id WHERE m.day <> '') k GROUP BY k.place"
        )
    });
    let sums = SUMS.iter().map(|(name, rows)| {
        format!(
            "SELECT k.place || '|{name}|' || CAST(SUM(k.value) AS TEXT) FROM (SELECT x.day || '|' || x.channel \
             || '|' || m.kind || '|' || m.template || '|' || m.campaign || '|' || m.variant AS place, \
             CAST(x.value AS BIGINT) AS value FROM ({rows}) x JOIN messages m ON m.id = x.id WHERE m.day <> '') k \
             GROUP BY k.place HAVING SUM(k.value) <> 0"
        )
    });
    let refused = format!(
        "SELECT k.place || '|refused|' || CAST(COUNT(*) AS TEXT) FROM (SELECT {PLACE} AS place FROM attempts x \
         JOIN messages m ON m.id = x.message_id WHERE x.status LIKE 'refused%' AND m.day <> '') k GROUP BY k.place"
    );
    let segments = format!(
        "SELECT k.place || '|segments|' || CAST(SUM(k.segments) AS TEXT) FROM (SELECT {PLACE} AS place, m.segments \
         FROM ({}) x JOIN messages m ON m.id = x.id WHERE m.day <> '' AND x.channel = 'sms') k GROUP BY k.place",
        MARKS[0].1
    );
    let all: Vec<String> = marks.chain(sums).chain([refused, segments]).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut found: Vec<String> = base.all_texts(&all).await.into_iter().flatten().collect();
    found.sort();
    found
}

async fn counted(base: &Base) -> Vec<String> {
    let names: Vec<&str> =
        MARKS.iter().chain(SUMS).map(|(name, _)| *name).chain(["refused", "segments"]).collect();
    let sql = format!(
        "SELECT day || '|' || channel || '|' || kind || '|' || template || '|' || campaign || '|' || variant || '|' \
         || counter || '|' || CAST(value AS TEXT) FROM counters WHERE value <> 0 AND counter IN ('{}')",
        names.join("', '")
    );
    let mut found = base.texts(&sql).await;
    found.sort();
    found
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

fn any_message(dice: &mut Dice, now: DateTime<Utc>) -> NewMessage {
    let mut new = message();
    new.accepted_at = now;
    new.request.kind = dice.pick(&[None, Some(MessageKind::Appointment), Some(MessageKind::Survey)]);
    new.request.content.template = dice.pick(&[None, Some("REMINDER")]).map(str::to_owned);
    new.request.content.body = "é".repeat(dice.pick(&[10, 200, 400]));
    new.decision.variant = dice.pick(&[None, Some("frugal")]).map(str::to_owned);
    new.counting = Counting { day: Some(now.date_naive()), broadcast: None };
    match dice.roll(12) {
        0 => {
            (new.status, new.plan, new.decision.chosen) = (Status::Skipped, None, None);
        }
        1 => new.counting.day = None,
        2 => new.counting.broadcast = Some((BroadcastId::new(), 0)),
        _ => {}
    }
    new
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::failed(class, "as the test wants it")
}

fn end(status: Status) -> Next {
    Next::End { status, reason: "as the test wants it".into() }
}

/// What a worker may do with what it claimed.
async fn work(store: &SqlStore, dice: &mut Dice, claimed: &Claimed, now: DateTime<Utc>) -> Option<AttemptId> {
    let (at, reason) = (now + TimeDelta::minutes(1), "as the test wants it".to_owned());
    let last = usize::from(claimed.hop) + 1 == claimed.plan.hops.len();
    let give_up = if last {
        end(Status::Failed)
    } else {
        Next::FallBackTo { hop: claimed.hop + 1, at: now, reason: reason.clone() }
    };
    if claimed.due == Due::Settle {
        // What may have arrived is never given up for another channel (I7).
        let next = match dice.roll(3) {
            0 => Next::SettleAt { at, reason },
            1 => Next::ResendAt { at, reason },
            _ => end(Status::Unresolved),
        };
        store.advance(claimed, &next, now).await.unwrap();
        return None;
    }
    if dice.roll(8) == 0 {
        let next = end(dice.pick(&[Status::Expired, Status::Skipped]));
        store.advance(claimed, &next, now).await.unwrap();
        return None;
    }
    let attempt = match store.record_intent(claimed, intent(claimed, now)).await.unwrap() {
        Intent::Recorded(open) => open.id,
        _ => {
            store.advance(claimed, &give_up, now).await.unwrap();
            return None;
        }
    };
    let cost = dice.pick(&[None, Some(MicroEuros(61_000))]);
    let taken = Outcome::Accepted { provider_message_id: Some(attempt.to_string()), cost };
    let (outcome, next) = match dice.roll(6) {
        0 => (failed(ErrorClass::Permanent), give_up),
        1 => (failed(ErrorClass::Temporary), Next::RetryAt { at, reason }),
        2 => (failed(ErrorClass::Unknown), Next::SettleAt { at, reason }),
        _ => (taken, Next::Sent),
    };
    store.settle(claimed, attempt, &outcome, &next, now).await.unwrap();
    Some(attempt)
}

/// Another channel where there is one.
fn after(undelivered: &Undelivered<'_>, now: DateTime<Utc>) -> Option<Next> {
    let hop = undelivered.hop + 1;
    let reason = "it did not arrive".to_owned();
    Some(match usize::from(hop) < undelivered.plan.hops.len() {
        true => Next::FallBackTo { hop, at: now, reason },
        false => end(Status::Failed),
    })
}

/// By SMS each attempt has its fate, for what did not arrive goes by email; the mail's receipts contradict each other.
async fn a_receipt(
    store: &SqlStore,
    dice: &mut Dice,
    attempt: AttemptId,
    fate: Option<bool>,
    now: DateTime<Utc>,
) {
    let kinds: Vec<ReceiptKind> = ReceiptKind::ALL
        .into_iter()
        .filter(|kind| match (kind, fate) {
            (ReceiptKind::Undelivered, Some(arrives)) => !arrives,
            (ReceiptKind::Delivered | ReceiptKind::Read, Some(arrives)) => arrives,
            _ => true,
        })
        .collect();
    let from = CalledBack {
        driver: "sandbox".into(),
        credential: String::new(),
        drivers: vec!["sandbox".into()],
        tenant: tenant(),
        attempt: Some(attempt),
        services: Vec::new(),
    };
    let receipt = ProviderReceipt {
        provider_message_id: None,
        attempt: Some(attempt),
        kind: dice.pick(&kinds),
        at: dice.pick(&[None, Some(now - TimeDelta::seconds(3))]),
        error: None,
        cost: dice.pick(&[None, None, Some(MicroEuros(48_000))]),
    };
    store.receive(&from, &receipt, after, now).await.unwrap();
}

async fn a_deed(store: &SqlStore, dice: &mut Dice, message: MessageId, channel: Channel, now: DateTime<Utc>) {
    let event = EngagementEvent {
        message,
        name: dice.pick(&["opened", "clicked", "replied", "converted", "confirmed"]).to_owned(),
        at: now,
        machine: dice.roll(4) == 0,
        channel: Some(channel),
        link: None,
        dedup: None,
    };
    store.engage(&event, now).await.unwrap();
}

/// Two hundred random things, in random order, a few hours apart.
async fn walk(base: &Base, store: &SqlStore, seed: u64) {
    let mut dice = Dice(seed);
    let mut now = at(0) + TimeDelta::days(i64::try_from(seed).unwrap() * 40);
    let mut attempts: Vec<(AttemptId, MessageId, Channel)> = Vec::new();
    for _ in 0..200 {
        now += TimeDelta::minutes(i64::try_from(dice.roll(300)).unwrap());
        match dice.roll(6) {
            0 | 1 => {
                store.accept(any_message(&mut dice, now)).await.unwrap();
            }
            2 | 3 => {
                for claimed in store.claim("w", now, 60, 3).await.unwrap() {
                    let channel = claimed.plan.hops[usize::from(claimed.hop)].channel;
                    if let Some(attempt) = work(store, &mut dice, &claimed, now).await {
                        attempts.push((attempt, claimed.id, channel));
                    }
                }
            }
            4 if !attempts.is_empty() => {
                let which = usize::try_from(dice.roll(attempts.len() as u64)).unwrap();
                let (attempt, _, channel) = attempts[which];
                let fate = (channel == Channel::Sms).then_some(which % 3 > 0);
                a_receipt(store, &mut dice, attempt, fate, now).await;
            }
            5 if !attempts.is_empty() => {
                let (_, message, channel) = dice.pick(&attempts);
                a_deed(store, &mut dice, message, channel, now).await;
            }
            _ => {}
        }
    }
    let (counted, recount) = (counted(base).await, recount(base).await);
    let beyond =
        |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    let (more, less) = (beyond(&counted, &recount), beyond(&recount, &counted));
    assert!(more.is_empty() && less.is_empty(), "seed {seed}: counted {more:#?}, a recount says {less:#?}");
}

async fn counters_are_what_a_recount_comes_to(base: &Base) {
    let store = base.open().await;
    for seed in 1..=6 {
        walk(base, &store, seed).await;
    }
    let kept = counted(base).await;
    for (name, _) in MARKS.iter().chain(SUMS) {
        assert!(kept.iter().any(|line| line.contains(&format!("|{name}|"))), "{name} was never counted");
    }
    // Delivery times: as many as are timed lie in the buckets, and what was saved was sent.
    let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN counter LIKE 'delivery_within%' THEN value END), 0) \
               - COALESCE(SUM(CASE WHEN counter = 'delivery_timed' THEN value END), 0) AS TEXT) FROM counters";
    assert_eq!(base.texts(sql).await, ["0"]);
    let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN counter = 'always_sms' THEN value END), 0) AS TEXT) FROM counters";
    let sent = "SELECT CAST(COALESCE(SUM(m.always_sms), 0) AS TEXT) FROM messages m WHERE m.day <> '' AND EXISTS \
                (SELECT 1 FROM attempts a WHERE a.message_id = m.id \
                AND (a.status = 'accepted' OR a.receipt IN ('delivered', 'read'))) \
                OR (m.day <> '' AND EXISTS (SELECT 1 FROM engagement e WHERE e.message_id = m.id \
                AND e.machine = 0 AND e.name IN ('opened', 'clicked')))";
    assert_eq!(base.texts(sql).await, base.texts(sent).await);
    store.close().await;
}

/// A failing operation of a batch is run again alone: what the others counted counts once.
async fn a_batch_that_is_run_again_counts_once(base: &Base) {
    let store = base.open().await;
    let (first, mut twin) = (message(), message());
    twin.id = first.id;
    let others: Vec<NewMessage> = (0..20).map(|_| message()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for new in others.into_iter().chain([first, twin]) {
        let store = store.clone();
        tasks.spawn(async move { store.accept(new).await.is_ok() });
    }
    let accepted = tasks.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(accepted, 21, "one id cannot be two messages");
    let found = store.figures(&asked(vec![])).await.unwrap();
    assert_eq!(found[0].counts.get("accepted"), 21);
    store.close().await;
}

fn asked(by: Vec<Dimension>) -> FiguresAsked {
    let today = at(0).date_naive();
    FiguresAsked { tenant: tenant(), from: today, to: today, channel: None, only: vec![], by }
}

async fn figures_are_told_apart_and_narrowed(base: &Base) {
    let store = base.open().await;
    for (kind, days, count) in
        [(MessageKind::Survey, 0, 3), (MessageKind::Document, 0, 2), (MessageKind::Survey, 9, 1)]
    {
        for _ in 0..count {
            let mut new = message();
            new.request.kind = Some(kind);
            new.counting.day = at(0).date_naive().checked_add_days(Days::new(days));
            store.accept(new).await.unwrap();
        }
    }
    let by_kind = store.figures(&asked(vec![Dimension::Kind])).await.unwrap();
    let told: BTreeMap<&str, i64> =
        by_kind.iter().map(|f| (f.group[0].as_str(), f.counts.get("accepted"))).collect();
    assert_eq!(told, BTreeMap::from([("survey", 3), ("document", 2)]), "the ninth day is another period");
    let mut one = asked(vec![Dimension::Day]);
    one.to = at(0).date_naive().checked_add_days(Days::new(9)).unwrap();
    one.only = vec![(Dimension::Kind, "survey".into())];
    let by_day: Vec<i64> =
        store.figures(&one).await.unwrap().iter().map(|f| f.counts.get("accepted")).collect();
    assert_eq!(by_day, [3, 1]);
    one.channel = Some(Channel::Telegram);
    assert!(store.figures(&one).await.unwrap().is_empty());
    store.close().await;
}

async fn an_alert_is_raised_once_for_each_period(base: &Base) {
    let store = base.open().await;
    let alert = |scope: &str, period: &str| Alert {
        tenant: tenant(),
        scope: scope.into(),
        period: period.into(),
        spent: MicroEuros(9),
        budget: MicroEuros(10),
        at: at(0),
    };
    let (day, next) = (alert("daily/public", "2025-11-15"), alert("daily/public", "2025-11-16"));
    assert!(store.raise_alert(&day).await.unwrap());
    assert!(!store.raise_alert(&day).await.unwrap());
    assert!(store.raise_alert(&next).await.unwrap());
    store.close().await;
    // Not after a restart either.
    let store = base.open().await;
    assert!(!store.raise_alert(&day).await.unwrap());
    assert_eq!(store.alerts(&tenant(), &["2025-11-15".into()]).await.unwrap(), [day]);
    store.close().await;
}

async fn a_broadcast_is_begun_once_and_its_rows_are_found_in_order(base: &Base) {
    let store = base.open().await;
    let new = |hash: u8, created_at| NewBroadcast {
        id: BroadcastId::new(),
        tenant: tenant(),
        key: Some(key("news")),
        body_hash: [hash; 32],
        rows: 3,
        created_at,
    };
    let first = new(1, at(0));
    let id = first.id;
    assert_eq!(store.begin_broadcast(first).await.unwrap(), Begun::New);
    assert_eq!(store.begin_broadcast(new(1, at(1))).await.unwrap(), Begun::Again(id));
    assert_eq!(store.begin_broadcast(new(2, at(1))).await.unwrap(), Begun::KeyReused(id));
    let other = message();
    store.accept(other.clone()).await.unwrap();
    let mut row = message();
    row.counting.broadcast = Some((id, 1));
    store.accept(row.clone()).await.unwrap();
    let notes = vec![
        RowNote { row: 2, message: Some(other.id), problem: None },
        RowNote { row: 0, message: None, problem: Some(serde_json::json!({"title": "no"})) },
    ];
    assert!(!store.finish_broadcast(id, notes.clone(), at(5)).await.unwrap());
    assert!(!store.finish_broadcast(id, notes, at(6)).await.unwrap(), "a twin changes nothing");
    let kept = store.broadcast(id).await.unwrap().unwrap();
    assert_eq!((kept.refused, kept.repeated, kept.accepted_at), (1, 1, Some(at(5))));
    assert_eq!(kept.by_status, [(Status::Queued, 1)]);
    let rows = store.broadcast_rows(id, None, 10).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|r| (r.row, r.message.as_ref().map(|m| m.id), r.repeated)).collect();
    assert_eq!(seen, [(0, None, false), (1, Some(row.id), false), (2, Some(other.id), true)]);
    assert_eq!(store.broadcast_rows(id, Some(0), 1).await.unwrap()[0].row, 1);
    assert_eq!(store.broadcast_unsettled(id).await.unwrap(), 1);
    assert_eq!(
        store.cancel_broadcast(id, at(7)).await.unwrap(),
        [row.id],
        "another's message is not its own"
    );
    assert_eq!(store.broadcast_unsettled(id).await.unwrap(), 0);
    assert!(store.finish_broadcast(id, vec![], at(8)).await.unwrap(), "it was cancelled meanwhile");
    // After seven days the key is free, as the rows' keys are.
    let week = at(7 * 86_400);
    assert_eq!(store.begin_broadcast(new(2, week)).await.unwrap(), Begun::New);
    store.close().await;
}

super::on_both!(
    counters_are_what_a_recount_comes_to,
    a_batch_that_is_run_again_counts_once,
    figures_are_told_apart_and_narrowed,
    an_alert_is_raised_once_for_each_period,
    a_broadcast_is_begun_once_and_its_rows_are_found_in_order,
);
