//! A broadcast's rows: each made into a request when its turn comes, and what is answered of it.
//!
//! What all rows share is checked once and refuses the whole; what is one row's refuses that row. Nothing here is
//! sent or kept.

use chrono::{DateTime, Utc};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    answers::ErrorAnswer,
    problem::{Problem, ProblemBody},
};
use crate::{
    domain::{
        channel::Channel,
        decision::Decision,
        delivery::Status,
        ids::{IdempotencyKey, TenantId},
        message::Origin,
        money::MicroEuros,
        suggest::nearest,
    },
    request::{self, Asked, Fault, Purpose, RequestError, wire},
    store::{RowMessage, RowRecord},
};

/// Rows of one JSON broadcast (details.md section 5).
const ROWS_MAX: usize = 1000;
/// The content is kept with each message: that of all rows together is at most this many bytes.
const KEPT_BYTES_MAX: usize = 512 << 20;

/// One content for many people.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the OpenAPI document is made from it; rows are read one by one, from JSON values"
)]
pub struct BroadcastRequest {
    /// 1 to 1,000 rows, all of one tenant.
    pub contexts: Vec<BroadcastRow>,
    pub content: wire::Content,
    /// Decide under this variant of the tenant's policy.
    pub variant: Option<String>,
    /// Not before this instant (RFC 3339).
    pub send_at: Option<String>,
    /// Not after this instant (RFC 3339).
    pub deadline: Option<String>,
    /// Say where each row would go and at what cost; keep and send nothing.
    pub dry_run: Option<bool>,
}

/// One person: a context, and what is this row's own.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the OpenAPI document is made from it")]
pub struct BroadcastRow {
    #[serde(flatten)]
    pub context: wire::Context,
    /// This row's own Idempotency-Key.
    pub idempotency_key: Option<String>,
    /// Values for the template, over those of `content.data`.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Map<String, Value>>,
}

const FIELDS: [&str; 6] = ["contexts", "content", "variant", "sendAt", "deadline", "dryRun"];

/// The rows of a request, unread but for their tenant.
#[derive(Debug)]
pub struct Rows {
    pub tenant: TenantId,
    pub key: Option<IdempotencyKey>,
    pub dry_run: bool,
    contexts: Vec<Value>,
    content: Value,
    /// `variant`, `sendAt`, `deadline`, where they are given.
    shared: Map<String, Value>,
    content_bytes: usize,
}

/// A row that has no fault.
pub struct Row {
    pub asked: Asked,
    pub key: Option<IdempotencyKey>,
}

