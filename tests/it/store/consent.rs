//! Refusals: whom a STOP is about, what undoes it, what an erasure leaves, and that no intent passes one.

use std::sync::Arc;

use channel_orchestrator::{
    domain::{
        address::Address,
        channel::{Channel, PerChannel},
        consent::Meaning,
        delivery::{AttemptError, ErrorClass, NewMessage, Next, Outcome, Status},
        ids::{MessageId, TenantId},
        message::Origin,
        receipt::InboundMessage,
    },
    store::{
        Contacts, Engagement, Heard, Intake, Intent, Knowledge, Queue, Records, SqlStore, SuppressionKey,
        Suppressions,
    },
};
use chrono::{DateTime, Utc};

use super::{
    fixture::{Base, at, begin, claim_one, intent, message, tenant},
    returns::{from, record, sent},
};

const ADDRESS: &str = "+33612345678";
const SENDER: &str = "+33700000000";

fn neighbour() -> TenantId {
    TenantId::parse("neighbour").unwrap()
}

fn said(n: u32, text: &str, when: Option<DateTime<Utc>>) -> InboundMessage {
    InboundMessage {
        channel: Channel::Sms,
        provider_message_id: format!("in{n}"),
        from: ADDRESS.into(),
        to: SENDER.into(),
        text: text.into(),
        at: when,
        answers: None,
    }
}

/// An SMS of this tenant's from this sender.
fn sms(of: &TenantId, sender: Option<&str>) -> NewMessage {
    let mut new = message();
    new.request.tenant = of.clone();
    let plan = new.plan.as_mut().unwrap();
    plan.hops.truncate(1);
    plan.hops[0].from = sender.map(str::to_owned);
    new
}

async fn hear(store: &SqlStore, said: &InboundMessage, now: DateTime<Utc>) -> Heard {
    store.hear(&from(None), said, now).await.unwrap()
}

/// Why an SMS of the tenant's from the sender would not be sent; it is asked by trying, at `now`.
async fn refused(
    store: &SqlStore,
    of: &TenantId,
    sender: Option<&str>,
    now: DateTime<Utc>,
) -> Option<String> {
    store.accept(sms(of, sender)).await.unwrap();
    let claimed = claim_one(store, "w", now).await;
    let given = store.record_intent(&claimed, intent(&claimed, now)).await.unwrap();
    let end = |status| Next::End { status, reason: "tried".into() };
    match given {
        Intent::Suppressed(why) => {
            store.advance(&claimed, &end(Status::Skipped), now).await.unwrap();
            Some(why)
        }
        Intent::Recorded(open) => {
            let outcome = Outcome::failed(ErrorClass::Permanent, "tried");
            store.settle(&claimed, open.id, &outcome, &end(Status::Failed), now).await.unwrap();
            None
        }
        other => panic!("neither recorded nor refused: {other:?}"),
    }
}

/// Whether the decision is told of it too.
async fn decided(store: &SqlStore, of: &TenantId, sender: Option<&str>) -> Option<String> {
    let addresses = PerChannel::only(Channel::Sms, Some(Address::Phone(ADDRESS.into())));
    let senders = PerChannel::from_fn(|_| sender.map(str::to_owned));
    let day = at(0).date_naive();
    store.known_facts(of, &addresses, &senders, Origin::Api, day).await.unwrap().suppressed[Channel::Sms]
        .clone()
}

