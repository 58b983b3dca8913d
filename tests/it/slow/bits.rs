//! Bits that flip on the disk (reliability.md F14): a database that is damaged is refused, or the message that is; no
//! message is ever told, or sent, other than it was kept.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use channel_orchestrator::{
    domain::{
        delivery::{ErrorClass, MessageRecord, Next, Outcome},
        ids::MessageId,
    },
    store::{Claimed, Intake, OpenOptions, Queue, Records, SqlStore, StoreError, open},
};

use super::bench::in_runtime;
use crate::store::fixture::{Base, accepted, at, begin, message, tenant};

const MESSAGES: usize = 60;
/// Bits of one damage, at most.
const BITS: u64 = 64;

fn damages() -> u64 {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 1_000 } else { 120 }
}

/// Numbers by chance, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Messages that stand where messages can stand, with attempts.
async fn fill(store: &SqlStore) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 0..MESSAGES {
        let new = message();
        store.accept(new.clone()).await.unwrap();
        ids.push(new.id);
        if n % 5 == 0 {
            continue;
        }
        let claimed = store.claim("w", at(0), 60, 10).await.unwrap();
        for claim in claimed.iter().filter(|claim| claim.id == new.id) {
            let attempt = begin(store, claim, at(0)).await;
            let (outcome, next) = match n % 5 {
                1 => (accepted(), Next::Sent),
                2 => {
                    let busy = Outcome::failed(ErrorClass::Temporary, "busy");
                    (busy, Next::RetryAt { at: at(60), reason: "busy".into() })
                }
                3 => {
                    let lost = Outcome::failed(ErrorClass::Unknown, "lost");
                    (lost, Next::SettleAt { at: at(90), reason: "lost".into() })
                }
                _ => {
                    let no = Outcome::failed(ErrorClass::Permanent, "no");
                    let status = channel_orchestrator::domain::delivery::Status::Failed;
                    (no, Next::End { status, reason: "no".into() })
                }
            };
            store.settle(claim, attempt, &outcome, &next, at(1)).await.unwrap();
        }
        for other in claimed.iter().filter(|claim| claim.id != new.id) {
            let later = Next::HoldUntil { at: at(500), reason: "later".into() };
            store.advance(other, &later, at(1)).await.unwrap();
        }
    }
    ids
}

/// What is told of a message, but for words: what it is, where it stands, and what was tried.
fn told(record: &MessageRecord) -> String {
    let attempts: Vec<_> = record
        .attempts
        .iter()
        .map(|a| (a.number, a.hop, a.channel, a.status, a.started_at, a.finished_at, a.cost))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {attempts:?}",
        record.id,
        record.request,
        record.plan,
        record.decision,
        record.status,
        (record.accepted_at, record.due_at),
        record.hop,
        record.sent_via,
        record.possible_duplicate,
    )
}

/// What would be sent.
fn taken(claim: &Claimed) -> String {
    let last = claim.last_attempt.as_ref().map(|a| (a.number, a.hop, a.channel, a.status, a.started_at));
    format!(
        "{:?} {:?} {:?} {:?} {:?} {last:?}",
        claim.id,
        claim.request,
        claim.plan,
        claim.due,
        (claim.hop, claim.attempts, claim.attempts_on_hop, claim.made, claim.resend_used, claim.escalated),
    )
}

/// What an undamaged database tells and gives.
struct Truth {
    records: BTreeMap<MessageId, String>,
    claims: BTreeMap<MessageId, String>,
}

#[derive(Debug, Default)]
struct Counts {
    refused_whole: u64,
    refused_message: u64,
    unharmed: u64,
    silent: Vec<String>,
}

async fn truth(url: &str, ids: &[MessageId]) -> Truth {
    let store = open(url, OpenOptions::default()).await.unwrap();
    let mut records = BTreeMap::new();
    for id in ids {
        records.insert(*id, told(&store.message(&tenant(), *id).await.unwrap().unwrap()));
    }
    let claims = claims(&store).await.unwrap().iter().map(|claim| (claim.id, taken(claim))).collect();
    store.close().await;
    Truth { records, claims }
}

async fn claims(store: &SqlStore) -> Result<Vec<Claimed>, StoreError> {
    store.claim("w", at(1_000), 60, 200).await
}