impl Rows {
    /// Reads what all rows share, and the SHA-256 of the whole by which a repeat is known.
    pub fn read(value: Value, key: Option<&IdempotencyKey>) -> Result<(Self, [u8; 32]), Problem> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, value.to_string().as_bytes()).as_ref());
        let Value::Object(mut fields) = value else {
            return Err(Problem::fault("", "expected an object with contexts and content", None));
        };
        let mut faults: Vec<Fault> =
            fields.keys().filter(|name| !FIELDS.contains(&name.as_str())).map(|name| unknown(name)).collect();
        let contexts = contexts(fields.remove("contexts"), &mut faults);
        let content = fields.remove("content").unwrap_or(Value::Null);
        let dry_run = match fields.remove("dryRun") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(yes)) => yes,
            Some(_) => {
                faults.push(fault("/dryRun", "expected true or false"));
                false
            }
        };
        let tenant = contexts.iter().find_map(|row| TenantId::parse(row.get("tenantId")?.as_str()?).ok());
        let Some(tenant) = tenant else {
            if faults.is_empty() {
                faults.push(fault("/contexts/0/tenantId", "no row names a tenant"));
            }
            return Err(Problem::faults(faults));
        };
        let content_bytes = content.to_string().len();
        if content_bytes.saturating_mul(contexts.len()) > KEPT_BYTES_MAX {
            let detail = format!(
                "{content_bytes} bytes for each of {} rows: together at most {} MiB",
                contexts.len(),
                KEPT_BYTES_MAX >> 20
            );
            faults.push(fault("/content", &detail));
        }
        fields.retain(|name, _| FIELDS.contains(&name.as_str()));
        let rows =
            Self { tenant, key: key.cloned(), dry_run, contexts, content, shared: fields, content_bytes };
        if faults.is_empty() {
            faults = rows.shared_faults();
        }
        if faults.is_empty() { Ok((rows, hash)) } else { Err(Problem::faults(faults)) }
    }

    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// What one row's message weighs, about.
    pub fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// What a row with a faultless context says of the rest.
    fn shared_faults(&self) -> Vec<Fault> {
        let sample = json!({ "tenantId": self.tenant, "prospectId": "row" });
        let Value::Object(sample) = sample else { return Vec::new() };
        match self.request(sample, Map::new()) {
            Err(faults) => faults,
            Ok(_) => Vec::new(),
        }
    }

    /// The request of a context, as a single message would make it.
    fn request(
        &self,
        mut context: Map<String, Value>,
        data: Map<String, Value>,
    ) -> Result<Asked, Vec<Fault>> {
        context.entry("origin").or_insert_with(|| Origin::Broadcast.as_str().into());
        let mut content = self.content.clone();
        if let (Value::Object(content), false) = (&mut content, data.is_empty()) {
            let all = content.entry("data").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(all) = all {
                all.extend(data);
            }
        }
        let mut fields = self.shared.clone();
        fields.insert("context".to_owned(), Value::Object(context));
        fields.insert("content".to_owned(), content);
        request::parse_value(Value::Object(fields), Purpose::Message).map_err(|error| match error {
            RequestError::Faults(faults) => faults,
            RequestError::Syntax(words) => vec![fault("", &words)],
        })
    }

    /// A row, or its faults with their places in the body.
    pub fn row(&self, at: usize) -> Result<Row, Vec<Fault>> {
        let place = format!("/contexts/{at}");
        let Some(Value::Object(context)) = self.contexts.get(at) else {
            return Err(vec![fault(&place, "expected an object")]);
        };
        let (mut context, mut faults) = (context.clone(), Vec::new());
        let own = match context.remove("idempotencyKey") {
            None | Some(Value::Null) => None,
            Some(value) => match IdempotencyKey::parse(value.as_str().unwrap_or_default()) {
                Ok(key) => Some(key),
                Err(wrong) => {
                    faults.push(fault(&format!("{place}/idempotencyKey"), &wrong.to_string()));
                    None
                }
            },
        };
        let data = match context.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => {
                faults.push(fault(&format!("{place}/data"), "expected an object"));
                Map::new()
            }
        };
        if let Some(other) = context.get("tenantId").and_then(Value::as_str)
            && other != self.tenant.as_str()
            && TenantId::parse(other).is_ok()
        {
            let detail = format!("a broadcast is one tenant's, and the first row's is {}", self.tenant);
            faults.push(fault(&format!("{place}/tenantId"), &detail));
        }
        let key = own.map(Ok).or_else(|| {
            let joined = format!("{}/{at}", self.key.as_ref()?);
            Some(IdempotencyKey::parse(&joined).map_err(|wrong| fault("", &wrong.to_string())))
        });
        let asked = self.request(context, data);
        if let Err(found) = &asked {
            faults.extend(found.iter().cloned().map(|fault| placed(fault, &place)));
        }
        match (asked, key.transpose()) {
            (Ok(asked), Ok(key)) if faults.is_empty() => Ok(Row { asked, key }),
            (_, Err(wrong)) => Err(faults.into_iter().chain([wrong]).collect()),
            _ => Err(faults),
        }
    }

    /// A row's problem as JSON, for the answer and for what is kept.
    pub fn in_json(&self, problem: &Problem, at: usize) -> Value {
        let place = format!("/contexts/{at}");
        let mut body: ProblemBody = problem.body().clone();
        "/v1/broadcasts".clone_into(&mut body.instance);
        body.errors = body.errors.into_iter().map(|fault| placed(fault, &place)).collect();
        serde_json::to_value(&body).unwrap_or(Value::Null)
    }
}

