//! Who calls: anyone who may open the Unix socket, or on TCP the holder of a key.
//!
//! A key sees its tenant and nothing else: what belongs to another is answered like what does not exist. Keys
//! are never kept and never shown again: the store has the public prefix and a SHA-256. Nothing is cached, so
//! that a revoked key is refused at once.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use secrecy::SecretString;
use subtle::ConstantTimeEq;

use super::{
    Api,
    listen::Door,
    problem::{Kind, Problem},
};
use crate::{
    domain::ids::TenantId,
    store::{Keys, StoreError, StoredKey},
};

/// What every key starts with, so that scanners for leaked secrets know one.
const MARK: &str = "ork_";
const PREFIX_CHARACTERS: usize = 12;
/// 256 bits, in hex.
const SECRET_CHARACTERS: usize = 64;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Decide, send, cancel.
    Send,
    /// Read messages and policies, and decide.
    Read,
    /// Everything of its tenant, and reloading policies.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Send, Scope::Read, Scope::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Send => "send",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// A key just made: shown once, to whoever asked for it.
pub struct NewKey {
    pub key: SecretString,
    pub stored: StoredKey,
}

/// Makes a key of 256 random bits. It counts once the store has taken `stored`.
pub fn new_key(
    tenant: TenantId,
    scopes: &[Scope],
    label: &str,
    now: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<NewKey, NoRandomness> {
    let mut random = [0_u8; (PREFIX_CHARACTERS + SECRET_CHARACTERS) / 2];
    SystemRandom::new().fill(&mut random).map_err(|_| NoRandomness)?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{MARK}{hex}");
    let stored = StoredKey {
        prefix: hex[..PREFIX_CHARACTERS].to_owned(),
        hash: sha256(&key),
        tenant,
        scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        label: label.to_owned(),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    Ok(NewKey { key: key.into(), stored })
}

/// The system gave no random bytes: no key can be made safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system has no random bytes to give, so no key can be made")]
pub struct NoRandomness;

fn sha256(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

/// The public part of a key of the right form.
fn prefix_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(MARK)?;
    let shaped = rest.len() == PREFIX_CHARACTERS + SECRET_CHARACTERS
        && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    shaped.then(|| &rest[..PREFIX_CHARACTERS])
}

/// The stored key that this one is, if it is in force. The comparison takes the same time for every key.
pub async fn verify(
    keys: &(impl Keys + ?Sized),
    key: &str,
    now: DateTime<Utc>,
) -> Result<Option<StoredKey>, StoreError> {
    let Some(prefix) = prefix_of(key) else { return Ok(None) };
    let found = keys.key_by_prefix(prefix).await?;
    let kept = found.as_ref().map_or([0; 32], |stored| stored.hash);
    let same = bool::from(sha256(key).ct_eq(&kept));
    let in_force = |k: &StoredKey| k.revoked_at.is_none() && k.expires_at.is_none_or(|at| at > now);
    Ok(found.filter(|stored| same && in_force(stored)))
}

/// Who asks, once it is known.
#[derive(Clone, Debug)]
pub enum Caller {
    /// On the Unix socket: the operator, who sees every tenant.
    Operator,
    Key {
        tenant: TenantId,
        scopes: Vec<Scope>,
    },
}

impl Caller {
    pub fn may_see(&self, tenant: &TenantId) -> bool {
        self.only().is_none_or(|own| own == tenant)
    }

    /// The one tenant that this caller sees; none: all.
    pub fn only(&self) -> Option<&TenantId> {
        match self {
            Caller::Operator => None,
            Caller::Key { tenant, .. } => Some(tenant),
        }
    }

    fn may(&self, any_of: &[Scope]) -> bool {
        match self {
            Caller::Operator => true,
            Caller::Key { scopes, .. } => scopes.iter().any(|s| *s == Scope::Admin || any_of.contains(s)),
        }
    }
}

/// A handler that takes the caller can stand only behind `require`.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(unauthorized_missing)
    }
}

/// The scopes of which a group of routes needs one.
#[derive(Clone)]
pub struct Needs {
    pub api: Arc<Api>,
    pub any_of: &'static [Scope],
}

/// Lets a request through to its route, or answers 401 or 403.
pub async fn require(State(needs): State<Needs>, mut request: Request, next: Next) -> Response {
    let door = request.extensions().get().copied().unwrap_or(Door::Tcp);
    match identify(&needs.api, needs.any_of, door, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Who sent these headers; none where they may not what needs one of these scopes.
pub async fn identify(
    api: &Api,
    any_of: &'static [Scope],
    door: Door,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    match door {
        Door::Unix => Ok(Caller::Operator),
        // It waits for the store, and what it keeps meanwhile is large.
        Door::Tcp => Box::pin(by_key(api, any_of, headers)).await,
    }
}

async fn by_key(api: &Api, any_of: &'static [Scope], headers: &HeaderMap) -> Result<Caller, Problem> {
    let key = bearer(headers)?;
    let store = &api.orchestrator.store;
    let stored = verify(&**store, key, api.orchestrator.clock.now()).await?;
    let Some(stored) = stored else {
        let challenge = "Bearer realm=\"channel-orchestrator\", error=\"invalid_token\"";
        return Err(unauthorized("the key is unknown, expired or revoked", challenge));
    };
    let scopes = stored.scopes.iter().filter_map(|word| Scope::parse(word)).collect();
    let caller = Caller::Key { tenant: stored.tenant, scopes };
    if !caller.may(any_of) {
        let words: Vec<&str> = any_of.iter().map(|s| s.as_str()).collect();
        let detail = format!("the key lacks the scope {}", words.join(" or "));
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(caller)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(unauthorized_missing)?;
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        _ => Err(unauthorized_missing()),
    }
}

fn unauthorized_missing() -> Problem {
    let detail = "no key was given: send `Authorization: Bearer ork_...` (`orchestrator keys add` makes one)";
    unauthorized(detail, "Bearer realm=\"channel-orchestrator\"")
}

fn unauthorized(detail: &str, challenge: &'static str) -> Problem {
    Problem::new(Kind::Unauthorized, detail)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
