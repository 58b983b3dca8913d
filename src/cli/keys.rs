//! `keys`: who may come in by TCP. Works on the database itself, whether a daemon runs or not.
//!
//! A key is shown once, when it is made; what is kept cannot give it back.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    arguments::KeysAction,
    layout::fit,
    outcome::{Answer, Failure},
};
use crate::{
    api::auth::{self, Scope},
    app,
    config::Config,
    domain::{
        ids::TenantId,
        time::{Clock, SystemClock},
    },
    store::{Keys, StoreError, StoredKey},
};

/// Days; a key that is to work longer is made without an end.
const DAYS_MAX: i64 = 3650;

pub async fn run(config: &Config, action: &KeysAction, json: bool) -> Result<Answer, Failure> {
    let store = app::open_database_for_keys(config).await.map_err(failure)?;
    let outcome = match action {
        KeysAction::Add { tenant, scope, label, expires } => {
            add(&*store, config, tenant, scope, label, expires.as_deref(), json).await
        }
        KeysAction::List { tenant } => list(&*store, tenant.as_deref(), json).await,
        KeysAction::Revoke { prefix } => revoke(&*store, prefix, json).await,
    };
    store.close().await;
    outcome
}

/// A busy or absent database may answer in a moment; one that cannot be used is a matter of settings.
fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) => Failure::TryAgain(error.to_string()),
        other => Failure::Other(other.into()),
    }
}

fn tenant_of(text: &str) -> Result<TenantId, Failure> {
    TenantId::parse(text).map_err(|error| Failure::Usage(error.to_string()))
}

async fn add(
    store: &(impl Keys + ?Sized),
    config: &Config,
    tenant: &str,
    scopes: &[String],
    label: &str,
    expires: Option<&str>,
    json: bool,
) -> Result<Answer, Failure> {
    let tenant = tenant_of(tenant)?;
    let now = SystemClock.now();
    let expires_at = expires.map(|text| expiry(text, now)).transpose()?;
    let scopes: Vec<Scope> = scopes.iter().filter_map(|word| Scope::parse(word)).collect();
    let new = auth::new_key(tenant.clone(), &scopes, label, now, expires_at).map_err(anyhow::Error::from)?;
    store.add_key(&new.stored).await.map_err(failure)?;
    let file = config.policies.path.join("tenants").join(format!("{tenant}.toml"));
    if !file.is_file() {
        anstream::eprintln!(
            "remark: there is no {}; until there is, requests of {tenant} get 404",
            file.display()
        );
    }
    if json {
        let mut shown = in_json(&new.stored);
        shown["key"] = json!(new.key.expose_secret());
        println!("{shown:#}");
    } else {
        println!("{}", new.key.expose_secret());
        anstream::eprintln!(
            "this key is shown once. Send it as `Authorization: Bearer {}…`; it may {} for {tenant}, {}",
            new.key.expose_secret().chars().take(8).collect::<String>(),
            new.stored.scopes.join(" and "),
            expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", day(at))),
        );
    }
    Ok(Answer::Yes)
}

/// `90d` or `12h` from now.
fn expiry(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is not a time: days or hours, such as 90d or 12h"));
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let hours = match unit {
        'd' => number.checked_mul(24).ok_or_else(wrong)?,
        'h' => number,
        _ => return Err(wrong()),
    };
    if !(1..=DAYS_MAX * 24).contains(&hours) {
        return Err(Failure::Usage(format!("{text:?}: expected 1h to {DAYS_MAX}d")));
    }
    Ok(now + TimeDelta::hours(hours))
}

async fn list(store: &(impl Keys + ?Sized), tenant: Option<&str>, json: bool) -> Result<Answer, Failure> {
    let tenant = tenant.map(tenant_of).transpose()?;
    let keys = store.keys(tenant.as_ref()).await.map_err(failure)?;
    if json {
        let keys: Vec<_> = keys.iter().map(in_json).collect();
        println!("{:#}", json!(keys));
        return Ok(Answer::Yes);
    }
    if keys.is_empty() {
        println!("no keys: make one with `{} keys add TENANT`", super::invocation());
        return Ok(Answer::Yes);
    }
    let now = SystemClock.now();
    println!("{} {} {} {} label", fit("prefix", 12), fit("tenant", 16), fit("may", 16), fit("state", 24));
    for key in &keys {
        println!(
            "{} {} {} {} {}",
            fit(&key.prefix, 12),
            fit(key.tenant.as_str(), 16),
            fit(&key.scopes.join(","), 16),
            fit(&state(key, now), 24),
            key.label
        );
    }
    Ok(Answer::Yes)
}

async fn revoke(store: &(impl Keys + ?Sized), prefix: &str, json: bool) -> Result<Answer, Failure> {
    // A whole key is taken as well: people paste what they have.
    let shown = prefix.strip_prefix("ork_").unwrap_or(prefix);
    let shown: String = shown.chars().take(12).collect();
    let revoked = store.revoke_key(&shown, SystemClock.now()).await.map_err(failure)?;
    if json {
        println!("{:#}", json!({ "prefix": shown, "revoked": revoked }));
    } else if revoked {
        println!("{shown} is revoked, at once");
    } else {
        anstream::eprintln!("no key in force starts with {shown}: see `{} keys list`", super::invocation());
    }
    Ok(if revoked { Answer::Yes } else { Answer::No })
}

fn state(key: &StoredKey, now: DateTime<Utc>) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", day(at)),
        (None, Some(at)) if at <= now => format!("expired {}", day(at)),
        (None, Some(at)) => format!("until {}", day(at)),
        (None, None) => "in force".to_owned(),
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// Never the key, nor its hash.
fn in_json(key: &StoredKey) -> serde_json::Value {
    json!({
        "prefix": key.prefix,
        "tenant": key.tenant,
        "scopes": key.scopes,
        "label": key.label,
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_days_or_hours() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(expiry("90d", now).unwrap(), now + TimeDelta::days(90));
        assert_eq!(expiry("12h", now).unwrap(), now + TimeDelta::hours(12));
        for wrong in ["", "d", "90", "-1d", "0h", "9999999d", "12m", "9223372036854775807d", "é"] {
            assert!(matches!(expiry(wrong, now), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
