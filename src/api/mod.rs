//! Sockets, routes and answers. The only place that knows status codes.
//!
//! A handler reads, asks `orchestrator` or the store, and answers; it decides nothing, and every error that it
//! can meet is a problem of `problem`'s table. Every route is in `routes`, with the scope that it needs.

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{bundles::reload::Policies, channels::returned::ReturnTokens, orchestrator::Orchestrator};

mod acts;
pub mod answers;
pub mod auth;
mod batch;
mod body;
mod broadcasts;
mod counting;
mod decisions;
mod events;
pub(crate) mod frame;
mod front;
mod health;
pub mod listen;
mod messages;
pub mod metrics;
pub mod openapi;
mod pace;
mod policies;
pub mod problem;
mod render;
mod returns;
mod rows;
pub mod settings;
pub mod socket;
pub mod stats;
mod suppressions;
mod tail;
mod tenants;
mod versions;

use auth::Scope;
pub use counting::CountedQueue;
pub use listen::{ListenError, Listeners};
pub use metrics::Metrics;
pub use settings::ApiSettings;

/// What every handler may use.
pub struct Api {
    pub orchestrator: Arc<Orchestrator>,
    pub policies: Arc<Policies>,
    pub metrics: Arc<Metrics>,
    pub settings: ApiSettings,
    /// Knows the tokens of mail that came back.
    pub returns: Arc<dyn ReturnTokens>,
    /// Ends waits: the daemon is stopping.
    pub closing: CancellationToken,
    /// In lower case, without ports.
    hosts: Vec<String>,
    held: body::Held,
}

impl Api {
    pub fn new(
        orchestrator: Arc<Orchestrator>,
        policies: Arc<Policies>,
        metrics: Arc<Metrics>,
        settings: ApiSettings,
        returns: Arc<dyn ReturnTokens>,
        closing: CancellationToken,
    ) -> Arc<Self> {
        let named = settings.hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
        // An address that was bound by name may be called by it; 0.0.0.0 is nobody's name.
        let bound = settings.listen.map(|a| a.ip()).filter(|ip| !ip.is_unspecified());
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter();
        let hosts = hosts.chain(named).chain(bound.map(|ip| ip.to_string())).collect();
        let held = body::Held::new(settings.bodies.held_bytes);
        Arc::new(Self { orchestrator, policies, metrics, settings, returns, closing, hosts, held })
    }
}

/// What deciding needs.
const DECIDE: &[Scope] = &[Scope::Send, Scope::Read];

/// Routes that need the same.
struct Group {
    /// One of these scopes is needed; none: nobody is asked who they are.
    needs: Option<&'static [Scope]>,
    router: OpenApiRouter<Arc<Api>>,
}

/// Every route.
fn routes() -> Vec<Group> {
    let group = |needs, router| Group { needs, router };
    vec![
        group(
            None,
            OpenApiRouter::default()
                .routes(routes!(health::healthz))
                .routes(routes!(health::readyz))
                .routes(routes!(health::openapi)),
        ),
        group(
            Some(DECIDE),
            OpenApiRouter::default().routes(routes!(decisions::decide)).routes(routes!(batch::decide)),
        ),
        group(
            Some(&[Scope::Send]),
            OpenApiRouter::default()
                .routes(routes!(messages::send))
                .routes(routes!(messages::cancel))
                .routes(routes!(broadcasts::send))
                .routes(routes!(broadcasts::cancel))
                .routes(routes!(events::tell)),
        ),
        group(
            Some(&[Scope::Read]),
            OpenApiRouter::default()
                .routes(routes!(messages::show))
                .routes(routes!(messages::list))
                .routes(routes!(broadcasts::show))
                .routes(routes!(broadcasts::results))
                .routes(routes!(stats::show))
                .routes(routes!(tail::tail))
                .routes(routes!(policies::list))
                .routes(routes!(policies::show))
                // The path that reloading is posted to is that of a tenant named `reload`, too.
                .route("/v1/policies/reload", axum::routing::get(policies::show_reload)),
        ),
        group(
            Some(&[Scope::Admin]),
            OpenApiRouter::default()
                .routes(routes!(suppressions::list, suppressions::put, suppressions::lift))
                .routes(routes!(acts::resend))
                .routes(routes!(acts::settle))
                .routes(routes!(acts::release))
                .routes(routes!(acts::pause_tenant))
                .routes(routes!(acts::resume_tenant))
                .routes(routes!(acts::pause_driver))
                .routes(routes!(acts::resume_driver))
                .routes(routes!(acts::list))
                .routes(routes!(returns::take))
                .routes(routes!(acts::erase))
                .routes(routes!(policies::reload))
                .routes(routes!(versions::history))
                .routes(routes!(versions::diff))
                .routes(routes!(versions::rollback))
                .routes(routes!(versions::forget))
                .routes(routes!(health::metrics)),
        ),
    ]
}

/// The whole router, with its frame. Requests without a `listen::Door` count as TCP's.
pub fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for Group { needs, router: group } in routes() {
        let (group, _) = group.split_for_parts();
        router = router.merge(match needs {
            None => group,
            Some(any_of) => {
                let needs = auth::Needs { api: api.clone(), any_of };
                group.route_layer(axum::middleware::from_fn_with_state(needs, auth::require))
            }
        });
    }
    router
        .fallback(frame::no_route)
        .method_not_allowed_fallback(frame::no_method)
        .layer(axum::middleware::from_fn_with_state(api.clone(), frame::frame))
        .with_state(api)
}

/// Serves every route on every listener until `shutdown`, and drains.
pub async fn serve(listeners: Listeners, api: Arc<Api>, shutdown: CancellationToken) {
    let settings = api.settings.clone();
    listen::serve(listeners, front::Front::new(api), &settings, shutdown).await;
}
