//! Circuit breakers: a credential whose calls fail is let alone for a while, one that is refused is paused, and one
//! probe at a time finds out whether it works again; then calls come back by a ramp (reliability.md F42, F43).
//!
//! What a provider refuses for good is no failure of its own, and what it asked us to wait for is none either. A pause
//! for a refused credential holds for the sender it was refused with, so that one tenant's wrong number stops no other;
//! refused with several, it holds for all. It decides nothing about a message: whoever is not let through waits or goes elsewhere. State is this process's own;
//! after a restart it is found out anew.

mod hanging;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};

use self::hanging::Hanging;
use super::window::Window;
use crate::{
    channels::health::{Health, Shut, ShutCause},
    domain::delivery::{ErrorClass, Outcome},
};

/// The calls that are looked at are those of the last ten seconds.
const WINDOW_SECONDS: usize = 10;
/// It takes this many calls to judge, and this share of failures to shut, in percent.
const CALLS_MIN: u32 = 20;
const FAILURES_PERCENT: u32 = 50;
/// After a probe came through, calls are let in by a ramp for this long: one in the first second, twice as many in each
/// next one. What waited does not come back as a herd, and one lucky probe of a provider that flaps proves little.
const RAMP_SECONDS: i64 = 10;
/// While the ramp lasts, this many calls are enough to judge.
const RAMP_CALLS_MIN: u32 = 4;
/// How long a failing credential is let alone first and at most, in seconds; each failed probe doubles it.
const FAILING_WAIT: (u32, u32) = (10, 300);
/// The same for one that is refused: somebody has to mend it.
const REFUSED_WAIT: (u32, u32) = (60, 900);
/// Refused with this many senders, it is the credential, whoever sends.
const REFUSED_SENDERS: usize = 3;
/// A probe that has told nothing for this long is taken for lost, in seconds: longer than any lease.
const PROBE_LOST: i64 = 1_800;
/// When a probe is under way, or calls hang, the others look again after this many seconds.
const PROBE_PATIENCE: i64 = 5;

/// How a call ended, in the breaker's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The provider works: it took it, or said no to this message.
    Well,
    /// It could not be reached, or did not do its work.
    Failed,
    /// It refuses our credential or settings.
    Refused,
    /// It works, and asked for patience.
    Busy,
}

impl Verdict {
    fn of(outcome: &Outcome) -> Self {
        let Outcome::Failed { error, retry_after_seconds } = outcome else { return Verdict::Well };
        match error.class {
            ErrorClass::Permanent => Verdict::Well,
            ErrorClass::Temporary if retry_after_seconds.is_some() => Verdict::Busy,
            ErrorClass::Temporary | ErrorClass::NotSent | ErrorClass::Unknown => Verdict::Failed,
            ErrorClass::Misconfigured => Verdict::Refused,
        }
    }
}

/// Whether a call may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Admission {
    Go,
    /// The one that finds out.
    Probe,
    /// Not before this moment.
    No(DateTime<Utc>),
}

/// Something that is shut for a while, and then for all but a probe.
#[derive(Clone, Debug)]
struct Closed {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    wait_seconds: u32,
    probe: Option<DateTime<Utc>>,
}

impl Closed {
    fn new(wait_seconds: u32, now: DateTime<Utc>) -> Self {
        let until = now + TimeDelta::seconds(wait_seconds.into());
        Self { since: now, until, wait_seconds, probe: None }
    }

    /// Shut again, for twice as long.
    fn longer(&mut self, most_seconds: u32, now: DateTime<Utc>) {
        self.wait_seconds = self.wait_seconds.saturating_mul(2).min(most_seconds);
        (self.until, self.probe) = (now + TimeDelta::seconds(self.wait_seconds.into()), None);
    }

    fn is_probed(&self, now: DateTime<Utc>) -> bool {
        self.probe.is_some_and(|since| now - since < TimeDelta::seconds(PROBE_LOST))
    }

    fn admission(&self, now: DateTime<Utc>) -> Admission {
        if now < self.until {
            return Admission::No(self.until);
        }
        if self.is_probed(now) {
            return Admission::No(now + TimeDelta::seconds(PROBE_PATIENCE));
        }
        Admission::Probe
    }
}

