//! What a transaction changes of what decisions are made from, noted by whoever changes it.
//!
//! A statement that changes one of these tables and is not noted would leave an old fact in memory: in debug builds
//! every operation is checked for that (`Notes::settle_up`), so that a test that runs it fails. Nothing is looked up or
//! decided here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::domain::{
    channel::Channel,
    ids::{IdempotencyKey, MessageId, TenantId},
    message::Origin,
};

/// Kinds of what is noted, one bit each: what a statement owes and what a note pays.
const PEOPLE: u8 = 1;
const REFUSALS: u8 = 2;
const MONEY: u8 = 4;
const RATES: u8 = 8;
const CONTACTS: u8 = 16;
const KEYS: u8 = 32;

/// A change of what a tenant spent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Spent {
    pub(super) day: String,
    pub(super) channel: Channel,
    pub(super) origin: Origin,
}

/// A change of how a tenant's recipients answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rated {
    pub(super) channel: Channel,
    pub(super) month: String,
}

/// What one transaction changes.
#[derive(Default)]
pub(in crate::store) struct Notes {
    /// Messages whose people are to be found out before the commit.
    pub(super) messages: BTreeSet<MessageId>,
    /// Messages whose people are known already.
    pub(super) known: HashSet<MessageId>,
    pub(super) people: HashSet<(TenantId, String)>,
    pub(super) keys: Vec<(TenantId, IdempotencyKey)>,
    pub(super) refused: Vec<(Channel, String)>,
    pub(super) salt: Option<String>,
    pub(super) spent: BTreeMap<TenantId, BTreeMap<Spent, i64>>,
    /// Of that, what is not in its table yet.
    unwritten: BTreeMap<(TenantId, Spent), i64>,
    pub(super) rated: BTreeMap<TenantId, BTreeMap<Rated, (i64, i64)>>,
    pub(super) contacts: HashSet<(TenantId, Channel, String)>,
    owed: u8,
    paid: u8,
}

impl Notes {
    /// The message's status, channel or engagement changed; its person is found by its id.
    pub(in crate::store) fn message(&mut self, id: MessageId) {
        self.paid |= PEOPLE;
        if !self.known.contains(&id) {
            self.messages.insert(id);
        }
    }

    /// The same where the person is at hand, or is not the message's any more afterwards.
    pub(in crate::store) fn person(&mut self, id: MessageId, tenant: &TenantId, recipient: &str) {
        self.paid |= PEOPLE;
        self.messages.remove(&id);
        self.known.insert(id);
        self.people.insert((tenant.clone(), recipient.to_owned()));
    }

    /// A statement on messages that moves none of what decisions are made from.
    pub(in crate::store) fn nobody(&mut self) {
        self.paid |= PEOPLE;
    }

    /// A message is accepted with this key.
    pub(in crate::store) fn key(&mut self, tenant: &TenantId, key: &IdempotencyKey) {
        self.paid |= KEYS;
        self.keys.push((tenant.clone(), key.clone()));
    }

    /// Somebody refuses. Taking refusals back need not be noted: who once refused is looked up each time.
    pub(in crate::store) fn refused(&mut self, channel: Channel, address: &str) {
        self.paid |= REFUSALS;
        self.refused.push((channel, address.to_owned()));
    }

    /// Erased addresses are known by their hash with this salt.
    pub(in crate::store) fn salted(&mut self, salt: &str) {
        self.salt = Some(salt.to_owned());
    }

    pub(in crate::store) fn spent(
        &mut self,
        tenant: &TenantId,
        day: &str,
        channel: Channel,
        origin: Origin,
        by: i64,
    ) {
        self.paid |= MONEY;
        let row = Spent { day: day.to_owned(), channel, origin };
        *self.spent.entry(tenant.clone()).or_default().entry(row.clone()).or_default() += by;
        *self.unwritten.entry((tenant.clone(), row)).or_default() += by;
    }

    pub(in crate::store) fn rated(
        &mut self,
        tenant: &TenantId,
        channel: Channel,
        month: &str,
        received: i64,
        engaged: i64,
    ) {
        self.paid |= RATES;
        let row = Rated { channel, month: month.to_owned() };
        let sum = self.rated.entry(tenant.clone()).or_default().entry(row).or_default();
        *sum = (sum.0 + received, sum.1 + engaged);
    }

