//! `POST /v1/returned`: mail that came back (bounces, notices of a delay, complaints), as it was received.
//!
//! On the Unix socket only: drivers and their mailboxes are the operator's. It answers 200 once what follows is durable,
//! also for mail that says nothing to us, so that whoever brings it may let it go.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    body,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    channels::returned::{self, BYTES_MAX},
    delivery::{receipts::Receiver, returns::Returned},
};

/// To whom it came.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ReturnedQuery {
    /// The address that it was delivered to, where whoever brings it knows it from the envelope.
    pub to: Option<String>,
}

/// What it was read as.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReturnedAnswer {
    /// `bounced`, `delayed`, `complained` or `ignored`.
    #[schema(example = "bounced")]
    pub outcome: String,
    /// The message that it is about; null where it changed nothing.
    pub message_id: Option<String>,
    /// Why it changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Hand in a mail that came back. Unix socket only.
#[utoipa::path(
    post, path = "/v1/returned", tag = "operations", operation_id = "takeReturnedMail",
    params(ReturnedQuery),
    request_body(content = String, content_type = "message/rfc822", description = "The mail, at most 256 KiB: of a longer one its beginning"),
    responses(
        (status = 200, description = "It was read, and what follows is kept", body = ReturnedAnswer),
        (status = 403, description = "The mailbox is the operator's: ask on the Unix socket", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "Longer than 256 KiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not message/rfc822", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "It is not kept: hand it in again", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn take(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(ReturnedQuery { to }): Query<ReturnedQuery>,
    request: Request,
) -> Result<Json<ReturnedAnswer>, Problem> {
    if caller.only().is_some() {
        let words = "the mailbox of what comes back is shared by the tenants: ask on the Unix socket";
        return Err(Problem::new(Kind::Forbidden, words));
    }
    let (bytes, _held) = body::receive_mail(&api, request, BYTES_MAX).await?;
    // On a thread of its own: nobody says how long somebody else's mail takes to read.
    let reading = tokio::task::spawn_blocking(move || returned::read(&bytes, to.as_deref()));
    let mail = reading.await.map_err(|_| Problem::internal())?;
    let o = &api.orchestrator;
    let receiver = Receiver {
        store: Arc::clone(&o.store),
        drivers: o.drivers.clone(),
        clock: Arc::clone(&o.clock),
        bell: Arc::clone(&o.bell),
    };
    Ok(Json(match receiver.mail_returned(mail, &*api.returns).await? {
        Returned::Kept { what, message } => ReturnedAnswer {
            outcome: what.as_str().to_owned(),
            message_id: Some(message.to_string()),
            reason: None,
        },
        Returned::Ignored(why) => {
            ReturnedAnswer { outcome: "ignored".to_owned(), message_id: None, reason: Some(why.to_owned()) }
        }
    }))
}
