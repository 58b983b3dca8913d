//! Suppressions, money, keys and policy versions.

use channel_orchestrator::{
    domain::{
        address::Address,
        channel::{Channel, PerChannel},
        delivery::{ErrorClass, Next, Outcome, Status},
        ids::{PolicyVersion, TenantId},
        message::Origin,
        money::MicroEuros,
    },
    store::{Intake, Intent, Keys, Knowledge, PolicyVersions, Queue, SqlStore, StoredKey},
};
use chrono::{DateTime, Utc};

use super::fixture::{Base, SMS_COST, accepted, at, begin, claim_one, intent, message, tenant};

fn suppress(address: &str, channel: &str, sender: &str, tenant: &str) -> String {
    format!(
        "INSERT INTO suppressions (address, channel, sender, tenant, reason, created_at) \
         VALUES ('{address}', '{channel}', '{sender}', '{tenant}', 'STOP on 14 November', 0)"
    )
}

async fn a_suppression_keeps_the_intent_from_being_recorded(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    for row in [
        suppress("+33600000000", "sms", "AGENCE", ""),
        suppress("+33612345678", "whatsapp", "AGENCE", ""),
        suppress("+33612345678", "sms", "OTHER", ""),
        suppress("+33612345678", "sms", "AGENCE", "stranger"),
    ] {
        base.sql(&row).await;
    }
    let granted = store.record_intent(&claimed, intent(&claimed, at(1))).await.unwrap();
    let Intent::Recorded(open) = granted else { panic!("none of these is about this message: {granted:?}") };
    let busy = Outcome::failed(ErrorClass::Temporary, "busy");
    let retry = Next::RetryAt { at: at(60), reason: "busy".into() };
    store.settle(&claimed, open.id, &busy, &retry, at(2)).await.unwrap();
    base.sql(&suppress("+33612345678", "sms", "AGENCE", "")).await;
    base.sql("UPDATE suppressions SET created_at = 1763197230000 WHERE reason LIKE 'STOP%'").await;
    let claimed = claim_one(&store, "w", at(60)).await;
    let refused = store.record_intent(&claimed, intent(&claimed, at(61))).await.unwrap();
    assert_eq!(refused, Intent::Suppressed("STOP on 14 November".into()));
    let end = Next::End { status: Status::Skipped, reason: "STOP".into() };
    store.advance(&claimed, &end, at(62)).await.unwrap();
    store.close().await;
}

async fn decisions_are_told_of_suppressions(base: &Base) {
    let store = base.open().await;
    store
        .known_facts(
            &tenant(),
            &PerChannel::default(),
            &PerChannel::default(),
            Origin::Api,
            at(0).date_naive(),
        )
        .await
        .unwrap();
    base.sql(&suppress("+33612345678", "sms", "AGENCE", "")).await;
    base.sql(&suppress("zoe@example.fr", "email", "", "agency")).await;
    base.sql(&suppress("zoe@example.fr", "email", "", "stranger")).await;
    // A daemon on its own database knows who refused: what comes from elsewhere is seen at its next start.
    store.close().await;
    let store = base.open().await;
    let mut addresses: PerChannel<Option<Address>> = PerChannel::default();
    addresses[Channel::Sms] = Some(Address::Phone("+33612345678".into()));
    addresses[Channel::WhatsApp] = addresses[Channel::Sms].clone();
    addresses[Channel::Email] = Some(Address::Email("zoe@example.fr".into()));
    let known = async |sender: &str, tenant: &TenantId| {
        let senders = PerChannel::from_fn(|_| Some(sender.to_owned()));
        store
            .known_facts(tenant, &addresses, &senders, Origin::Api, at(0).date_naive())
            .await
            .unwrap()
            .suppressed
    };
    let ours = known("AGENCE", &tenant()).await;
    assert_eq!(ours[Channel::Sms].as_deref(), Some("STOP on 14 November"));
    assert!(
        ours[Channel::Email].is_some()
            && ours[Channel::WhatsApp].is_none()
            && ours[Channel::Telegram].is_none()
    );
    let theirs = known("OTHER", &TenantId::parse("neighbour").unwrap()).await;
    assert_eq!(theirs, PerChannel::default());
    store.close().await;
}

async fn spend(
    store: &SqlStore,
    origin: Origin,
    day: DateTime<Utc>,
) -> channel_orchestrator::domain::facts::Spend {
    let (nobody, senders) = (PerChannel::default(), PerChannel::default());
    store.known_facts(&tenant(), &nobody, &senders, origin, day.date_naive()).await.unwrap().spend
}

/// Accepts, claims and opens an attempt at `now`, then settles it.
async fn attempt(store: &SqlStore, origin: Origin, now: DateTime<Utc>, outcome: Option<Outcome>) {
    let mut new = message();
    new.request.origin = origin;
    new.accepted_at = now;
    store.accept(new).await.unwrap();
    let claimed = claim_one(store, "w", now).await;
    let open = begin(store, &claimed, now).await;
    let Some(outcome) = outcome else { return };
    let next = match &outcome {
        Outcome::Accepted { .. } => Next::Sent,
        Outcome::Failed { error, .. } if error.class == ErrorClass::Unknown => {
            Next::End { status: Status::Unresolved, reason: "?".into() }
        }
        Outcome::Failed { .. } => Next::End { status: Status::Failed, reason: "no".into() },
    };
    store.settle(&claimed, open, &outcome, &next, now).await.unwrap();
}