async fn a_stop_holds_for_the_sender_whoever_uses_it(base: &Base) {
    let store = base.open().await;
    // Nobody ever wrote to this person: they are heard all the same.
    let heard = hear(&store, &said(1, "  Arrêt ! ", None), at(10)).await;
    assert_eq!(heard, Heard::New { meaning: Meaning::Stop, answers: None });
    for tenant in [tenant(), neighbour()] {
        for written in [SENDER, "+33 7 00 00 00 00", "33700000000"] {
            let why = refused(&store, &tenant, Some(written), at(11)).await;
            assert_eq!(why.as_deref(), Some("wrote STOP on 2025-11-15"), "{tenant} from {written}");
            assert!(decided(&store, &tenant, Some(written)).await.is_some());
        }
        assert_eq!(refused(&store, &tenant, Some("+33799999999"), at(11)).await, None, "another number");
        assert_eq!(decided(&store, &tenant, Some("+33799999999")).await, None);
    }
    let log =
        base.texts("SELECT act || ' ' || source || ' ' || proof || ' ' || noted_by FROM consent_log").await;
    assert_eq!(log, ["stop inbound   Arrêt !  agency"], "the proof is what was written");
    assert_eq!(hear(&store, &said(1, "START", None), at(12)).await, Heard::Again, "one message, told twice");
    let heard = hear(&store, &said(2, "start", None), at(20)).await;
    assert_eq!(heard, Heard::New { meaning: Meaning::Start, answers: None });
    for tenant in [tenant(), neighbour()] {
        assert_eq!(refused(&store, &tenant, Some(SENDER), at(21)).await, None);
    }
    let acts = base.texts("SELECT act FROM consent_log ORDER BY at").await;
    assert_eq!(acts, ["stop", "start"]);
    store.close().await;
}

async fn a_near_stop_refuses_and_asks_for_a_look(base: &Base) {
    let store = base.open().await;
    hear(&store, &said(1, "STOP PLEASE", None), at(10)).await;
    let why = refused(&store, &tenant(), Some(SENDER), at(11)).await.unwrap();
    assert!(why.contains("to be reviewed"), "{why}");
    let listed = store.suppressions(Some(&tenant()), None, 10).await.unwrap();
    assert!(listed[0].review && listed[0].proof.as_deref() == Some("STOP PLEASE"));
    store.close().await;
}

/// T19: a provider that brings the messages out of their order.
async fn of_a_stop_and_a_start_the_later_word_counts(base: &Base) {
    let store = base.open().await;
    hear(&store, &said(1, "START", Some(at(20))), at(30)).await;
    hear(&store, &said(2, "STOP", Some(at(10))), at(31)).await;
    assert_eq!(refused(&store, &tenant(), Some(SENDER), at(32)).await, None, "the STOP was said before");
    hear(&store, &said(3, "STOP", Some(at(40))), at(41)).await;
    hear(&store, &said(4, "START", Some(at(35))), at(42)).await;
    assert!(refused(&store, &tenant(), Some(SENDER), at(43)).await.is_some());
    // A clock that runs ahead is not believed: a START "of tomorrow" does not silence a later STOP.
    hear(&store, &said(5, "START", Some(at(86_400))), at(50)).await;
    assert_eq!(refused(&store, &tenant(), Some(SENDER), at(51)).await, None);
    hear(&store, &said(6, "STOP", Some(at(60))), at(61)).await;
    assert!(refused(&store, &tenant(), Some(SENDER), at(62)).await.is_some());
    store.close().await;
}

/// The person sees a number; the policy names a messaging service, a name, or nothing.
async fn senders_that_hide_their_number_are_refused_too(base: &Base) {
    let store = base.open().await;
    for (n, sender) in [Some("MG00ff"), Some("AGENCE"), None].into_iter().enumerate() {
        sent(&store, sms(&tenant(), sender), &format!("ours{n}"), at(0)).await;
    }
    sent(&store, sms(&neighbour(), Some("MGtheirs")), "theirs", at(0)).await;
    hear(&store, &said(1, "STOP", None), at(10)).await;
    for sender in [Some("MG00ff"), Some("AGENCE"), None, Some("MGnew"), Some(SENDER)] {
        assert!(refused(&store, &tenant(), sender, at(11)).await.is_some(), "{sender:?}");
    }
    // Whoever wrote to this person through the same account, from a sender that may be that number.
    assert!(refused(&store, &neighbour(), Some("MGtheirs"), at(11)).await.is_some());
    assert!(refused(&store, &neighbour(), Some("MG00ff"), at(11)).await.is_some());
    assert!(refused(&store, &neighbour(), None, at(11)).await.is_some(), "the driver's own number");
    assert_eq!(refused(&store, &neighbour(), Some("OTHER"), at(11)).await, None);
    hear(&store, &said(2, "REPRENDRE", None), at(20)).await;
    for sender in [Some("MG00ff"), Some("AGENCE"), None, Some(SENDER)] {
        assert_eq!(refused(&store, &tenant(), sender, at(21)).await, None, "{sender:?}");
    }
    assert_eq!(refused(&store, &neighbour(), Some("MGtheirs"), at(21)).await, None);
    store.close().await;
}

