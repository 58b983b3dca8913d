//! The listener that faces the internet: providers' callbacks, opened mails, followed links, unsubscribing.
//!
//! Off unless it is asked for, with limits of its own, and no route of the local API (nor has that one of these).
//! Everybody out there is hostile until a signature or a token of ours says otherwise: nothing acts on a GET, no
//! address is taken from a request, and whoever is turned away learns the status and nothing else. There is no TLS
//! here: that is the proxy's in front of it.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Metrics, listen::accept},
    channels::Drivers,
    domain::{ids::TenantId, time::Clock},
    store::Links,
    tracking::Tracker,
};

mod body;
mod callbacks;
mod clicks;
mod dressing;
mod frame;
mod listen;
mod page;
mod receive;
pub mod settings;
mod unsubscribe;
mod visits;

pub use dressing::Dressing;
pub use listen::PublicListener;
pub use receive::Receive;
pub use settings::PublicSettings;

/// Whether there is such a tenant.
pub type KnowsTenant = Box<dyn Fn(&TenantId) -> bool + Send + Sync>;

/// What the listener is made of.
pub struct Parts {
    pub tracker: Tracker,
    pub drivers: Drivers,
    pub links: Arc<dyn Links>,
    pub receiver: Arc<dyn Receive>,
    pub knows_tenant: KnowsTenant,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub settings: PublicSettings,
}

/// What every handler may use.
pub struct Public {
    parts: Parts,
    clicks: clicks::ClickDesk,
    /// Callbacks being handled: theirs alone, so that visitors never crowd them out (reliability.md P11).
    callbacks: Semaphore,
    visits: Semaphore,
    /// Bytes of bodies held now, in KiB.
    held: Semaphore,
}

impl Public {
    pub fn new(parts: Parts) -> Arc<Self> {
        let settings = &parts.settings;
        Arc::new(Self {
            clicks: clicks::ClickDesk::default(),
            callbacks: Semaphore::new(settings.callbacks_at_once),
            visits: Semaphore::new(settings.visits_at_once),
            held: Semaphore::new(settings.held_bytes >> 10),
            parts,
        })
    }

    /// Hands on the clicks whose burst is over; all of them where the daemon stops. Ran each second by `serve`.
    pub async fn settle_clicks(&self, all: bool) {
        self.clicks.ripen(self.parts.clock.now(), all);
        while let Some(event) = self.clicks.next() {
            if let Err(error) = self.parts.receiver.engaged(event.clone()).await {
                tracing::warn!(%error, "a click waits to be written");
                self.clicks.give_back(event);
                return;
            }
        }
    }
}

/// The paths that it answers: those of details.md section 5 and no other.
pub const ROUTES: [&str; 4] = ["/callbacks/{driver}/{tenant}", "/o/{token}", "/c/{token}", "/u/{token}"];

/// The whole router, with its frame.
pub fn router(public: Arc<Public>) -> Router {
    let [callbacks, open, click, unsubscribe] = ROUTES;
    Router::new()
        .route(callbacks, post(callbacks::callback).get(callbacks::callback))
        .route(open, get(visits::open))
        .route(click, get(visits::click))
        .route(unsubscribe, get(unsubscribe::ask).post(unsubscribe::act))
        .fallback(frame::nothing)
        .method_not_allowed_fallback(frame::nothing)
        .layer(axum::middleware::from_fn_with_state(public.clone(), frame::frame))
        .with_state(public)
}

/// Serves until `shutdown`, drains, and hands on what is still to be told.
pub async fn serve(listener: PublicListener, public: Arc<Public>, shutdown: CancellationToken) {
    let limits = public.parts.settings.limits();
    let settling = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => public.settle_clicks(false).await,
                () = shutdown.cancelled() => return,
            }
        }
    };
    tokio::join!(accept(&listener, router(public.clone()), limits, &shutdown), settling);
    public.settle_clicks(true).await;
}

/// Binds the public listener.
pub async fn bind(settings: &PublicSettings) -> Result<PublicListener, crate::api::ListenError> {
    let address = settings.listen;
    let tcp = listening(address).map_err(|source| crate::api::ListenError::Tcp { address, source })?;
    Ok(PublicListener::new(tcp, settings.proxies.clone()))
}

/// Connections that wait to be let in. Where there are more, the system drops what their callers take for accepted.
const WAITING_MAX: u32 = 4_096;

fn listening(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As bound after a restart, while old connections are still being forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}
