//! The public side, put together: the key of the tokens, what dresses messages, the listener.
//!
//! Without a public URL there is none of it, and drivers that wait for callbacks are named in the log.

use std::{net::SocketAddr, sync::Arc};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{StartError, refused};
use crate::{
    api::{Metrics, settings::ConnectionLimits},
    channels::{Drivers, dress::Dress},
    config::Config,
    domain::time::Clock,
    orchestrator::Orchestrator,
    public::{self, Dressing, Parts, Public, PublicListener, PublicSettings, Receive},
    store::{Links, SqlStore},
    tracking::{TokenKey, Tracker},
};

/// The listener and what answers there, bound and not yet accepting.
pub(super) struct PublicDoor {
    listener: PublicListener,
    public: Arc<Public>,
}

impl PublicDoor {
    /// With the port that the system chose where it was 0.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    pub(super) fn serve(self, shutdown: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(public::serve(self.listener, self.public, shutdown))
    }
}

/// The key of all tokens, which the database keeps.
pub(super) async fn token_key(store: &SqlStore) -> Result<TokenKey, StartError> {
    let mut fresh = [0; 32];
    let random = SystemRandom::new().fill(&mut fresh);
    random.map_err(|_| StartError::Unusable("the system has no random bytes to give".to_owned()))?;
    let key = store.token_key(fresh).await.map_err(refused)?;
    Ok(TokenKey::new(&key))
}

/// Signs for the public URL; none without one.
pub(super) fn tracker(config: &Config, key: &TokenKey) -> Option<Tracker> {
    config.public.url.as_deref().map(|url| Tracker::new(url, key.clone()))
}

/// What the worker adds to messages.
pub(super) fn dress(
    key: &TokenKey,
    tracker: Option<&Tracker>,
    store: &Arc<SqlStore>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn Dress> {
    let links: Arc<dyn Links> = store.clone();
    Arc::new(Dressing { key: key.clone(), tracker: tracker.cloned(), links, clock: Arc::clone(clock) })
}

/// Binds the public listener, where one is set.
pub(super) async fn open(
    config: &Config,
    tracker: Option<Tracker>,
    orchestrator: &Orchestrator,
    store: &Arc<SqlStore>,
    receiver: Arc<dyn Receive>,
    metrics: &Arc<Metrics>,
) -> Result<Option<PublicDoor>, StartError> {
    let (Some(listen), Some(tracker)) = (config.public.listen, tracker) else { return Ok(None) };
    let most = usize::try_from(config.limits.connections).unwrap_or(usize::MAX);
    let settings = PublicSettings {
        listen,
        proxies: config.public.proxies.clone(),
        connections: ConnectionLimits { most, ..ConnectionLimits::default() },
        ..PublicSettings::default()
    };
    let listener = public::bind(&settings).await.map_err(|e| StartError::Busy(e.to_string()))?;
    let policies = orchestrator.policies.clone();
    let public = Public::new(Parts {
        tracker,
        drivers: orchestrator.drivers.clone(),
        links: store.clone(),
        receiver,
        knows_tenant: Box::new(move |tenant| policies.current().tenant(tenant).is_some()),
        clock: Arc::clone(&orchestrator.clock),
        metrics: Arc::clone(metrics),
        settings,
    });
    Ok(Some(PublicDoor { listener, public }))
}

/// The drivers whose providers would call, and have no address to call.
pub fn unheard(config: &Config, drivers: &Drivers) -> Vec<String> {
    if config.public.url.is_some() {
        return Vec::new();
    }
    drivers.iter().filter(|driver| driver.callbacks().is_some()).map(|d| d.name().to_owned()).collect()
}