/// F44: Twilio's 21610.
async fn a_providers_refusal_is_kept_with_the_outcome(base: &Base) {
    let store = base.open().await;
    store.accept(sms(&tenant(), Some(SENDER))).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let open = begin(&store, &claimed, at(0)).await;
    let error = AttemptError {
        class: ErrorClass::Permanent,
        code: Some("21610".into()),
        detail: "unsubscribed recipient".into(),
    };
    let outcome = Outcome::Failed { error, retry_after_seconds: None };
    let end = Next::End { status: Status::Failed, reason: "21610".into() };
    store.settle(&claimed, open, &outcome, &end, at(1)).await.unwrap();
    assert!(refused(&store, &neighbour(), Some(SENDER), at(2)).await.is_some());
    assert_eq!(base.texts("SELECT act || ' ' || source FROM consent_log").await, ["refused provider"]);
    hear(&store, &said(1, "START", None), at(10)).await;
    assert_eq!(refused(&store, &neighbour(), Some(SENDER), at(11)).await, None);
    store.close().await;
}

async fn replies_are_engagement_and_stops_are_not(base: &Base) {
    let store = base.open().await;
    let (first, _) = sent(&store, sms(&tenant(), Some(SENDER)), "SM1", at(0)).await;
    let (last, _) = sent(&store, sms(&tenant(), Some(SENDER)), "SM2", at(5)).await;
    sent(&store, sms(&tenant(), Some("+33799999999")), "SM3", at(6)).await;
    sent(&store, sms(&neighbour(), Some(SENDER)), "SM4", at(7)).await;
    let heard = hear(&store, &said(1, "Merci, à demain", None), at(10)).await;
    assert_eq!(heard, Heard::New { meaning: Meaning::Other, answers: Some(last) });
    let named = InboundMessage { answers: Some("SM1".into()), ..said(2, "Oui", None) };
    assert_eq!(
        hear(&store, &named, at(11)).await,
        Heard::New { meaning: Meaning::Other, answers: Some(first) }
    );
    let stop = hear(&store, &said(3, "STOP", None), at(12)).await;
    assert_eq!(stop, Heard::New { meaning: Meaning::Stop, answers: Some(last) });
    let engaged =
        base.texts("SELECT message_id FROM engagement WHERE name = 'replied' ORDER BY first_at").await;
    assert_eq!(engaged, [last.to_string(), first.to_string()]);
    let shown = record(&store, last).await;
    let events: Vec<&str> = shown.timeline.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(events, ["accepted", "attempt", "sent", "replied", "opted_out"]);
    store.close().await;
}