async fn money_is_kept_by_day_month_origin_and_channel(base: &Base) {
    let store = base.open().await;
    let (earlier, today, next) = (at(-3 * 86_400), at(0), at(20 * 86_400));
    attempt(&store, Origin::Api, earlier, Some(accepted())).await;
    attempt(&store, Origin::Api, today, Some(accepted())).await;
    attempt(&store, Origin::Public, today, Some(accepted())).await;
    attempt(&store, Origin::Api, next, Some(accepted())).await;
    let found = spend(&store, Origin::Api, today).await;
    assert_eq!((found.today, found.this_month), (SMS_COST.times(2), SMS_COST.times(3)));
    assert_eq!((found.origin_today, found.origin_this_month), (SMS_COST, SMS_COST.times(2)));
    assert_eq!(found.channels_today[Channel::Sms], SMS_COST.times(2));
    assert_eq!(found.channels_today[Channel::Email], MicroEuros::ZERO);
    let december = spend(&store, Origin::Public, next).await;
    assert_eq!((december.this_month, december.origin_this_month), (SMS_COST, MicroEuros::ZERO));
    store.close().await;
}

async fn what_was_not_sent_is_given_back(base: &Base) {
    let store = base.open().await;
    let now = at(0);
    for class in
        [ErrorClass::NotSent, ErrorClass::Permanent, ErrorClass::Temporary, ErrorClass::Misconfigured]
    {
        attempt(&store, Origin::Api, now, Some(Outcome::failed(class, "no"))).await;
        assert_eq!(spend(&store, Origin::Api, now).await.today, MicroEuros::ZERO, "{class:?}");
    }
    attempt(&store, Origin::Api, now, Some(Outcome::failed(ErrorClass::Unknown, "cut off"))).await;
    assert_eq!(spend(&store, Origin::Api, now).await.today, SMS_COST, "it may have arrived");
    let dearer = Outcome::Accepted { provider_message_id: None, cost: Some(MicroEuros(70_000)) };
    attempt(&store, Origin::Api, now, Some(dearer)).await;
    assert_eq!(spend(&store, Origin::Api, now).await.today, MicroEuros(120_000));
    attempt(&store, Origin::Api, now, None).await;
    assert_eq!(spend(&store, Origin::Api, now).await.today, MicroEuros(170_000), "an intent counts at once");
    store.close().await;
}

/// A key of `tenant`'s, in force until `at(1000)`.
pub fn stored(prefix: &str, tenant: &TenantId) -> StoredKey {
    StoredKey {
        prefix: prefix.into(),
        hash: [9; 32],
        tenant: tenant.clone(),
        scopes: vec!["send".into(), "read".into()],
        label: "the shop's server".into(),
        created_at: at(0),
        expires_at: Some(at(1000)),
        revoked_at: None,
    }
}

async fn keys_are_added_listed_and_revoked_once(base: &Base) {
    let store = base.open().await;
    let other = TenantId::parse("other").unwrap();
    let (first, second) = (stored("co_aaaaaaaaa", &tenant()), stored("co_bbbbbbbbb", &other));
    store.add_key(&first).await.unwrap();
    store.add_key(&second).await.unwrap();
    assert!(store.add_key(&first).await.is_err(), "a prefix is one key's");
    assert_eq!(store.keys(None).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.keys(Some(&other)).await.unwrap(), [second]);
    assert_eq!(store.key_by_prefix("co_aaaaaaaaa").await.unwrap(), Some(first));
    assert_eq!(store.key_by_prefix("co_").await.unwrap(), None);
    assert!(store.revoke_key("co_aaaaaaaaa", at(10)).await.unwrap());
    assert!(!store.revoke_key("co_aaaaaaaaa", at(11)).await.unwrap());
    assert!(!store.revoke_key("co_bbbbbbbbb", at(1000)).await.unwrap(), "it ran out by itself");
    let revoked = store.key_by_prefix("co_aaaaaaaaa").await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(10)));
    store.close().await;
}

async fn policy_versions_are_noted_with_their_first_and_last_day(base: &Base) {
    let store = base.open().await;
    let version = PolicyVersion::parse(&"cd".repeat(32)).unwrap();
    store.note_version(&tenant(), &version, at(0)).await.unwrap();
    store.note_version(&tenant(), &version, at(60)).await.unwrap();
    let rows = base.texts("SELECT tenant || ' ' || (last_at - first_at) FROM policy_versions").await;
    assert_eq!(rows, ["agency 60000"]);
    store.close().await;
}

super::on_both!(
    a_suppression_keeps_the_intent_from_being_recorded,
    decisions_are_told_of_suppressions,
    money_is_kept_by_day_month_origin_and_channel,
    what_was_not_sent_is_given_back,
    keys_are_added_listed_and_revoked_once,
    policy_versions_are_noted_with_their_first_and_last_day,
);
