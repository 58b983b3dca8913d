//! What decisions are made from, kept in memory: most decisions read nothing from the database.
//!
//! For a daemon that is alone on its database, which the embedded one is: whoever writes is this process's writer, and
//! it tells what it changed before it acknowledges (`Notes`). With PostgreSQL other replicas write too, so that nothing
//! is kept there. The transaction of an intent never asks here: gates are read again from the tables.
//!
//! * Who never refused, who never was written to and which keys were never used is known by filters that only grow
//!   (`filter`).
//! * What was sent to a person, money, rates, opt-ins and when people last wrote are kept by key, bounded, and exact (`kept`).
//! * What another program writes beside the daemon (`orchestrator keys`, somebody's SQL) is noticed with the next commit,
//!   within seconds, and everything is read anew.

mod facts;
mod filter;
mod kept;
mod load;
mod notes;

use std::{
    hash::BuildHasher,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub(super) use self::{
    facts::{Month, Person, Rates, Sent, YearMonth},
    load::Loader,
    notes::Notes,
};
use self::{
    filter::Filter,
    kept::{Kept, Token},
    notes::Spent,
};
use super::{
    database::{Fault, Link, values},
    queue::of_ids,
    refusals, rows,
    service_window::Written,
};
use crate::domain::{
    channel::Channel,
    ids::{MessageId, TenantId},
};

/// Bounds, in about 64 bytes each: what was sent to people, months of money, tenants' rates, opt-ins, when people wrote.
const PEOPLE_ROOM: usize = 1 << 18;
const MONEY_ROOM: usize = 1 << 18;
const RATES_ROOM: usize = 1 << 17;
const OPT_INS_ROOM: usize = 1 << 17;
const WRITTEN_ROOM: usize = 1 << 17;
/// Members that a filter has room for at least, and at most: 256 KiB to 16 MiB.
const FILTER_ROOM: (u64, u64) = (1 << 18, 1 << 24);

/// Messages whose people one statement finds.
const PEOPLE_AT_ONCE: usize = 256;

/// What is known without asking the database.
pub(super) struct Recall {
    refused: Filter,
    /// Erased addresses are refused by their hash with this salt, once there is one.
    salt: OnceLock<String>,
    written_to: Filter,
    /// Idempotency keys, by tenant.
    keys: Filter,
    people: Kept<(TenantId, String), Person>,
    money: Kept<(TenantId, YearMonth), Month>,
    rates: Kept<TenantId, Rates>,
    opt_ins: Kept<(TenantId, Channel, String), bool>,
    written: Kept<(TenantId, Channel, String), Written>,
    /// Off for good once a commit failed: the process stops then.
    trusted: AtomicBool,
}

/// What memory says: an answer, or where to put what the database says.
pub(super) enum Known<R> {
    Yes(R),
    /// Read it, and hand it in with this.
    Ask(Ticket),
    /// Read it, and do not hand it in.
    No,
}

/// Goes with what is read to where it is kept.
#[derive(Clone, Copy)]
pub(super) struct Ticket(Token);

impl Recall {
    /// For a database with about so many messages and refusals.
    pub(super) fn new(messages: u64, refusals: u64) -> Self {
        let room = |known: u64| known.saturating_mul(2).clamp(FILTER_ROOM.0, FILTER_ROOM.1);
        Self {
            refused: Filter::new(room(refusals)),
            salt: OnceLock::new(),
            written_to: Filter::new(room(messages)),
            keys: Filter::new(room(messages)),
            people: Kept::new(PEOPLE_ROOM),
            money: Kept::new(MONEY_ROOM),
            rates: Kept::new(RATES_ROOM),
            opt_ins: Kept::new(OPT_INS_ROOM),
            written: Kept::new(WRITTEN_ROOM),
            trusted: AtomicBool::new(true),
        }
    }

    /// Nobody ever refused at this address, to anyone.
    pub(super) fn never_refused(&self, channel: Channel, address: &str) -> bool {
        let unknown = |address: &str| self.refused.lacks(&(channel, address));
        self.is_trusted()
            && unknown(address)
            && self.salt.get().is_none_or(|salt| unknown(&refusals::hash(salt, address)))
    }

    /// No message was ever accepted with this key.
    pub(super) fn never_used(&self, tenant: &TenantId, key: &str) -> bool {
        self.is_trusted() && self.keys.lacks(&(tenant, key))
    }

    /// What was sent to a person; `with` says none where it would need older messages than are kept.
    pub(super) fn person<R>(
        &self,
        who: &(TenantId, String),
        with: impl Fn(&Person) -> Option<R>,
    ) -> Known<R> {
        if !self.is_trusted() {
            return Known::No;
        }
        if self.written_to.lacks(who)
            && let Some(answer) = with(&Person::nobody())
        {
            return Known::Yes(answer);
        }
        known(self.people.ask(who, with))
    }

    pub(super) fn keep_person(&self, who: (TenantId, String), person: Person, ticket: Ticket) {
        let weight = 2 + person.weight();
        self.people.put(who, person, weight, ticket.0);
    }

    /// Nobody of that name was ever written to, as far as anybody could have noted.
    pub(super) fn never_written_to(&self, tenant: &TenantId, recipient: &str) -> bool {
        self.is_trusted() && self.written_to.lacks(&(tenant, recipient))
    }

    /// A tenant's money of a month.
    pub(super) fn month<R>(&self, month: &(TenantId, YearMonth), with: impl Fn(&Month) -> R) -> Known<R> {
        self.if_trusted(|| known(self.money.ask(month, |m| Some(with(m)))))
    }

    pub(super) fn keep_month(&self, key: (TenantId, YearMonth), month: Month, ticket: Ticket) {
        let weight = 2 + month.weight();
        self.money.put(key, month, weight, ticket.0);
    }

    /// How a tenant's recipients answer.
    pub(super) fn rates<R>(&self, tenant: &TenantId, with: impl Fn(&Rates) -> R) -> Known<R> {
        self.if_trusted(|| known(self.rates.ask(tenant, |r| Some(with(r)))))
    }

    pub(super) fn keep_rates(&self, tenant: &TenantId, rates: Rates, ticket: Ticket) {
        let weight = 2 + rates.weight();
        self.rates.put(tenant.clone(), rates, weight, ticket.0);
    }

    /// Whether the tenant has an opt-in of this address on record.
    pub(super) fn opt_in(&self, key: &(TenantId, Channel, String)) -> Known<bool> {
        self.if_trusted(|| known(self.opt_ins.ask(key, |yes| Some(*yes))))
    }

    pub(super) fn keep_opt_in(&self, key: (TenantId, Channel, String), yes: bool, ticket: Ticket) {
        self.opt_ins.put(key, yes, 2, ticket.0);
    }

    /// When a person last wrote to the tenant's senders.
    pub(super) fn written<R>(
        &self,
        key: &(TenantId, Channel, String),
        with: impl Fn(&Written) -> R,
    ) -> Known<R> {
        self.if_trusted(|| known(self.written.ask(key, |written| Some(with(written)))))
    }

    pub(super) fn keep_written(&self, key: (TenantId, Channel, String), written: Written, ticket: Ticket) {
        let weight = 2 + written.weight();
        self.written.put(key, written, weight, ticket.0);
    }

    /// What is about to be committed.
    pub(super) fn before(&self, notes: &Notes) {
        for (channel, address) in &notes.refused {
            self.refused.add(&(*channel, address.as_str()));
        }
        if let Some(salt) = &notes.salt {
            // The first one stays, in the table as here.
            let _ = self.salt.set(salt.clone());
        }
        for (tenant, key) in &notes.keys {
            self.keys.add(&(tenant, key.as_str()));
        }
        for who in &notes.people {
            self.written_to.add(who);
            self.people.begin(who);
        }
        for (tenant, sums) in &notes.spent {
            months(sums.keys()).for_each(|month| self.money.begin(&(tenant.clone(), month)));
        }
        notes.rated.keys().for_each(|tenant| self.rates.begin(tenant));
        for key in &notes.contacts {
            self.opt_ins.begin(key);
            self.written.begin(key);
        }
    }

    /// It is committed: nobody who asks from now on is told what was before.
    pub(super) fn after(&self, notes: &Notes) {
        for who in &notes.people {
            self.people.end(who, |_| false);
        }
        for (tenant, sums) in &notes.spent {
            for month in months(sums.keys()) {
                let of_month = sums.iter().filter(|(row, _)| YearMonth::of_day(&row.day) == month);
                self.money.end(&(tenant.clone(), month), |kept| {
                    of_month.for_each(|(row, by)| kept.add(&row.day, row.channel, row.origin, *by));
                    true
                });
            }
        }
        for (tenant, sums) in &notes.rated {
            self.rates.end(tenant, |kept| {
                sums.iter().for_each(|(row, by)| kept.add(row.channel, &row.month, *by));
                true
            });
        }
        for key in &notes.contacts {
            self.opt_ins.end(key, |_| false);
            self.written.end(key, |_| false);
        }
    }

    /// It is certainly not committed: what was about to change is read anew, and filters may know more than there is.
    pub(super) fn undone(&self, notes: &Notes) {
        notes.people.iter().for_each(|who| self.people.end(who, |_| false));
        for (tenant, sums) in &notes.spent {
            months(sums.keys()).for_each(|month| self.money.end(&(tenant.clone(), month), |_| false));
        }
        notes.rated.keys().for_each(|tenant| self.rates.end(tenant, |_| false));
        for key in &notes.contacts {
            self.opt_ins.end(key, |_| false);
            self.written.end(key, |_| false);
        }
        if notes.salt.is_some() {
            // The salt that is known here is in no table, and the next one would be another.
            self.distrust();
        }
    }

    /// Somebody else wrote to the database: what is kept is read anew.
    pub(super) fn forget(&self) {
        self.refused.doubt();
        self.written_to.doubt();
        self.keys.doubt();
        self.people.clear();
        self.money.clear();
        self.rates.clear();
        self.opt_ins.clear();
        self.written.clear();
    }

    /// Nobody knows what was committed: nothing that is kept is worth anything.
    pub(super) fn distrust(&self) {
        self.trusted.store(false, Ordering::Release);
    }

    fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    fn if_trusted<R>(&self, ask: impl FnOnce() -> Known<R>) -> Known<R> {
        if self.is_trusted() { ask() } else { Known::No }
    }
}

/// Finds the people of the messages that were noted by their ids alone.
pub(super) async fn find_people(link: &mut Link<'_>) -> Result<(), Fault> {
    let ids: Vec<MessageId> = std::mem::take(&mut link.notes().messages).into_iter().collect();
    for ids in ids.chunks(PEOPLE_AT_ONCE) {
        let sql = "SELECT id, tenant, recipient FROM messages WHERE id";
        for row in of_ids(link, sql, ids, "").await? {
            let id = rows::parsed(row.text(0)?, MessageId::parse)?;
            // Memory knows nobody under a name that is none any more: the disk has damaged it.
            let Ok(tenant) = rows::parsed(row.text(1)?, TenantId::parse) else { continue };
            link.notes().person(id, &tenant, &row.text(2)?);
        }
    }
    Ok(())
}

/// A message is another person's from now on.
pub(super) async fn renamed(link: &mut Link<'_>, id: MessageId, recipient: &str) -> Result<(), Fault> {
    let sql = "SELECT tenant, recipient FROM messages WHERE id = $1";
    let Some(row) = link.row(sql, values![id]).await? else { return Ok(()) };
    let tenant = rows::parsed(row.text(0)?, TenantId::parse)?;
    for who in [&row.text(1)?, recipient] {
        link.notes().person(id, &tenant, who);
    }
    Ok(())
}

/// Hashes that nobody can foresee, by keys that the system gave.
fn seeded() -> ahash::RandomState {
    let system = std::hash::RandomState::new();
    let key = |n: u64| system.hash_one(n);
    ahash::RandomState::with_seeds(key(0), key(1), key(2), key(3))
}

fn known<R>(asked: Result<Option<R>, Token>) -> Known<R> {
    match asked {
        Ok(Some(answer)) => Known::Yes(answer),
        Ok(None) => Known::No,
        Err(token) => Known::Ask(Ticket(token)),
    }
}

/// Each month of these days once: a transaction may span midnight.
fn months<'a>(rows: impl Iterator<Item = &'a Spent>) -> impl Iterator<Item = YearMonth> {
    let mut months: Vec<YearMonth> = rows.map(|row| YearMonth::of_day(&row.day)).collect();
    months.dedup();
    months.into_iter()
}

#[cfg(test)]
mod tests;
