//! `POST /v1/decisions`: which channel, and why. Nothing is kept and nothing is sent.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};

use super::{
    Api,
    answers::DecisionAnswer,
    auth::Caller,
    body,
    problem::{Problem, ProblemBody},
};
use crate::request::{Purpose, wire};

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
) -> Result<Json<DecisionAnswer>, Problem> {
    let received = body::receive(&api, request, Purpose::Decision).await?;
    let tenant = &received.asked.request.tenant;
    if !caller.may_see(tenant) {
        return Err(Problem::unknown_tenant(tenant));
    }
    let mut preview = api.orchestrator.preview(&received.asked).await?;
    api.metrics.decided(&preview.decision, Some(preview.took));
    if preview.decision.chosen.is_none() {
        let explanation = preview.explanation.take().map(Box::new);
        return Err(Problem::no_channel(&preview.decision).with(|p| p.explanation = explanation));
    }
    DecisionAnswer::new(preview).map(Json).ok_or_else(Problem::internal)
}
