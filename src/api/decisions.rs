//! `POST /v1/decisions`: which channel, and why. Nothing is kept and nothing is sent.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Body;

use super::{
    Api,
    answers::DecisionAnswer,
    auth::Caller,
    body,
    problem::{Problem, ProblemBody},
    render,
};
use crate::{
    orchestrator::Weighed,
    request::{
        Purpose,
        lean::{self, Lean},
        wire,
    },
};

/// Most answers are no longer.
const ANSWER_BYTES: usize = 768;

/// Decide where a message would go, without keeping or sending anything.
#[utoipa::path(
    post, path = "/v1/decisions", tag = "decisions",
    request_body(content = wire::Request, description = "Who, what, and since when; `orderingKey` means nothing here"),
    responses(
        (status = 200, description = "The chosen channel, and why", body = DecisionAnswer),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in the request, or no channel left", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn decide(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let text = answer(&api, &caller, &parts.headers, body).await?;
    let mut response = Response::new(text.into());
    describe(response.headers_mut());
    Ok(response)
}

/// Says what an answer is.
pub fn describe(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

/// The same, for whoever comes past the router.
pub async fn answer<B>(api: &Api, caller: &Caller, headers: &HeaderMap, body: B) -> Result<Vec<u8>, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (bytes, _held) = body::receive_bytes(api, headers, body, api.settings.bodies.decision_bytes).await?;
    let mut text = Vec::with_capacity(ANSWER_BYTES);
    decide_one(api, caller, &bytes, &mut text).await?;
    Ok(text)
}

/// Decides one request, and adds its answer to `out`. Where there is a problem nothing is added.
pub async fn decide_one(api: &Api, caller: &Caller, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Problem> {
    match decide_at_once(api, caller, bytes, out) {
        Some(()) => Ok(()),
        // What it keeps while it waits is large, and is not to be carried about where nothing waits.
        None => Box::pin(decide_whole(api, caller, bytes, out)).await,
    }
}

/// The common request: read, decided and answered without waiting for anything and without a copy of its words.
/// `None`, and nothing is added: it is the whole way's.
pub fn decide_at_once(api: &Api, caller: &Caller, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut lean = Lean::default();
    lean::parse_into(bytes, &mut lean)?;
    let told = |weighed: &Weighed<'_>| {
        // Where no channel is left every gate is to be told.
        render::answer(out, weighed)?;
        let choice = weighed.choice();
        api.metrics.chosen(weighed.tenant(), choice.chosen, Some(weighed.took));
        api.metrics.failed(weighed.tenant(), choice.failures());
        Some(())
    };
    api.orchestrator.weigh(&lean, |tenant| caller.may_see(tenant), told)?
}

/// Every request, with all that can be said of it.
pub async fn decide_whole(
    api: &Api,
    caller: &Caller,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let asked = body::parse(bytes, Purpose::Decision).await?;
    let tenant = &asked.request.tenant;
    if !caller.may_see(tenant) {
        return Err(Problem::unknown_tenant(tenant));
    }
    let mut preview = api.orchestrator.preview(&asked).await?;
    api.metrics.decided(&preview.decision, Some(preview.took));
    if preview.decision.chosen.is_none() {
        let explanation = preview.explanation.take().map(Box::new);
        return Err(Problem::no_channel(&preview.decision).with(|p| p.explanation = explanation));
    }
    let answer = DecisionAnswer::new(preview).ok_or_else(Problem::internal)?;
    serde_json::to_writer(out, &answer).map_err(|_| Problem::internal())
}