    /// What was spent and is not written down yet: whoever takes it writes it.
    pub(in crate::store) fn unwritten_spend(&mut self) -> Vec<(TenantId, String, Channel, Origin, i64)> {
        self.paid |= MONEY;
        let taken = std::mem::take(&mut self.unwritten).into_iter();
        taken.map(|((tenant, row), by)| (tenant, row.day, row.channel, row.origin, by)).collect()
    }

    /// The changes of rates, to be written down.
    pub(in crate::store) fn rates(&mut self) -> Vec<(TenantId, Channel, String, (i64, i64))> {
        self.paid |= RATES;
        let each = self.rated.iter().flat_map(|(tenant, sums)| sums.iter().map(move |sum| (tenant, sum)));
        each.map(|(tenant, (row, by))| (tenant.clone(), row.channel, row.month.clone(), *by)).collect()
    }

    /// What is known of this person's writing to the tenant changes: an opt-in, a message.
    pub(in crate::store) fn contact(&mut self, tenant: &TenantId, channel: Channel, address: &str) {
        self.paid |= CONTACTS;
        self.contacts.insert((tenant.clone(), channel, address.to_owned()));
    }

    /// A statement changed that many rows: what it owes is to be noted before the operation ends.
    pub(in crate::store) fn changed(&mut self, sql: &str, rows: usize) {
        if cfg!(debug_assertions) && rows > 0 {
            self.owed |= owed(sql);
        }
    }

    /// An operation is at its end: what it changed is noted.
    pub(in crate::store) fn settle_up(&mut self) {
        let (owed, paid) = (std::mem::take(&mut self.owed), std::mem::take(&mut self.paid));
        debug_assert!(
            owed & !paid == 0,
            "an operation changed what decisions are made from and did not note it: {owed:#b} owed, {paid:#b} noted"
        );
    }
}

/// The kinds that a statement changes.
fn owed(sql: &str) -> u8 {
    let writes = |table: &str| {
        ["INSERT INTO", "UPDATE", "DELETE FROM"].iter().any(|verb| {
            sql.match_indices(&format!("{verb} {table}")).any(|(at, found)| {
                !sql[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let moves_people = || {
        !sql.contains("UPDATE messages")
            || ["status =", "engaged =", "sent_via =", "recipient =", "accepted_at =", "kind ="]
                .iter()
                .any(|column| sql.contains(column))
    };
    let mut owed = 0;
    if writes("messages") && moves_people() {
        owed |= PEOPLE;
    }
    if writes("suppressions") && !sql.contains("DELETE FROM suppressions") {
        owed |= REFUSALS;
    }
    if writes("idempotency_keys") && !sql.contains("DELETE FROM idempotency_keys") {
        owed |= KEYS;
    }
    if writes("spend") {
        owed |= MONEY;
    }
    if writes("engagement_rates") {
        owed |= RATES;
    }
    // What is forgotten by its age is older than anything that is asked for.
    if writes("contacts") && !sql.contains("opted_in_at IS NULL") {
        owed |= CONTACTS;
    }
    owed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_owes_what_it_changes() {
        for (sql, kinds) in [
            ("INSERT INTO messages (id) VALUES ($1)", PEOPLE),
            ("UPDATE messages SET status = 'sent' WHERE id = $1", PEOPLE),
            ("UPDATE messages SET due_at = $1 WHERE id = $2", 0),
            ("WITH picked AS (SELECT 1) UPDATE messages SET status = 'sending'", PEOPLE),
            ("DELETE FROM messages WHERE id IN ($1)", PEOPLE),
            ("INSERT INTO suppressions (address) SELECT 1 FROM suppressions", REFUSALS),
            ("DELETE FROM suppressions WHERE address = $1", 0),
            ("INSERT INTO spend (tenant) VALUES ($1)", MONEY),
            ("INSERT INTO engagement (message_id) VALUES ($1)", 0),
            ("INSERT INTO engagement_rates (tenant) VALUES ($1)", RATES),
            ("UPDATE contacts SET opted_in_at = NULL", CONTACTS),
            ("SELECT status FROM messages WHERE id = $1", 0),
        ] {
            assert_eq!(owed(sql), kinds, "{sql}");
        }
    }

    #[test]
    #[should_panic(expected = "did not note it")]
    #[cfg(debug_assertions)]
    fn an_operation_that_forgets_to_note_is_found_out() {
        let mut notes = Notes::default();
        notes.changed("INSERT INTO spend (tenant) VALUES ($1)", 1);
        notes.nobody();
        notes.settle_up();
    }
}
