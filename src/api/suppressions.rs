//! `/v1/tenants/{tenant}/suppressions`: who refused, told by people and by callers.
//!
//! Addresses are read as a send reads them, with the tenant's region. A refusal holds for every send whose intent
//! is recorded after the answer. Addresses stand in bodies and never in a path or a query: those are logged by
//! whatever stands before the daemon.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    policies::tenant_of,
    problem::{Problem, ProblemBody},
};
use crate::{
    domain::{
        address::{Contact, RawContacts, read_contacts},
        channel::Channel,
        ids::TenantId,
    },
    request::Fault,
    store::{Suppression, SuppressionCursor, SuppressionKey},
};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 500;
/// Characters of a reason, of a proof, of a sender.
const REASON_MAX: usize = 200;
const PROOF_MAX: usize = 4000;
const SENDER_MAX: usize = 254;
const EXPECTED: &str =
    "{\"channel\": \"sms\", \"address\": \"+33612345678\", \"reason\": \"asked by telephone\"}";

/// Whom not to write to, or whom again, and why.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuppressionRequest {
    pub channel: Channel,
    /// In any written form; national forms are read with the tenant's region.
    #[schema(example = "06 12 34 56 78")]
    pub address: String,
    /// One sender's number, name or mailbox only; none: whichever of the tenant's writes.
    pub sender: Option<String>,
    #[schema(example = "asked by telephone on 14 November")]
    pub reason: String,
    /// What the person said or signed, kept as the proof. PUT only.
    pub proof: Option<String>,
}

/// A refusal.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuppressionAnswer {
    pub channel: Channel,
    /// As it is kept (E.164 for telephones); `#` and a hash once the person was erased.
    pub address: String,
    /// Null: whichever of the tenant's senders writes.
    pub sender: Option<String>,
    /// Whether it also binds other tenants that use this sender: the person refused the number that they saw.
    pub shared: bool,
    pub reason: String,
    /// `inbound`, `provider`, `unsubscribe`, `bounce`, `complaint`, `blocked` or `api`.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Its wording was no plain STOP: a person should look at it.
    pub review: bool,
    pub at: DateTime<Utc>,
}

/// Refusals, by address.
#[derive(Clone, Serialize, ToSchema)]
pub struct SuppressionList {
    pub suppressions: Vec<SuppressionAnswer>,
    /// Ask again with `cursor` set to this for what follows; null at the end.
    pub next: Option<String>,
}

/// What lifting came to.
#[derive(Clone, Serialize, ToSchema)]
pub struct Lifted {
    /// How many refusals were lifted.
    pub lifted: u64,
}

impl SuppressionAnswer {
    fn new(kept: Suppression) -> Self {
        Self {
            channel: kept.channel,
            address: kept.address,
            sender: kept.sender,
            shared: kept.tenant.is_none(),
            reason: kept.reason,
            source: kept.source,
            proof: kept.proof,
            review: kept.review,
            at: kept.at,
        }
    }
}

/// Who refused this tenant.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/suppressions", tag = "suppressions", operation_id = "listSuppressions",
    params(
        ("tenant" = String, Path, description = "The tenant's id"),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 100 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "At most `limit` refusals", body = SuppressionList),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<SuppressionList>, Problem> {
    let tenant = known_tenant(&api, &caller, &tenant)?;
    let (mut after, mut limit, mut faults) = (None, LIMIT_DEFAULT, Vec::new());
    for (name, value) in &query {
        let taken = match name.as_str() {
            "cursor" => read_cursor(value)
                .map(|cursor| after = Some(cursor))
                .ok_or_else(|| "expected the `next` of an earlier answer".to_owned()),
            "limit" => match value.parse() {
                Ok(asked) if (1..=LIMIT_MAX).contains(&asked) => {
                    limit = asked;
                    Ok(())
                }
                _ => Err(format!("expected a whole number, 1 to {LIMIT_MAX}")),
            },
            _ => Err("unknown parameter; expected cursor or limit".to_owned()),
        };
        if let Err(detail) = taken {
            let name: String = name.chars().take(80).collect();
            faults.push(Fault { pointer: format!("?{name}"), detail, hint: None });
        }
    }
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let found = api.orchestrator.store.suppressions(Some(&tenant), after.as_ref(), limit).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| cursor(&last.cursor()));
    Ok(Json(SuppressionList { suppressions: found.into_iter().map(SuppressionAnswer::new).collect(), next }))
}

/// Do not write to an address any more.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/suppressions", tag = "suppressions", operation_id = "putSuppression",
    params(("tenant" = String, Path, description = "The tenant's id")),
    request_body(content = SuppressionRequest),
    responses(
        (status = 200, description = "It was refused already", body = SuppressionAnswer),
        (status = 201, description = "It is refused from now on", body = SuppressionAnswer),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in the request", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn put(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let tenant = known_tenant(&api, &caller, &tenant)?;
    let asked: SuppressionRequest = body::receive_json(&api, request, EXPECTED).await?;
    let key = read(&api, &tenant, &asked)?;
    let (store, now) = (&api.orchestrator.store, api.orchestrator.clock.now());
    let new = store.suppress(&key, asked.reason.trim(), asked.proof.as_deref(), now).await?;
    let answer = SuppressionAnswer {
        channel: key.channel,
        address: key.address.as_str().to_owned(),
        sender: key.sender,
        shared: false,
        reason: asked.reason.trim().to_owned(),
        source: "api".to_owned(),
        proof: asked.proof,
        review: false,
        at: now,
    };
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(answer)).into_response())
}

