//! Bells: a new message wakes a worker, an outcome wakes whoever waits for it.
//!
//! For speed only. The truth is in the store: workers poll as well, and a waiter looks again when its time is
//! over. Listen before you look.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{Notify, broadcast, futures::Notified};

use crate::domain::ids::MessageId;

/// Shared by everything that rings or listens.
#[derive(Debug)]
pub struct Bell {
    due: Notify,
    outcomes: Mutex<HashMap<MessageId, Arc<Notify>>>,
    /// Every message that changes, for those who watch all of them.
    changes: broadcast::Sender<MessageId>,
}

/// Changes that a watcher may be behind before it misses some.
const CHANGES_MAX: usize = 4096;

impl Default for Bell {
    fn default() -> Self {
        Self { due: Notify::new(), outcomes: Mutex::default(), changes: broadcast::Sender::new(CHANGES_MAX) }
    }
}

/// Listens for one message's outcome until it is dropped.
#[derive(Debug)]
pub struct OutcomeListener<'b> {
    bell: &'b Bell,
    id: MessageId,
    notify: Arc<Notify>,
}

impl Bell {
    /// Something is due: one worker looks.
    pub fn ring_due(&self) {
        self.due.notify_one();
    }

    /// Resolves when something became due, also if it did since the last wait.
    pub fn due(&self) -> Notified<'_> {
        self.due.notified()
    }

    /// A message changed: whoever waits for it looks.
    pub fn ring_outcome(&self, id: MessageId) {
        if let Some(notify) = self.lock().get(&id) {
            notify.notify_waiters();
            notify.notify_one();
        }
        self.ring_change(id);
    }

    /// A message came or changed: whoever watches all of them looks. Nobody may be there.
    pub fn ring_change(&self, id: MessageId) {
        if self.changes.receiver_count() > 0 {
            let _ = self.changes.send(id);
        }
    }

    /// Every change from now on; none where as many watch already.
    pub fn watch(&self, most: usize) -> Option<broadcast::Receiver<MessageId>> {
        (self.changes.receiver_count() < most).then(|| self.changes.subscribe())
    }

    /// Listens from now on: made before the message is looked at, so that nothing falls in between.
    pub fn listen(&self, id: MessageId) -> OutcomeListener<'_> {
        let notify = self.lock().entry(id).or_default().clone();
        OutcomeListener { bell: self, id, notify }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MessageId, Arc<Notify>>> {
        self.outcomes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl OutcomeListener<'_> {
    /// Resolves at the message's next change.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for OutcomeListener<'_> {
    fn drop(&mut self) {
        let mut outcomes = self.bell.lock();
        // The map's own handle and this one: nobody else listens.
        if Arc::strong_count(&self.notify) <= 2 {
            outcomes.remove(&self.id);
        }
    }
}
