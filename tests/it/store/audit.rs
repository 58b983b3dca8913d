//! The program's own audit (reliability.md section 5.3) after every test of the store, and what only a test may ask.

use channel_orchestrator::store::{Access, OpenOptions};
use chrono::{DateTime, TimeDelta, Utc};

use super::fixture::Base;

/// Money that stands on the account and in no attempt: right after a retention, wrong in a test.
const EXACT_ACCOUNT: &str = "SELECT k.day FROM (SELECT m.tenant, a.day, a.channel, m.origin, SUM(a.cost) AS cost \
     FROM attempts a JOIN messages m ON m.id = a.message_id GROUP BY m.tenant, a.day, a.channel, m.origin) k \
     LEFT JOIN spend s ON s.tenant = k.tenant AND s.day = k.day AND s.channel = k.channel \
     AND s.origin = k.origin WHERE COALESCE(s.micro_euros, 0) <> k.cost";

/// Fails with every invariant that does not hold. Tests stop where they like, with messages on their way.
pub async fn audit(base: &Base) {
    let options = OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() };
    let store = base.open_with(options).await;
    let findings = store.audit(DateTime::<Utc>::MIN_UTC + TimeDelta::days(1)).await.unwrap();
    store.close().await;
    let broken: Vec<_> = findings.iter().filter(|finding| finding.breaches > 0).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(
        base.texts(EXACT_ACCOUNT).await,
        Vec::<String>::new(),
        "the account is the sum of the attempts"
    );
}