/// The first seconds after a probe came through.
#[derive(Clone, Debug)]
struct Ramp {
    since: DateTime<Utc>,
    /// Let in so far.
    admitted: u32,
    well: u32,
    failures: u32,
    /// How long it had been let alone: where it fails again, twice that.
    waited_seconds: u32,
}

impl Ramp {
    fn seconds(&self, now: DateTime<Utc>) -> i64 {
        (now - self.since).num_seconds().max(0)
    }

    /// Counts a call in, where there is room for one in this second.
    fn admits(&mut self, now: DateTime<Utc>) -> bool {
        let room = (2_u32 << self.seconds(now).min(RAMP_SECONDS)) - 1;
        let admits = self.admitted < room;
        self.admitted += u32::from(admits);
        admits
    }
}

/// One credential's calls.
#[derive(Clone, Debug, Default)]
struct Circuit {
    /// Calls that worked, and that failed.
    calls: Window<WINDOW_SECONDS>,
    closed: Option<Closed>,
    ramp: Option<Ramp>,
}

impl Circuit {
    /// Whether this verdict shut the circuit just now.
    fn record(&mut self, verdict: Verdict, probe: bool, now: DateTime<Utc>) -> bool {
        let failed = verdict == Verdict::Failed;
        if let Some(closed) = &mut self.closed {
            // What was on its way when it was shut tells nothing new.
            if probe && failed {
                closed.longer(FAILING_WAIT.1, now);
            } else if probe {
                let waited_seconds = closed.wait_seconds;
                let ramp = Ramp { since: now, admitted: 0, well: 0, failures: 0, waited_seconds };
                *self = Self { ramp: Some(ramp), ..Self::default() };
            }
            return false;
        }
        if self.falls_back(failed, now) {
            return true;
        }
        self.calls.add(u32::from(!failed), u32::from(failed), now);
        let (well, failures) = self.calls.sums(now);
        let calls = well.saturating_add(failures);
        let shut = failed && calls >= CALLS_MIN && failures * 100 >= calls * FAILURES_PERCENT;
        if shut {
            self.closed = Some(Closed::new(FAILING_WAIT.0, now));
        }
        shut
    }

    /// Whether a call may be made while the ramp lasts; afterwards there is none.
    fn ramp_admits(&mut self, now: DateTime<Utc>) -> bool {
        self.ramp = self.ramp.take().filter(|ramp| ramp.seconds(now) < RAMP_SECONDS);
        self.ramp.as_mut().is_none_or(|ramp| ramp.admits(now))
    }

    /// Half of the few calls of a ramp failing shuts it again, for longer than before.
    fn falls_back(&mut self, failed: bool, now: DateTime<Utc>) -> bool {
        let Some(ramp) = self.ramp.as_mut().filter(|ramp| ramp.seconds(now) < RAMP_SECONDS) else {
            return false;
        };
        ramp.well += u32::from(!failed);
        ramp.failures += u32::from(failed);
        let calls = ramp.well + ramp.failures;
        if !failed || calls < RAMP_CALLS_MIN || ramp.failures * 100 < calls * FAILURES_PERCENT {
            return false;
        }
        let wait = ramp.waited_seconds.saturating_mul(2).min(FAILING_WAIT.1);
        *self = Self { closed: Some(Closed::new(wait, now)), ..Self::default() };
        true
    }
}

/// A credential with the sender that it is used for.
type Line = (String, String);

#[derive(Debug, Default)]
struct Board {
    circuits: BTreeMap<String, Circuit>,
    refused: BTreeMap<Line, Closed>,
    /// By operators, with the moment and the reason.
    paused: BTreeMap<String, (DateTime<Utc>, String)>,
    hanging: Hanging,
}

impl Board {
    /// Anything is shut, or was and nobody has looked since.
    fn is_troubled(&self) -> bool {
        let shut = |circuit: &Circuit| circuit.closed.is_some();
        !self.paused.is_empty()
            || !self.refused.is_empty()
            || self.circuits.values().any(shut)
            || self.hanging.full().next().is_some()
    }

    /// What refusals so far leave to this sender.
    fn refused_admission(&self, line: &Line, now: DateTime<Utc>) -> Admission {
        if let Some(closed) = self.refused.get(line) {
            return closed.admission(now);
        }
        let until = self.refused_everywhere(&line.0).filter(|until| now < *until);
        until.map_or(Admission::Go, Admission::No)
    }