async fn the_window_and_the_opt_in_follow_what_is_written(base: &Base) {
    let store = base.open().await;
    let address = Address::Phone(ADDRESS.into());
    let addresses = PerChannel::only(Channel::WhatsApp, Some(address.clone()));
    let window = async |of: &TenantId, sender: Option<&str>, now| {
        store.in_service_window(of, Channel::WhatsApp, &address, sender, now).await.unwrap()
    };
    assert!(!window(&tenant(), Some(SENDER), at(0)).await);
    assert_eq!(store.opt_ins(&tenant(), &addresses).await.unwrap()[Channel::WhatsApp], None);
    let hello = InboundMessage {
        channel: Channel::WhatsApp,
        from: "33612345678".into(),
        to: "whatsapp:+33700000000".into(),
        ..said(1, "Bonjour", Some(at(0)))
    };
    hear(&store, &hello, at(1)).await;
    assert!(window(&tenant(), Some(SENDER), at(86_399)).await && window(&tenant(), None, at(86_399)).await);
    assert!(!window(&tenant(), Some("+33799999999"), at(5)).await, "another number of ours");
    assert!(!window(&neighbour(), Some(SENDER), at(5)).await);
    assert!(!window(&tenant(), Some(SENDER), at(86_400)).await, "24 hours are over");
    assert_eq!(store.opt_ins(&tenant(), &addresses).await.unwrap()[Channel::WhatsApp], Some(true));
    assert_eq!(store.opt_ins(&neighbour(), &addresses).await.unwrap()[Channel::WhatsApp], None);
    let stop =
        InboundMessage { provider_message_id: "in2".into(), text: "STOP".into(), at: None, ..hello.clone() };
    hear(&store, &stop, at(10)).await;
    assert_eq!(store.opt_ins(&tenant(), &addresses).await.unwrap()[Channel::WhatsApp], None);
    let agreed = "signed on the site";
    store.record_opt_in(&neighbour(), Channel::WhatsApp, &address, agreed, at(11)).await.unwrap();
    assert_eq!(store.opt_ins(&neighbour(), &addresses).await.unwrap()[Channel::WhatsApp], Some(true));
    store.withdraw_opt_in(&neighbour(), Channel::WhatsApp, &address, at(12)).await.unwrap();
    assert_eq!(store.opt_ins(&neighbour(), &addresses).await.unwrap()[Channel::WhatsApp], None);
    store.close().await;
}

async fn a_bot_that_was_blocked_is_not_written_from(base: &Base) {
    let store = base.open().await;
    let telegram = |of: &TenantId| {
        let mut new = sms(of, None);
        let hop = &mut new.plan.as_mut().unwrap().hops[0];
        (hop.channel, hop.address) = (Channel::Telegram, Address::Chat("4711".into()));
        new
    };
    let try_one = async |of: &TenantId, now| {
        store.accept(telegram(of)).await.unwrap();
        let claimed = claim_one(&store, "w", now).await;
        let given = store.record_intent(&claimed, intent(&claimed, now)).await.unwrap();
        let (free, end) = (
            matches!(given, Intent::Recorded(_)),
            Next::End { status: Status::Skipped, reason: "tried".into() },
        );
        match given {
            Intent::Recorded(open) => {
                let outcome = Outcome::failed(ErrorClass::NotSent, "tried");
                store.settle(&claimed, open.id, &outcome, &end, now).await.unwrap();
            }
            _ => store.advance(&claimed, &end, now).await.unwrap(),
        }
        free
    };
    store.note_block(&from(None), Channel::Telegram, "4711", true, at(0)).await.unwrap();
    assert!(!try_one(&tenant(), at(1)).await && !try_one(&neighbour(), at(2)).await, "one bot, two tenants");
    store.note_block(&from(None), Channel::Telegram, "4711", false, at(3)).await.unwrap();
    assert!(try_one(&tenant(), at(4)).await && try_one(&neighbour(), at(5)).await);
    store.close().await;
}

async fn unsubscribing_refuses_the_tenants_mail(base: &Base) {
    let store = base.open().await;
    let mut new = message();
    new.plan.as_mut().unwrap().hops.reverse();
    let (id, _) = sent(&store, new, "mail", at(0)).await;
    assert_eq!(store.unsubscribe(id, at(10)).await.unwrap(), Some(tenant()));
    assert_eq!(store.unsubscribe(id, at(11)).await.unwrap(), Some(tenant()), "again, it is the same");
    assert_eq!(store.unsubscribe(MessageId::new(), at(11)).await.unwrap(), None);
    let key = SuppressionKey {
        address: Address::Email("zoe@example.fr".into()),
        channel: Channel::Email,
        sender: Some("news@example.fr".into()),
        tenant: Some(tenant()),
    };
    assert_eq!(store.refusals_of(&key).await.unwrap().len(), 1);
    let elsewhere = SuppressionKey { tenant: Some(neighbour()), ..key };
    assert_eq!(store.refusals_of(&elsewhere).await.unwrap(), []);
    let shown = record(&store, id).await;
    assert_eq!(shown.timeline.iter().filter(|e| e.event == "unsubscribed").count(), 1);
    store.close().await;
}