/// Lift what refuses an address: the person wants to be written to again.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/suppressions", tag = "suppressions", operation_id = "liftSuppression",
    params(("tenant" = String, Path, description = "The tenant's id")),
    request_body(content = SuppressionRequest, description = "`reason` says why it may be lifted"),
    responses(
        (status = 200, description = "How many refusals were lifted: 0 where there was none of this tenant's", body = Lifted),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in the request", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn lift(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Json<Lifted>, Problem> {
    let tenant = known_tenant(&api, &caller, &tenant)?;
    let asked: SuppressionRequest = body::receive_json(&api, request, EXPECTED).await?;
    let key = read(&api, &tenant, &asked)?;
    if asked.proof.is_some() {
        return Err(Problem::fault("/proof", "not taken here", Some("say it in the reason".to_owned())));
    }
    let (store, now) = (&api.orchestrator.store, api.orchestrator.clock.now());
    let lifted = store.lift(&key, asked.reason.trim(), now).await?;
    tracing::info!(%tenant, channel = %key.channel, lifted, "refusals were lifted by a caller");
    Ok(Json(Lifted { lifted }))
}

fn known_tenant(api: &Api, caller: &Caller, tenant: &str) -> Result<TenantId, Problem> {
    let tenant = tenant_of(caller, tenant)?;
    match api.orchestrator.policies.current().tenant(&tenant) {
        Some(_) => Ok(tenant),
        None => Err(Problem::unknown_tenant(&tenant)),
    }
}

/// What a request is about, or everything that is wrong with it.
fn read(api: &Api, tenant: &TenantId, asked: &SuppressionRequest) -> Result<SuppressionKey, Problem> {
    let mut faults = Vec::new();
    let mut fault = |pointer: &str, detail: String| {
        faults.push(Fault { pointer: pointer.to_owned(), detail, hint: None });
    };
    let generation = api.orchestrator.policies.current();
    let bundle = generation.tenant(tenant).ok_or_else(|| Problem::unknown_tenant(tenant))?;
    let given = Some(asked.address.clone());
    let raw = match asked.channel {
        Channel::Sms => RawContacts { phone: given, ..RawContacts::default() },
        Channel::Email => RawContacts { email: given, ..RawContacts::default() },
        Channel::WhatsApp => RawContacts { whatsapp: given, ..RawContacts::default() },
        Channel::Telegram => RawContacts { telegram: given, ..RawContacts::default() },
    };
    let contact = read_contacts(&raw, bundle.policy().region)[asked.channel].clone();
    let address = match contact {
        Contact::Known(address) => Some(address),
        Contact::Missing => {
            fault("/address", "expected an address of the channel".to_owned());
            None
        }
        Contact::Unreadable(why) => {
            fault("/address", why);
            None
        }
    };
    let mut line = |pointer: &str, text: &str, most: usize| {
        let length = text.trim().chars().count();
        if !(1..=most).contains(&length) || text.chars().any(|c| c.is_control() && c != '\n') {
            fault(pointer, format!("expected 1 to {most} characters, none of them a control character"));
        }
    };
    line("/reason", &asked.reason, REASON_MAX);
    if let Some(sender) = &asked.sender {
        line("/sender", sender, SENDER_MAX);
    }
    if let Some(proof) = &asked.proof {
        line("/proof", proof, PROOF_MAX);
    }
    match address {
        Some(address) if faults.is_empty() => Ok(SuppressionKey {
            address,
            channel: asked.channel,
            sender: asked.sender.clone(),
            tenant: Some(tenant.clone()),
        }),
        _ => Err(Problem::faults(faults)),
    }
}

/// Opaque to callers: where a list goes on.
fn cursor(at: &SuppressionCursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}\n{}\n{}", at.address, at.channel, at.sender))
}

fn read_cursor(text: &str) -> Option<SuppressionCursor> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let mut parts = text.splitn(3, '\n');
    let (address, channel, sender) = (parts.next()?, Channel::parse(parts.next()?)?, parts.next()?);
    Some(SuppressionCursor { address: address.to_owned(), channel, sender: sender.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let at = SuppressionCursor {
            address: "zoé@example.fr".into(),
            channel: Channel::Email,
            sender: "".into(),
        };
        assert_eq!(read_cursor(&cursor(&at)), Some(at));
        for wrong in ["", "x", "bm90aGluZw", "é"] {
            assert_eq!(read_cursor(wrong), None, "{wrong}");
        }
    }
}