/// The rows, or none with a fault.
fn contexts(value: Option<Value>, faults: &mut Vec<Fault>) -> Vec<Value> {
    match value {
        Some(Value::Array(rows)) if (1..=ROWS_MAX).contains(&rows.len()) => return rows,
        Some(Value::Array(rows)) => {
            let detail = format!("{} rows: expected 1 to {ROWS_MAX}", rows.len());
            faults.push(fault("/contexts", &detail));
        }
        Some(_) => faults.push(fault("/contexts", "expected an array of contexts")),
        None => faults.push(fault("/contexts", "required, and missing")),
    }
    Vec::new()
}

fn fault(pointer: &str, detail: &str) -> Fault {
    Fault { pointer: pointer.to_owned(), detail: detail.to_owned(), hint: None }
}

fn unknown(name: &str) -> Fault {
    let shown: String = name.chars().take(80).collect();
    let hint = match nearest(name, FIELDS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", FIELDS.join(", ")),
    };
    let pointer = format!("/{}", shown.replace('~', "~0").replace('/', "~1"));
    Fault { pointer, detail: format!("unknown field `{shown}`"), hint: Some(hint) }
}

/// A fault of the single request, where it stands in the broadcast.
fn placed(fault: Fault, place: &str) -> Fault {
    match fault.pointer.strip_prefix("/context") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            Fault { pointer: format!("{place}{rest}"), ..fault }
        }
        _ => fault,
    }
}

/// What became of one row.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RowAnswer {
    /// Its place in `contexts`, from 0.
    pub row: u32,
    /// False where it made no message, and once its message has ended without being handed to a provider.
    pub success: bool,
    /// The channel that was chosen; `sentVia` is the one that took it.
    pub channel: Option<Channel>,
    /// None for a dry run, and where the row was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_via: Option<Channel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
    /// Why it was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorAnswer>,
    /// Euros: estimated for a dry run, else committed so far.
    pub cost: f64,
    /// Its message had been made before, by the same key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub repeated: bool,
    /// Why there is no message, or none that may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemBody>)]
    pub problem: Option<Value>,
}

impl RowAnswer {
    pub fn new(record: &RowRecord) -> Self {
        let mut answer = match &record.message {
            Some(message) => Self::of_message(record.row, message),
            None => Self::refused(record.row as usize, Value::Null),
        };
        answer.problem.clone_from(&record.problem);
        answer.repeated = record.repeated;
        answer
    }

    /// A row that made no message.
    pub fn refused(at: usize, problem: Value) -> Self {
        Self {
            row: u32::try_from(at).unwrap_or(u32::MAX),
            success: false,
            channel: None,
            message_id: None,
            status: None,
            sent_via: None,
            held_until: None,
            error: None,
            cost: 0.0,
            repeated: false,
            problem: Some(problem),
        }
    }

    /// A row of a dry run.
    pub fn preview(at: usize, decision: &Decision) -> Self {
        let cost = decision.winner().map_or(MicroEuros::ZERO, |winner| winner.cost);
        Self {
            success: true,
            channel: decision.chosen,
            held_until: decision.held_until,
            cost: cost.euros(),
            problem: None,
            ..Self::refused(at, Value::Null)
        }
    }

    fn of_message(row: u32, message: &RowMessage) -> Self {
        let lost = super::answers::is_lost(message.status);
        let last = message.attempts.iter().rev().find_map(|a| a.error.as_ref()).filter(|_| lost);
        let error = last.map(|error| ErrorAnswer {
            class: Some(error.class),
            code: error.code.clone(),
            detail: error.detail.clone(),
        });
        let reason = message.status_reason.clone().filter(|_| lost);
        let error = error.or_else(|| Some(ErrorAnswer { class: None, code: None, detail: reason? }));
        let cost: MicroEuros = message.attempts.iter().map(|attempt| attempt.cost).sum();
        Self {
            row,
            success: !lost,
            channel: message.chosen,
            message_id: Some(message.id.to_string()),
            status: Some(message.status),
            sent_via: message.sent_via,
            held_until: message.due_at.filter(|_| message.status == Status::Held),
            error,
            cost: cost.euros(),
            repeated: false,
            problem: None,
        }
    }

    pub fn euros(&self) -> MicroEuros {
        MicroEuros::from_euros(self.cost).unwrap_or_default()
    }
}
