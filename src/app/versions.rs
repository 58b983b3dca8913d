//! Notes in the database which version of each tenant's policy is in force, whenever that changes.
//!
//! It decides nothing and holds nothing up: a database that is away is told once, and asked again at the next
//! look at the policies folder.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    bundles::{Generation, Policies},
    domain::{
        ids::{PolicyVersion, TenantId},
        time::Clock,
    },
    store::PolicyVersions,
};

/// Notes on their way at one moment: enough for the store to write many with one flush.
const AT_ONCE: usize = 64;

/// Notes what is in force, and each change of it, until `stop`.
pub async fn note(
    policies: Arc<Policies>,
    store: Arc<impl PolicyVersions + 'static>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let (handle, mut progress) = (policies.handle(), policies.progress());
    // What is in force and not noted yet, and the generation that this is known of.
    let (mut due, mut known) = (BTreeMap::new(), Arc::<Generation>::default());
    let mut failing = false;
    loop {
        progress.borrow_and_update();
        let generation = handle.current();
        due.retain(|tenant, _| generation.tenant(tenant).is_some());
        due.extend(generation.since(&known).map(|(tenant, b)| (tenant.clone(), b.version().clone())));
        known = generation;
        if !due.is_empty() {
            let told_before = failing;
            let pass = note_all(&mut due, &store, &*clock);
            failing = tokio::select! {
                failed = pass => failed.is_some_and(|error| {
                    if !told_before {
                        tracing::warn!(%error, "the policy versions in force could not be noted; it is tried again");
                    }
                    true
                }),
                () = stop.cancelled() => return,
            };
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Notes what is due; the last error, if there was one. What could not be noted stays due.
async fn note_all(
    due: &mut BTreeMap<TenantId, PolicyVersion>,
    store: &Arc<impl PolicyVersions + 'static>,
    clock: &dyn Clock,
) -> Option<crate::store::StoreError> {
    let (mut writing, mut failed) = (JoinSet::new(), None);
    let mut left = due.clone().into_iter();
    loop {
        while writing.len() < AT_ONCE && failed.is_none() {
            let Some((tenant, version)) = left.next() else { break };
            let (store, now) = (Arc::clone(store), clock.now());
            writing.spawn(async move {
                let done = store.note_version(&tenant, &version, now).await;
                (tenant, done)
            });
        }
        match writing.join_next().await {
            None => return failed,
            Some(Ok((tenant, Ok(())))) => drop(due.remove(&tenant)),
            Some(Ok((_, Err(error)))) => failed = Some(error),
            // The runtime is going down.
            Some(Err(_)) => return failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        bundles::{Cause, Options},
        domain::time::ManualClock,
        policy::assemble::PolicyEnvironment,
        store::StoreError,
    };

    /// Tells what it is asked to note; away while `down`.
    struct Recorder {
        told: mpsc::UnboundedSender<(String, String)>,
        down: AtomicBool,
    }

    #[async_trait]
    impl PolicyVersions for Recorder {
        async fn note_version(
            &self,
            tenant: &TenantId,
            version: &PolicyVersion,
            _: DateTime<Utc>,
        ) -> Result<(), StoreError> {
            let refused = self.down.load(Ordering::SeqCst);
            let said = if refused { "refused".to_owned() } else { version.to_string() };
            let _ = self.told.send((tenant.to_string(), said));
            if refused { Err(StoreError::Unavailable("away".to_owned())) } else { Ok(()) }
        }
    }

    async fn next(told: &mut mpsc::UnboundedReceiver<(String, String)>) -> (String, String) {
        tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_version_that_comes_in_force_is_noted_once_and_again_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("policies");
        super::super::shipped::write(&folder).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let options = Options {
            folder: folder.clone(),
            state_dir: dir.path().join("state"),
            environment: PolicyEnvironment::default(),
            drivers: None,
            clock: Arc::clone(&clock),
        };
        let policies = Arc::new(Policies::open(options).unwrap());
        let version = |tenant: &str| {
            let generation = policies.handle().current();
            generation.tenant(&TenantId::parse(tenant).unwrap()).unwrap().version().to_string()
        };
        let (sender, mut told) = mpsc::unbounded_channel();
        let store = Arc::new(Recorder { told: sender, down: AtomicBool::new(false) });
        let stop = CancellationToken::new();
        let task = tokio::spawn(note(Arc::clone(&policies), Arc::clone(&store), clock, stop.clone()));
        assert_eq!(next(&mut told).await, ("tenant_123".to_owned(), version("tenant_123")));

        store.down.store(true, Ordering::SeqCst);
        fs::write(folder.join("tenants/acme.toml"), "").unwrap();
        policies.reload(Cause::Request).await;
        assert_eq!(next(&mut told).await, ("acme".to_owned(), "refused".to_owned()));
        store.down.store(false, Ordering::SeqCst);
        policies.reload(Cause::Request).await;
        // What was noted is not noted again: only the new tenant's.
        let mut noted = next(&mut told).await;
        while noted.1 == "refused" {
            noted = next(&mut told).await;
        }
        assert_eq!(noted, ("acme".to_owned(), version("acme")));
        stop.cancel();
        task.await.unwrap();
        assert!(told.try_recv().is_err());
    }
}