    /// Until when the credential is refused whoever sends.
    fn refused_everywhere(&self, credential: &str) -> Option<DateTime<Utc>> {
        let senders = || self.refused.iter().filter(|((known, _), _)| known == credential);
        (senders().count() >= REFUSED_SENDERS).then(|| senders().map(|(_, closed)| closed.until).max())?
    }
}

/// Every credential's breaker. Shared by all workers of the process.
#[derive(Debug, Default)]
pub struct Breakers {
    board: Mutex<Board>,
    /// Something is shut, as of the last change of the board.
    troubled: AtomicBool,
}

/// Leave for one call: what it came to is reported, or it is given back unused when it is dropped.
#[derive(Debug)]
pub struct Permit {
    breakers: Arc<Breakers>,
    line: Line,
    probe: bool,
    reported: bool,
}

/// A credential that must not be used before a moment, and why, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    pub until: DateTime<Utc>,
    pub reason: String,
}

fn line(credential: &str, sender: Option<&str>) -> Line {
    (credential.to_owned(), sender.unwrap_or_default().to_owned())
}

impl Breakers {
    /// Leave to make one call through the credential, where it may be used.
    pub fn permit(
        self: &Arc<Self>,
        credential: &str,
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Permit, Waits> {
        let line = line(credential, sender);
        let mut board = self.lock();
        if let Some((_, why)) = board.paused.get(credential) {
            let reason = format!("{credential} was paused by an operator: {why}");
            return Err(Waits { until: now + TimeDelta::seconds(REFUSED_WAIT.0.into()), reason });
        }
        if let Some(reason) = board.hanging.why_full(credential) {
            return Err(Waits { until: now + TimeDelta::seconds(PROBE_PATIENCE), reason });
        }
        let refused = board.refused_admission(&line, now);
        let circuit = board.circuits.get(credential).and_then(|circuit| circuit.closed.as_ref());
        let failing = circuit.map_or(Admission::Go, |closed| closed.admission(now));
        for (admission, why) in [(&refused, "refused by its provider"), (&failing, "failing")] {
            if let Admission::No(until) = admission {
                return Err(Waits { until: *until, reason: format!("{credential} is {why}") });
            }
        }
        let ramping = board.circuits.get_mut(credential).is_some_and(|circuit| !circuit.ramp_admits(now));
        if ramping {
            let reason = format!("{credential} works again, and takes up its pace");
            return Err(Waits { until: now + TimeDelta::seconds(1), reason });
        }
        let probe = refused == Admission::Probe || failing == Admission::Probe;
        if probe {
            if let Some(closed) = board.refused.get_mut(&line) {
                closed.probe = Some(now);
            }
            if let Some(closed) = board.circuits.get_mut(credential).and_then(|c| c.closed.as_mut()) {
                closed.probe = Some(now);
            }
        }
        Ok(Permit { breakers: Arc::clone(self), line, probe, reported: false })
    }

    /// An operator stops the use of a credential, until `resume`.
    pub fn pause(&self, credential: &str, why: &str, now: DateTime<Utc>) {
        self.lock().paused.insert(credential.to_owned(), (now, why.to_owned()));
    }

    /// An operator mended it: whatever shut it is forgotten.
    pub fn resume(&self, credential: &str) {
        let mut board = self.lock();
        board.paused.remove(credential);
        board.circuits.remove(credential);
        board.refused.retain(|(known, _), _| known != credential);
    }

    fn record(&self, line: &Line, verdict: Verdict, probe: bool, now: DateTime<Utc>) {
        let credential = line.0.as_str();
        let mut board = self.lock();
        if verdict == Verdict::Refused {
            // The link and the provider work; the circuit learns that a probe has come back.
            board.circuits.entry(credential.to_owned()).or_default().record(Verdict::Well, probe, now);
            match board.refused.get_mut(line) {
                // Calls that were under way when it was refused do not lengthen the pause.
                Some(closed) if probe => closed.longer(REFUSED_WAIT.1, now),
                Some(_) => {}
                None => {
                    let first = !board.refused.keys().any(|(known, _)| known == credential);
                    board.refused.insert(line.clone(), Closed::new(REFUSED_WAIT.0, now));
                    drop(board);
                    if first {
                        let what =
                            "the provider refuses this credential or its settings: mend them; messages wait";
                        tracing::error!(credential, what, "a credential is paused");
                    }
                }
            }
            return;
        }
        // What could not reach the provider tells nothing about the credential.
        let known_good = matches!(verdict, Verdict::Well | Verdict::Busy);
        let everywhere = board.refused_everywhere(credential).is_some();
        if known_good && everywhere {
            board.refused.retain(|(known, _), _| known != credential);
            tracing::info!(credential, "a credential works again");
        } else if known_good && board.refused.remove(line).is_some() {
            tracing::info!(credential, "a credential works again");
        } else if let Some(closed) = board.refused.get_mut(line).filter(|_| probe) {
            (closed.until, closed.probe) = (now + TimeDelta::seconds(closed.wait_seconds.into()), None);
        }
        let circuit = board.circuits.entry(credential.to_owned()).or_default();
        let was_shut = circuit.closed.is_some();
        let shut = circuit.record(verdict, probe, now);
        let opened = was_shut && circuit.closed.is_none();
        drop(board);
        if shut {
            tracing::error!(credential, "half of the calls fail: the credential is let alone for a while");
        } else if opened {
            tracing::info!(credential, "a probe came through: the credential is used again");
        }
    }

    fn give_back(&self, line: &Line) {
        let mut board = self.lock();
        if let Some(closed) = board.refused.get_mut(line) {
            closed.probe = None;
        }
        if let Some(closed) = board.circuits.get_mut(&line.0).and_then(|c| c.closed.as_mut()) {
            closed.probe = None;
        }
    }

    fn lock(&self) -> Locked<'_> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { board, troubled: &self.troubled }
    }
}

