//! The way in of the routes that are asked most: ahead of the router, and without what it costs.
//!
//! What surrounds a request is the same here and there (`frame`, `auth`), and so is what answers it; the router has
//! these routes too, for the document and for whoever asks it directly. Everything else goes to the router.

use std::sync::Arc;

use axum::{Router, body::Body, http::Method, response::IntoResponse};
use hyper::{Request, Response, body::Incoming};

use super::{
    Api, DECIDE, auth, batch, decisions,
    frame::{self, Frame},
    listen::{Answers, Door},
    problem::Problem,
};

const ONE: &str = "/v1/decisions";
const MANY: &str = "/v1/decisions:batch";

/// Everything that the local listeners answer.
#[derive(Clone)]
pub struct Front {
    api: Arc<Api>,
    router: Router,
}

impl Front {
    pub fn new(api: Arc<Api>) -> Self {
        Self { router: super::router(api.clone()), api }
    }
}

impl Answers for Front {
    async fn answer(&self, door: Door, request: Request<Incoming>) -> Response<Body> {
        let route = match request.uri().path() {
            ONE if request.method() == Method::POST => ONE,
            MANY if request.method() == Method::POST => MANY,
            // What the router makes is large, and is not to be carried about where it is not made.
            _ => return Box::pin(self.router.answer(door, request)).await,
        };
        answer(&self.api, route, door, request).await
    }
}

/// One request to a route of ours.
async fn answer(
    api: &Arc<Api>,
    route: &'static str,
    door: Door,
    request: Request<Incoming>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let frame = Frame::open(api, &parts.method, &parts.headers, route.into(), route.into());
    let answered = async {
        frame::guard(api, door, &parts.headers, &parts.uri)?;
        let caller = auth::identify(api, DECIDE, door, &parts.headers).await?;
        match route {
            MANY => batch::answer(api, caller, &parts.headers, body).await,
            _ => decisions::answer(api, &caller, &parts.headers, body).await,
        }
    };
    let answered = async { answered.await.unwrap_or_else(Problem::into_response) };
    let response = frame::guarded(answered).await;
    frame.close(api, response)
}