/// Opens what is damaged and asks for everything in it.
async fn look(url: &str, options: OpenOptions, truth: &Truth, case: u64, counts: &mut Counts) {
    let store: Arc<SqlStore> = match open(url, options).await {
        Ok(store) => store,
        Err(StoreError::Unusable(words)) => {
            let hint = words.contains("the last backup")
                || words.contains("not a database")
                || words.contains("schema");
            assert!(hint || words.contains("cannot"), "{words}");
            counts.refused_whole += 1;
            return;
        }
        Err(other) => panic!("damage {case}: {other:?}"),
    };
    let mut harmed = false;
    for (id, expected) in &truth.records {
        match store.message(&tenant(), *id).await {
            Ok(Some(record)) if told(&record) == *expected => {}
            Ok(found) => {
                let found = found.as_ref().map_or("nothing".into(), told);
                counts.silent.push(format!("damage {case}: {found} instead of {expected}"));
            }
            Err(_) => harmed = true,
        }
    }
    match claims(&store).await {
        Ok(found) => {
            for claim in &found {
                let expected = truth.claims.get(&claim.id).cloned().unwrap_or_else(|| "nothing".into());
                if taken(claim) != expected {
                    counts
                        .silent
                        .push(format!("damage {case}: {} to be sent, {expected} was kept", taken(claim)));
                }
            }
            harmed |= found.len() < truth.claims.len();
        }
        Err(_) => harmed = true,
    }
    store.close().await;
    if harmed { counts.refused_message += 1 } else { counts.unharmed += 1 }
}

/// Damages copies of a database; with `looked_through` as it is opened by default, else as if it were a large one.
async fn damage(file: &Path, ids: &[MessageId], looked_through: bool) -> Counts {
    let whole = fs::read(file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    // A file of its own for each: a connection of the last one may still be closing.
    let put = |name: String, bytes: &[u8]| {
        let copy = folder.path().join("state").join(name);
        fs::write(&copy, bytes).unwrap();
        format!("sqlite:{}", copy.display())
    };
    let truth = truth(&put("whole.db".into(), &whole), ids).await;
    let (mut dice, mut counts) = (Dice(14), Counts::default());
    for case in 0..damages() {
        let mut bytes = whole.clone();
        // Near each other or far apart, one or many.
        let (bits, near) = (1 + dice.roll(BITS), dice.roll(2) == 0);
        let place = dice.roll(bytes.len() as u64);
        for _ in 0..bits {
            let at = if near { place + dice.roll(64) } else { dice.roll(bytes.len() as u64) };
            let at = usize::try_from(at).unwrap() % bytes.len();
            bytes[at] ^= 1 << dice.roll(8);
        }
        let url = put(format!("{case}.db"), &bytes);
        let look_through_bytes = if looked_through { OpenOptions::default().look_through_bytes } else { 0 };
        let options = OpenOptions { look_through_bytes, ..OpenOptions::default() };
        look(&url, options, &truth, case, &mut counts).await;
        let _ = fs::remove_file(url.trim_start_matches("sqlite:"));
    }
    counts
}

#[test]
fn whatever_bits_flip_no_message_is_told_or_sent_other_than_it_was_kept() {
    in_runtime(async {
        let base = Base::sqlite();
        let store = base.open().await;
        let ids = fill(&store).await;
        store.close().await;
        // Everything in the one file.
        base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let Base::Sqlite(dir) = &base else { unreachable!() };
        let file = dir.path().join("state/store.db");
        for looked_through in [true, false] {
            let counts = damage(&file, &ids, looked_through).await;
            let how = if looked_through { "looked through" } else { "not looked through" };
            println!(
                "{} damages, {how}: {} refused whole, {} with messages refused, {} without harm, {} silent",
                damages(),
                counts.refused_whole,
                counts.refused_message,
                counts.unharmed,
                counts.silent.len()
            );
            assert!(counts.silent.is_empty(), "{}", counts.silent.join("\n"));
            assert!(counts.refused_whole > 0 && counts.unharmed > 0, "{counts:?}");
            assert!(looked_through || counts.refused_message > 0, "{counts:?}");
        }
    });
}