/// The board in use; whoever leaves it says whether anything is shut.
struct Locked<'a> {
    board: MutexGuard<'a, Board>,
    troubled: &'a AtomicBool,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Board;
    fn deref(&self) -> &Board {
        &self.board
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Board {
        &mut self.board
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.troubled.store(self.board.is_troubled(), Ordering::Release);
    }
}

impl Health for Breakers {
    fn is_quiet(&self) -> bool {
        !self.troubled.load(Ordering::Acquire)
    }

    fn down(&self, credential: &str, sender: Option<&str>, now: DateTime<Utc>) -> Option<String> {
        let board = self.lock();
        if board.paused.contains_key(credential) {
            return Some(format!("{credential} was paused by an operator"));
        }
        if let Some(why) = board.hanging.why_full(credential) {
            return Some(why);
        }
        // Once its wait is over it counts as well again: the next message is its probe.
        let shut = |closed: &Closed| now < closed.until || closed.is_probed(now);
        // Asked with every decision, and almost always there is nothing to look up.
        if !board.refused.is_empty() {
            let line = line(credential, sender);
            let everywhere = board.refused_everywhere(credential).is_some_and(|until| now < until);
            if board.refused.get(&line).map_or(everywhere, shut) {
                return Some(format!("{credential} is refused by its provider"));
            }
        }
        let circuit = board.circuits.get(credential)?.closed.as_ref()?;
        shut(circuit).then(|| format!("{credential} is failing"))
    }

    fn shut(&self) -> Vec<Shut> {
        let board = self.lock();
        let paused = board.paused.iter().map(|(credential, (since, _))| Shut {
            credential: credential.clone(),
            cause: ShutCause::Paused,
            since: *since,
            until: None,
        });
        let closed = |credential: &str, cause, closed: &Closed| Shut {
            credential: credential.to_owned(),
            cause,
            since: closed.since,
            until: Some(closed.until),
        };
        let refused = board.refused.iter().map(|((name, _), at)| closed(name, ShutCause::Refused, at));
        let failing = board.circuits.iter().filter_map(|(name, circuit)| {
            circuit.closed.as_ref().map(|at| closed(name, ShutCause::Failing, at))
        });
        let hanging = board.hanging.full().map(|(credential, since)| Shut {
            credential: credential.to_owned(),
            cause: ShutCause::Hanging,
            since,
            until: None,
        });
        paused.chain(refused).chain(failing).chain(hanging).collect()
    }
}

impl Permit {
    /// What the call came to. Told once.
    pub fn report(&mut self, outcome: &Outcome, now: DateTime<Utc>) {
        self.reported = true;
        self.breakers.record(&self.line, Verdict::of(outcome), self.probe, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe && !self.reported {
            self.breakers.give_back(&self.line);
        }
    }
}

#[cfg(test)]
mod tests;
