//! What memory says after a commit that certainly did not happen: nothing of what it was to change, until it is read anew.

use super::*;
use crate::domain::message::Origin;

const DAY: &str = "2025-11-14";
const WEEK_BEFORE: i64 = 0;

/// Everything that the change below is about, by its keys.
struct Keys {
    tenant: TenantId,
    person: (TenantId, String),
    month: (TenantId, YearMonth),
    contact: (TenantId, Channel, String),
}

fn keys() -> Keys {
    let tenant = TenantId::parse("acme").unwrap();
    Keys {
        person: (tenant.clone(), "p-1".to_owned()),
        month: (tenant.clone(), YearMonth::of_day(DAY)),
        contact: (tenant.clone(), Channel::Sms, "+33612345678".to_owned()),
        tenant,
    }
}

/// A message to the person, what it cost, its answer, and the opt-in of their number.
fn change(keys: &Keys) -> Notes {
    let mut notes = Notes::default();
    notes.person(MessageId::new(), &keys.tenant, &keys.person.1);
    notes.spent(&keys.tenant, DAY, Channel::Sms, Origin::Api, 50_000);
    notes.rated(&keys.tenant, Channel::Sms, "2025-11", 1, 1);
    notes.contact(&keys.tenant, Channel::Sms, &keys.contact.2);
    notes.refused(Channel::Sms, &keys.contact.2);
    notes
}

/// What each question is answered by memory: sums and flags as numbers; none where the table is to be read.
fn told(recall: &Recall, keys: &Keys) -> [Option<i64>; 5] {
    fn yes(known: Known<i64>) -> Option<i64> {
        if let Known::Yes(answer) = known { Some(answer) } else { None }
    }
    let lately =
        |person: &Person| person.lately(None, WEEK_BEFORE, WEEK_BEFORE).map(|sent| i64::from(sent.week));
    let rate = |rates: &Rates| (rates.average(Channel::Sms, "2025-01") * 100.0) as i64;
    [
        yes(recall.person(&keys.person, lately)),
        yes(recall.month(&keys.month, |month| month.spend(DAY, Origin::Api).today.0)),
        yes(recall.rates(&keys.tenant, rate)),
        match recall.opt_in(&keys.contact) {
            Known::Yes(opted_in) => Some(i64::from(opted_in)),
            _ => None,
        },
        yes(recall.written(&keys.contact, |written| written.weight() as i64)),
    ]
}

/// A ticket for each, as a reader takes them that finds nothing.
fn tickets(recall: &Recall, keys: &Keys) -> Option<[Ticket; 5]> {
    fn ticket<R>(known: Known<R>) -> Option<Ticket> {
        if let Known::Ask(ticket) = known { Some(ticket) } else { None }
    }
    Some([
        ticket(recall.person(&keys.person, |_| Some(())))?,
        ticket(recall.month(&keys.month, |_| ()))?,
        ticket(recall.rates(&keys.tenant, |_| ()))?,
        ticket(recall.opt_in(&keys.contact))?,
        ticket(recall.written(&keys.contact, |_| ()))?,
    ])
}

/// Hands in what the tables say: nothing sent, two cents, half engaged, no opt-in, never written.
fn keep(recall: &Recall, keys: &Keys, tickets: [Ticket; 5]) {
    let (mut month, mut rates) = (Month::default(), Rates::default());
    month.add(DAY, Channel::Sms, Origin::Api, 20_000);
    rates.add(Channel::Sms, "2025-11", (2, 1));
    recall.keep_person(keys.person.clone(), Person::new(WEEK_BEFORE, Vec::new()), tickets[0]);
    recall.keep_month(keys.month.clone(), month, tickets[1]);
    recall.keep_rates(&keys.tenant, rates, tickets[2]);
    recall.keep_opt_in(keys.contact.clone(), false, tickets[3]);
    recall.keep_written(keys.contact.clone(), Written::default(), tickets[4]);
}

const KEPT: [Option<i64>; 5] = [Some(0), Some(20_000), Some(50), Some(0), Some(0)];

fn knowing() -> (Recall, Keys) {
    let (recall, keys) = (Recall::new(0, 0), keys());
    keep(&recall, &keys, tickets(&recall, &keys).unwrap());
    assert_eq!(told(&recall, &keys), KEPT);
    (recall, keys)
}

#[test]
fn what_was_to_change_is_read_anew_and_kept_again() {
    let (recall, keys) = knowing();
    let notes = change(&keys);
    recall.before(&notes);
    recall.undone(&notes);
    // Neither what was before, which may have been read too late to trust, nor what never came to be.
    assert_eq!(told(&recall, &keys), [None; 5]);
    keep(&recall, &keys, tickets(&recall, &keys).unwrap());
    assert_eq!(told(&recall, &keys), KEPT, "a change that is over hinders nobody");
    // And the next change that is committed is seen like any other.
    recall.before(&notes);
    recall.after(&notes);
    assert_eq!(told(&recall, &keys), [None, Some(70_000), Some(66), None, None]);
}

#[test]
fn what_was_read_while_it_was_under_way_is_not_kept() {
    let (recall, keys) = (Recall::new(0, 0), keys());
    let notes = change(&keys);
    recall.before(&notes);
    let under_way = tickets(&recall, &keys).unwrap();
    recall.undone(&notes);
    keep(&recall, &keys, under_way);
    assert_eq!(told(&recall, &keys), [None; 5]);
}

#[test]
fn filters_may_know_of_more_than_there_is_and_never_of_less() {
    let (recall, keys) = (Recall::new(0, 0), keys());
    for filter in [&recall.refused, &recall.written_to, &recall.keys] {
        filter.completed(filter.wanted());
    }
    assert!(recall.never_refused(Channel::Sms, &keys.contact.2));
    let notes = change(&keys);
    recall.before(&notes);
    recall.undone(&notes);
    assert!(!recall.never_refused(Channel::Sms, &keys.contact.2), "it is looked up, and not found");
    assert!(!recall.never_written_to(&keys.tenant, &keys.person.1));
    assert!(recall.never_refused(Channel::Sms, "+33699999999"), "nobody else is concerned");
}

#[test]
fn a_salt_that_is_in_no_table_ends_all_trust() {
    let (recall, keys) = knowing();
    let mut notes = Notes::default();
    notes.salted("salt");
    recall.before(&notes);
    recall.undone(&notes);
    assert_eq!(told(&recall, &keys), [None; 5]);
    assert!(tickets(&recall, &keys).is_none(), "nor is anything kept from now on");
    assert!(!recall.never_used(&keys.tenant, "key"));
}
