//! The way in of the routes that are asked most: ahead of the router, and without what it costs.
//!
//! What surrounds a request is the same here and there (`frame`, `auth`), and so is what answers it; the router has
//! these routes too, for the document and for whoever asks it directly. Everything else goes to the router.

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, request::Parts},
    response::IntoResponse,
};
use hyper::{Request, Response, body::Incoming};

use super::{
    Api, DECIDE,
    auth::{self, Caller},
    batch, decisions,
    frame::{self, Frame},
    listen::{Answers, Door},
    pace::Content,
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
    async fn answer(&self, door: Door, request: Request<Incoming>) -> Response<Content> {
        // What other ways keep while they wait is large, and is not to be carried about where nobody goes them.
        match request.uri().path() {
            ONE if request.method() == Method::POST => {}
            MANY if request.method() == Method::POST => {
                return Box::pin(many(&self.api, door, request)).await;
            }
            _ => return Box::pin(self.router.answer(door, request)).await,
        }
        // Here and not in a function of its own: the request would be moved once more.
        let (api, (mut parts, body)) = (&self.api, request.into_parts());
        let frame = Frame::open(api, &parts.method, &parts.headers, ONE.into(), ONE.into());
        let answered = async {
            let caller = admit(api, door, &parts).await?;
            decisions::answer(api, &caller, &parts.headers, body).await
        };
        match frame::caught(answered).await {
            Ok(Ok(text)) => {
                let mut response = Response::new(Content::Whole(text.into()));
                // The room that the request's headers had: nothing of theirs stays in it.
                parts.headers.clear();
                *response.headers_mut() = parts.headers;
                decisions::describe(response.headers_mut());
                frame.seal(api, StatusCode::OK, response.headers_mut());
                response
            }
            Ok(Err(problem)) | Err(problem) => frame.close(api, problem.into_response()).map(Content::Other),
        }
    }
}

/// Who asks, where they may come in by this door and decide.
async fn admit(api: &Api, door: Door, parts: &Parts) -> Result<Caller, Problem> {
    frame::guard(api, door, &parts.headers, &parts.uri)?;
    auth::identify(api, DECIDE, door, &parts.headers).await
}

/// Decisions by the line.
async fn many(api: &Arc<Api>, door: Door, request: Request<Incoming>) -> Response<Content> {
    let (parts, body) = request.into_parts();
    let frame = Frame::open(api, &parts.method, &parts.headers, MANY.into(), MANY.into());
    let answered = async {
        let caller = admit(api, door, &parts).await?;
        batch::answer(api, caller, &parts.headers, body).await
    };
    let answered = async { answered.await.unwrap_or_else(Problem::into_response) };
    let response = frame::guarded(answered).await;
    frame.close(api, response).map(Content::Other)
}
