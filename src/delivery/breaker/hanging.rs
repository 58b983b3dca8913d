//! Calls that last longer than anybody should wait, by credential, while they last.
//!
//! A time-out comes late: half a minute over HTTP, ten minutes after a mail's final dot. Before it, a provider that hangs
//! would be handed one message after another. With so many calls hanging, its credential gets no further ones until some
//! of them end, however they do. It judges none of them: what a call came to is told when it is known.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::Breakers;

/// The calls of one credential that hang now.
#[derive(Clone, Debug)]
struct Hung {
    calls: u32,
    /// With so many it gets no further ones.
    most: u32,
    since: DateTime<Utc>,
}

impl Hung {
    fn is_full(&self) -> bool {
        self.calls >= self.most
    }
}

/// Every credential that has calls which hang.
#[derive(Debug, Default)]
pub(super) struct Hanging(BTreeMap<String, Hung>);

impl Hanging {
    /// Why this credential gets no further calls, in words.
    pub(super) fn why_full(&self, credential: &str) -> Option<String> {
        let hung = self.0.get(credential).filter(|hung| hung.is_full())?;
        Some(format!("{credential} does not answer: {} calls wait for it", hung.calls))
    }

    /// The credentials that get no further calls, and since when they have been without an answer.
    pub(super) fn full(&self) -> impl Iterator<Item = (&str, DateTime<Utc>)> {
        self.0
            .iter()
            .filter(|(_, hung)| hung.is_full())
            .map(|(credential, hung)| (credential.as_str(), hung.since))
    }

    /// One call more; whether the credential gets no further ones because of it.
    fn add(&mut self, credential: &str, most: u32, now: DateTime<Utc>) -> bool {
        let none = Hung { calls: 0, most, since: now };
        let hung = self.0.entry(credential.to_owned()).or_insert(none);
        (hung.calls, hung.most) = (hung.calls.saturating_add(1), most);
        hung.calls == most
    }

    fn remove(&mut self, credential: &str) {
        let Some(hung) = self.0.get_mut(credential) else { return };
        hung.calls = hung.calls.saturating_sub(1);
        if hung.calls == 0 {
            self.0.remove(credential);
        }
    }
}

/// A call that hangs, until this is dropped.
#[derive(Debug)]
pub struct HangingCall {
    breakers: Arc<Breakers>,
    credential: String,
}

impl Breakers {
    /// A call through this credential has lasted too long; with `most` of them at once it gets no further ones.
    pub fn hangs(self: &Arc<Self>, credential: &str, most: u32, now: DateTime<Utc>) -> HangingCall {
        if self.lock().hanging.add(credential, most, now) {
            tracing::error!(
                credential,
                calls = most,
                "calls hang: the credential gets no further ones until some end"
            );
        }
        HangingCall { breakers: Arc::clone(self), credential: credential.to_owned() }
    }
}

impl Drop for HangingCall {
    fn drop(&mut self) {
        self.breakers.lock().hanging.remove(&self.credential);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::health::{Health, ShutCause};

    #[test]
    fn with_so_many_calls_hanging_a_credential_gets_no_further_ones_until_one_ends() {
        let (breakers, now) =
            (Arc::<Breakers>::default(), DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let mut calls = vec![breakers.hangs("main", 2, now)];
        assert!(breakers.permit("main", None, now).is_ok() && breakers.is_quiet(), "one of two");
        calls.push(breakers.hangs("main", 2, now));
        let waits = breakers.permit("main", Some("AGENCE"), now).unwrap_err();
        assert_eq!(waits.reason, "main does not answer: 2 calls wait for it");
        assert!(waits.until > now);
        assert_eq!(breakers.down("main", None, now), Some(waits.reason));
        let shut = breakers.shut();
        assert_eq!((shut.len(), shut[0].cause, shut[0].until), (1, ShutCause::Hanging, None));
        assert!(!breakers.is_quiet());
        assert!(breakers.permit("other", None, now).is_ok(), "another credential is not concerned");
        assert_eq!(breakers.down("other", None, now), None);

        calls.pop();
        assert!(breakers.permit("main", None, now).is_ok());
        assert_eq!(
            (breakers.down("main", None, now), breakers.shut(), breakers.is_quiet()),
            (None, vec![], true)
        );
        drop(calls);
        assert!(breakers.lock().hanging.0.is_empty(), "nothing is kept of what is over");
    }
}