fn key(n: u32, of: Option<TenantId>) -> SuppressionKey {
    let address = Address::Phone(format!("+3361234{n:04}"));
    SuppressionKey { address, channel: Channel::Sms, sender: None, tenant: of }
}

async fn tenants_keep_their_own_lists(base: &Base) {
    let store = base.open().await;
    for n in 0..25 {
        assert!(store.suppress(&key(n, Some(tenant())), "asked by telephone", None, at(1)).await.unwrap());
    }
    assert!(!store.suppress(&key(3, Some(tenant())), "again", None, at(2)).await.unwrap());
    store.suppress(&key(3, Some(neighbour())), "theirs", None, at(2)).await.unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.suppressions(Some(&tenant()), after.as_ref(), 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        seen.extend(page.into_iter().map(|row| row.address));
    }
    let expected: Vec<String> = (0..25).map(|n| format!("+3361234{n:04}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(store.suppressions(None, None, 500).await.unwrap().len(), 26);
    assert_eq!(store.lift(&key(3, Some(neighbour())), "asked to", at(3)).await.unwrap(), 1);
    assert_eq!(store.refusals_of(&key(3, Some(tenant()))).await.unwrap().len(), 1, "ours still holds");
    assert_eq!(store.lift(&key(3, Some(tenant())), "asked to", at(4)).await.unwrap(), 1);
    assert_eq!(store.lift(&key(3, Some(tenant())), "asked to", at(5)).await.unwrap(), 0);
    store.close().await;
}

/// T40: an erasure forgets the person, not the refusal.
async fn an_erased_address_stays_refused(base: &Base) {
    let store = base.open().await;
    hear(&store, &said(1, "STOP", None), at(10)).await;
    let address = Address::Phone(ADDRESS.into());
    store.forget_address(&tenant(), Channel::Sms, &address).await.unwrap();
    store.forget_address(&tenant(), Channel::Sms, &address).await.unwrap();
    for table in ["suppressions", "consent_log", "contacts", "inbound"] {
        let sql = format!("SELECT address FROM {table} WHERE address LIKE '%612345678%'");
        assert_eq!(base.texts(&sql).await, Vec::<String>::new(), "{table}");
    }
    assert!(refused(&store, &tenant(), Some(SENDER), at(11)).await.is_some());
    assert!(refused(&store, &neighbour(), Some(SENDER), at(11)).await.is_some());
    assert!(decided(&store, &tenant(), Some(SENDER)).await.is_some());
    let listed = store.suppressions(Some(&tenant()), None, 10).await.unwrap();
    assert!(listed[0].address.starts_with('#') && listed[0].proof.is_none());
    let key = SuppressionKey { address, channel: Channel::Sms, sender: None, tenant: Some(tenant()) };
    assert_eq!(store.refusals_of(&key).await.unwrap().len(), 1);
    assert_eq!(store.lift(&key, "asked to, in writing", at(20)).await.unwrap(), 1);
    assert_eq!(refused(&store, &tenant(), Some(SENDER), at(21)).await, None);
    store.close().await;
}

/// I3, 200 times: an intent and a STOP set out together; whichever commits first, nothing begins after the STOP.
async fn no_intent_passes_a_stop(base: &Base) {
    let store = base.open().await;
    let beside = if base.is_postgres() { base.open().await } else { Arc::clone(&store) };
    let (mut before, mut after) = (0, 0);
    for round in 0..200_u32 {
        let mut new = sms(&tenant(), Some(SENDER));
        let person = Address::Phone(format!("+3369{round:07}"));
        new.plan.as_mut().unwrap().hops[0].address = person.clone();
        store.accept(new).await.unwrap();
        let claimed = claim_one(&store, "w", at(0)).await;
        let stop = InboundMessage { from: person.as_str().into(), ..said(round, "STOP", None) };
        let listening = Arc::clone(&beside);
        let stopping = tokio::spawn(async move {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            listening.hear(&from(None), &stop, at(5)).await.unwrap();
        });
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        // Half of them by a clock that is past the moment at which the STOP came in: it is the commits that count.
        let begun = at(if round % 2 == 0 { 1 } else { 6 });
        let given = store.record_intent(&claimed, intent(&claimed, begun)).await.unwrap();
        stopping.await.unwrap();
        // What began, began before; from now on nothing begins.
        let end = |status| Next::End { status, reason: "tried".into() };
        match given {
            Intent::Recorded(open) => {
                before += 1;
                let outcome = Outcome::failed(ErrorClass::NotSent, "tried");
                let again = Next::RetryAt { at: at(2), reason: "tried".into() };
                store.settle(&claimed, open.id, &outcome, &again, at(2)).await.unwrap();
                let claimed = claim_one(&store, "w", at(6)).await;
                let given = store.record_intent(&claimed, intent(&claimed, at(6))).await.unwrap();
                assert!(matches!(given, Intent::Suppressed(_)), "{given:?}");
                store.advance(&claimed, &end(Status::Skipped), at(6)).await.unwrap();
            }
            Intent::Suppressed(_) => {
                after += 1;
                store.advance(&claimed, &end(Status::Skipped), at(6)).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(before + after, 200);
    println!("{before} intents came before their STOP, {after} after it");
    assert!(store.count_by_status().await.unwrap() == [(Status::Skipped, 200)]);
    store.close().await;
    base.audit().await;
}

/// `audit` accused a daemon in which a STOP, taken in at one moment, was committed behind an intent of a later moment.
async fn a_stop_that_waits_behind_an_intent_is_no_breach(base: &Base) {
    let store = base.open().await;
    store.accept(sms(&tenant(), Some(SENDER))).await.unwrap();
    let claimed = claim_one(&store, "w", at(4)).await;
    let given = store.record_intent(&claimed, intent(&claimed, at(4))).await.unwrap();
    let Intent::Recorded(open) = given else { panic!("{given:?}") };
    hear(&store, &said(1, "STOP", None), at(3)).await;
    let outcome = Outcome::failed(ErrorClass::NotSent, "tried");
    let again = Next::RetryAt { at: at(5), reason: "tried".into() };
    store.settle(&claimed, open.id, &outcome, &again, at(5)).await.unwrap();
    let key = SuppressionKey {
        address: Address::Phone(ADDRESS.into()),
        channel: Channel::Sms,
        sender: None,
        tenant: Some(tenant()),
    };
    let refusals = store.refusals_of(&key).await.unwrap();
    assert_eq!(refusals.iter().map(|refusal| refusal.at).collect::<Vec<_>>(), [at(4)]);
    let claimed = claim_one(&store, "w", at(6)).await;
    let given = store.record_intent(&claimed, intent(&claimed, at(6))).await.unwrap();
    assert!(matches!(given, Intent::Suppressed(_)), "{given:?}");
    let skipped = Next::End { status: Status::Skipped, reason: "tried".into() };
    store.advance(&claimed, &skipped, at(6)).await.unwrap();
    store.close().await;
    base.audit().await;
}

super::on_both!(
    a_stop_holds_for_the_sender_whoever_uses_it,
    a_near_stop_refuses_and_asks_for_a_look,
    of_a_stop_and_a_start_the_later_word_counts,
    senders_that_hide_their_number_are_refused_too,
    a_providers_refusal_is_kept_with_the_outcome,
    replies_are_engagement_and_stops_are_not,
    the_window_and_the_opt_in_follow_what_is_written,
    a_bot_that_was_blocked_is_not_written_from,
    unsubscribing_refuses_the_tenants_mail,
    tenants_keep_their_own_lists,
    an_erased_address_stays_refused,
    no_intent_passes_a_stop,
    a_stop_that_waits_behind_an_intent_is_no_breach,
);
