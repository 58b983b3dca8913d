//! `POST /v1/events`: what people did that no provider tells: answers, confirmations, conversions, the caller's own.
//!
//! An event belongs to a message; where the caller does not know which, to the last one that the person was sent.
//! Told twice with one id it counts once. What only providers can know is refused.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    problem::{Problem, ProblemBody},
};
use crate::{
    delivery::receipts::Receiver,
    domain::{
        channel::Channel,
        ids::{MessageId, RecipientId, TenantId},
        receipt::EngagementEvent,
    },
    request::Fault,
    store::{Engaged, Search},
};

/// How many of a person's messages are looked through for the last one that was sent.
const LOOKED_THROUGH: u32 = 50;
const ID_MAX: usize = 255;
const EXPECTED: &str = "{\"event\": \"converted\", \"messageId\": \"msg_...\"}";
/// Words of ours or of the providers: nobody else can know them.
const RESERVED: [&str; 14] = [
    "accepted",
    "queued",
    "held",
    "retrying",
    "sending",
    "sent",
    "delivered",
    "failed",
    "expired",
    "skipped",
    "cancelled",
    "undelivered",
    "delayed",
    "complained",
];

/// Something that a person did.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventRequest {
    /// `replied`, `confirmed`, `converted`, `opened`, `clicked`, or a name of your own.
    #[schema(example = "converted")]
    pub event: String,
    /// The message that it is about.
    #[schema(example = "msg_0198c0de000070008000000000000000")]
    pub message_id: Option<String>,
    /// Instead of `messageId`: whose last message it is about.
    pub tenant_id: Option<String>,
    pub prospect_id: Option<String>,
    /// With `prospectId`: of the messages sent by this channel.
    pub channel: Option<Channel>,
    /// When it happened (RFC 3339); now unless said otherwise.
    pub at: Option<String>,
    /// Your own name for it: told again, it counts no second time.
    pub id: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventAnswer {
    pub event: String,
    pub message_id: String,
    /// False where it had been told before.
    pub new: bool,
}

/// Tell what a person did.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", operation_id = "tellEvent",
    request_body(content = EventRequest),
    responses(
        (status = 200, description = "It is kept", body = EventAnswer),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such message, or nothing was sent to that person", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in the request", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn tell(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Json<EventAnswer>, Problem> {
    let asked: EventRequest = body::receive_json(&api, request, EXPECTED).await?;
    let o = &api.orchestrator;
    let at = check(&asked, o.clock.now())?;
    let message = match &asked.message_id {
        Some(id) => named(&api, &caller, id).await?,
        None => last_sent(&api, &caller, &asked).await?,
    };
    let event = EngagementEvent {
        message,
        name: asked.event.clone(),
        at,
        machine: false,
        channel: asked.channel,
        link: None,
        dedup: asked.id,
    };
    let receiver = Receiver {
        store: Arc::clone(&o.store),
        drivers: o.drivers.clone(),
        clock: Arc::clone(&o.clock),
        bell: Arc::clone(&o.bell),
    };
    match receiver.engagement(&event).await? {
        Engaged::Known { new, .. } => {
            Ok(Json(EventAnswer { event: asked.event, message_id: message.to_string(), new }))
        }
        Engaged::Nobodys => Err(unknown_message(&message.to_string())),
    }
}

/// Everything that is wrong with the request, or when the thing happened.
fn check(asked: &EventRequest, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    let mut faults = Vec::new();
    let mut fault = |pointer: &str, detail: &str, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        faults.push(Fault { pointer: pointer.to_owned(), detail: detail.to_owned(), hint });
    };
    let shaped = |name: &str| {
        (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if RESERVED.contains(&asked.event.as_str()) || asked.event.starts_with("machine_") {
        fault("/event", "only the daemon and its providers can know that", Some("take a name of your own"));
    } else if asked.event == "unsubscribed" {
        let hint = "put the address among the tenant's suppressions: PUT /v1/tenants/{tenant}/suppressions";
        fault("/event", "a refusal takes an address", Some(hint));
    } else if !shaped(&asked.event) {
        fault("/event", "expected a name of a-z, 0-9 and _, from a letter on, at most 63 characters", None);
    }
    match (&asked.message_id, &asked.prospect_id) {
        (Some(_), Some(_)) => fault("/prospectId", "not beside messageId", Some("give one of them")),
        (None, None) => {
            fault("/messageId", "required, and missing", Some("or give tenantId and prospectId"));
        }
        (None, Some(_)) if asked.tenant_id.is_none() => fault("/tenantId", "required with prospectId", None),
        _ => {}
    }
    let visible = |id: &str| (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    if asked.id.as_deref().is_some_and(|id| !visible(id)) {
        fault("/id", "expected 1 to 255 visible ASCII characters without spaces", None);
    }
    let at = match &asked.at {
        None => Some(now),
        Some(text) => DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()),
    };
    if at.is_none() {
        let hint = "write RFC 3339 with an offset, such as 2025-11-14T23:00:00+01:00";
        fault("/at", "not an instant", Some(hint));
    }
    match at {
        Some(at) if faults.is_empty() => Ok(at),
        _ => Err(Problem::faults(faults)),
    }
}

fn unknown_message(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::not_found(&format!("message {shown:?}"))
}

async fn named(api: &Api, caller: &Caller, id: &str) -> Result<MessageId, Problem> {
    let parsed = MessageId::parse(id).map_err(|_| unknown_message(id))?;
    let store = &api.orchestrator.store;
    let found = match caller.only() {
        Some(tenant) => store.message(tenant, parsed).await?,
        None => store.message_of_any_tenant(parsed).await?,
    };
    found.map(|record| record.id).ok_or_else(|| unknown_message(id))
}

/// The last message that the person was sent, on that channel where one is named.
async fn last_sent(api: &Api, caller: &Caller, asked: &EventRequest) -> Result<MessageId, Problem> {
    let tenant = asked.tenant_id.as_deref().unwrap_or_default();
    let tenant =
        TenantId::parse(tenant).map_err(|wrong| Problem::fault("/tenantId", wrong.to_string(), None))?;
    if !caller.may_see(&tenant) {
        return Err(Problem::unknown_tenant(&tenant));
    }
    let recipient = RecipientId::parse(asked.prospect_id.as_deref().unwrap_or_default())
        .map_err(|wrong| Problem::fault("/prospectId", wrong.to_string(), None))?;
    let search = Search {
        tenant: Some(tenant),
        recipient: Some(recipient.to_string()),
        limit: LOOKED_THROUGH,
        ..Search::default()
    };
    let fits = |via: Option<Channel>| via.is_some() && asked.channel.is_none_or(|wanted| via == Some(wanted));
    let found = api.orchestrator.store.search(&search).await?.into_iter().find(|m| fits(m.sent_via));
    found.map(|record| record.id).ok_or_else(|| {
        let on = asked.channel.map(|channel| format!(" by {channel}")).unwrap_or_default();
        Problem::not_found(&format!("message that was sent to that person{on}"))
    })
}
