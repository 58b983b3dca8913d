//! Keys on TCP: the whole matrix of routes and keys, made from the OpenAPI document, so that a route that is
//! added without a guard fails here.

use axum::{body::Body, http::Request};
use channel_orchestrator::{
    api::{
        ApiSettings,
        auth::{Scope, new_key, verify},
        openapi::document,
    },
    domain::ids::TenantId,
};
use chrono::TimeDelta;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::house::{AFTERNOON, Answer, House, example, get, instant, post, with};

/// Routes that ask nobody who they are.
const OPEN: [&str; 3] = ["/healthz", "/openapi.json", "/readyz"];

/// Every operation of the document: method and path.
fn operations() -> Vec<(String, String)> {
    let document = serde_json::to_value(document()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            found.push((method.to_ascii_uppercase(), path.clone()));
        }
    }
    assert!(found.len() >= 12, "{found:?}");
    found
}

/// A well-formed request of the operation, about `tenant` and its message `id`.
fn request(house: &House, method: &str, path: &str, tenant: &str, id: &str) -> Request<Body> {
    let operation = path;
    let path = path.replace("{id}", id).replace("{tenant}", tenant);
    let version = house.version("acme");
    if method == "GET" {
        let query = match operation {
            "/v1/messages" => format!("?tenant={tenant}"),
            "/v1/policies/{tenant}/diff" => format!("?from={version}&to={version}"),
            _ => String::new(),
        };
        return get(&format!("{path}{query}"));
    }
    if operation == "/v1/policies/{tenant}/rollback" {
        return post(&path, &json!({ "version": version }));
    }
    let body = match operation {
        "/v1/broadcasts" => broadcast(tenant),
        path if ["/resend", "/release", "/pause", "/resume"].iter().any(|act| path.ends_with(act)) => {
            json!({ "reason": "a test", "by": "zoe" })
        }
        "/v1/tenants/{tenant}/recipients/{recipient}" => json!({ "reason": "a test", "by": "zoe" }),
        "/v1/messages/{id}/settle" => json!({ "reason": "a test", "by": "zoe", "outcome": "sent" }),
        "/v1/events" => json!({ "event": "confirmed", "messageId": id }),
        "/v1/tenants/{tenant}/suppressions" => {
            json!({ "channel": "sms", "address": "06 12 34 56 78", "reason": "asked by telephone" })
        }
        _ => {
            let mut body = example("urgent");
            body["context"]["tenantId"] = tenant.into();
            body
        }
    };
    let mut request = post(&path, &body);
    *request.method_mut() = method.parse().unwrap();
    if operation.ends_with(":batch") {
        return with(request, "content-type", "application/x-ndjson");
    }
    request
}

fn broadcast(tenant: &str) -> Value {
    let mut body = example("urgent");
    body["context"]["tenantId"] = tenant.into();
    json!({ "contexts": [body["context"]], "content": body["content"] })
}

/// What the path's `{id}` stands for, of that tenant.
async fn thing_of(house: &House, path: &str, tenant: &str) -> String {
    if path.starts_with("/v1/broadcasts/") {
        let made = house.ask(with(post("/v1/broadcasts", &broadcast(tenant)), "prefer", "wait=0")).await;
        return made.json()["broadcastId"].as_str().unwrap().to_owned();
    }
    message_of(house, tenant).await
}

fn bearer(request: Request<Body>, key: &str) -> Request<Body> {
    with(request, "authorization", &format!("Bearer {key}"))
}

async fn message_of(house: &House, tenant: &str) -> String {
    let mut body = example("urgent");
    body["context"]["tenantId"] = tenant.into();
    let answer = house.ask(with(post("/v1/messages", &body), "prefer", "wait=0")).await;
    answer.json()["messageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_valid_key_only_the_open_routes_answer() {
    let house = House::idle(ApiSettings::default()).await;
    let id = message_of(&house, "acme").await;
    let good = house.key("acme", &Scope::ALL).await;
    let mut altered = good.clone();
    let last = altered.pop().unwrap();
    altered.push(if last == '0' { '1' } else { '0' });
    for (method, path) in operations() {
        let plain = house.ask_tcp(request(&house, &method, &path, "acme", &id)).await;
        if OPEN.contains(&path.as_str()) {
            assert_eq!(plain.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!(plain.status, 401, "{method} {path}: {plain:?}");
        assert!(plain.header("www-authenticate").unwrap().starts_with("Bearer"));
        let unknown = format!("ork_{}", "0".repeat(76));
        for wrong in ["", "ork_", altered.as_str(), unknown.as_str()] {
            let answer = house.ask_tcp(bearer(request(&house, &method, &path, "acme", &id), wrong)).await;
            assert_eq!(answer.status, 401, "{method} {path} {wrong}");
        }
        let basic = with(request(&house, &method, &path, "acme", &id), "authorization", "Basic YTpi");
        assert_eq!(house.ask_tcp(basic).await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let house = House::idle(ApiSettings::default()).await;
    // What is tailed has no end; its own tests say who may.
    let ends = |path: &str| !OPEN.contains(&path) && path != "/v1/tail";
    for (method, path) in operations().into_iter().filter(|(_, p)| ends(p)) {
        let act = ["/resend", "/settle", "/release"].iter().any(|act| path.ends_with(act));
        let scopes: &[Scope] = match (method.as_str(), path.as_str()) {
            ("POST", "/v1/decisions" | "/v1/decisions:batch") => &[Scope::Send, Scope::Read, Scope::Admin],
            ("POST", "/v1/messages" | "/v1/messages/{id}/cancel") => &[Scope::Send, Scope::Admin],
            ("POST", "/v1/broadcasts" | "/v1/broadcasts/{id}/cancel" | "/v1/events") => {
                &[Scope::Send, Scope::Admin]
            }
            (_, "/v1/tenants/{tenant}/suppressions") => &[Scope::Admin],
            // Shared by the tenants: no key will do.
            (_, path) if path.starts_with("/v1/drivers/") || path == "/v1/returned" => &[],
            (_, path) if act || path.ends_with("/pause") || path.ends_with("/resume") => &[Scope::Admin],
            ("DELETE", _) | ("GET", "/v1/acts") => &[Scope::Admin],
            ("GET", "/metrics") | ("POST", "/v1/policies/reload") => &[Scope::Admin],
            (_, path) if path.starts_with("/v1/policies/{tenant}/") => &[Scope::Admin],
            _ => &[Scope::Read, Scope::Admin],
        };
        for scope in Scope::ALL {
            let id = thing_of(&house, &path, "acme").await;
            let key = house.key("acme", &[scope]).await;
            let asked = with(request(&house, &method, &path, "acme", &id), "prefer", "wait=0");
            let answer = house.ask_tcp(bearer(asked, &key)).await;
            if scopes.contains(&scope) && path == "/v1/policies/{tenant}/forget" {
                assert_eq!(answer.json()["type"], "/problems/tenant-still-there", "{answer:?}");
            } else if scopes.contains(&scope) && act {
                assert_eq!(answer.json()["type"], "/problems/not-now", "{answer:?}");
            } else if scopes.contains(&scope) {
                assert!(answer.status.is_success(), "{method} {path} {scope:?}: {answer:?}");
            } else {
                assert_eq!(answer.status, 403, "{method} {path} {scope:?}: {answer:?}");
            }
        }
    }
}

/// Another tenant's tenant id and message ids are answered like ids of nobody, byte for byte (T2).
#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let house = House::idle(ApiSettings::default()).await;
    let key = house.key("acme", &Scope::ALL).await;
    let message = message_of(&house, "globex").await;
    let nobodys = "msg_0198c0de000070008000000000000000";
    let without = |answer: &Answer, words: &[&str]| {
        let mut text = answer.text.clone();
        for word in words {
            text = text.replace(word, "…");
        }
        text
    };
    for (method, path) in operations() {
        let bodies = ["/v1/messages", "/v1/decisions", "/v1/broadcasts", "/v1/events"];
        let concerned = path.contains('{') || bodies.contains(&path.as_str());
        // A driver is no tenant's: every key is refused in the same words.
        if !concerned || path.starts_with("/v1/drivers/") {
            continue;
        }
        let broadcast = path.starts_with("/v1/broadcasts/");
        let theirs = if broadcast { thing_of(&house, &path, "globex").await } else { message.clone() };
        let nobodys = if broadcast { nobodys.replace("msg_", "bc_") } else { nobodys.to_owned() };
        let nobodys = nobodys.as_str();
        let exists = house.ask_tcp(bearer(request(&house, &method, &path, "globex", &theirs), &key)).await;
        let not = house.ask_tcp(bearer(request(&house, &method, &path, "initech", nobodys), &key)).await;
        assert_eq!((exists.status.as_u16(), not.status.as_u16()), (404, 404), "{method} {path}: {exists:?}");
        assert_eq!(without(&exists, &["globex", &theirs]), without(&not, &["initech", nobodys]));
        let names = |a: &Answer| a.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&exists), names(&not));
    }
    // Nothing of the other shows in what this one may see.
    for path in ["/v1/messages", "/v1/policies", "/metrics"] {
        let seen = house.ask_tcp(bearer(get(path), &key)).await;
        assert_eq!(seen.status, 200);
        assert!(!seen.text.contains("globex"), "{path}: {}", seen.text);
    }
    let theirs = house.get(&format!("/v1/messages/{message}")).await;
    assert_eq!(theirs.json()["status"], "queued", "nobody cancelled it");
}

#[tokio::test]
async fn a_broken_file_of_another_tenant_is_not_ones_own() {
    let house = House::idle(ApiSettings::default()).await;
    let key = house.key("acme", &[Scope::Admin]).await;
    std::fs::write(house.dir.path().join("policies/tenants/globex.toml"), "oops").unwrap();
    let mine = house.ask_tcp(bearer(post("/v1/policies/reload", &json!(null)), &key)).await;
    assert_eq!(mine.status, 200, "{mine:?}");
    assert!(!mine.text.contains("globex"), "{}", mine.text);
    let operators = house.post("/v1/policies/reload", &json!(null)).await;
    assert_eq!(operators.status, 422);
}

#[tokio::test]
async fn a_key_ends_when_it_is_revoked_or_expires() {
    let house = House::idle(ApiSettings::default()).await;
    let store = &house.api.orchestrator.store;
    let ask = |key: String| house.ask_tcp(bearer(get("/v1/messages"), &key));
    let now = instant(AFTERNOON);

    let key = house.key("acme", &[Scope::Read]).await;
    assert_eq!(ask(key.clone()).await.status, 200);
    assert!(store.revoke_key(&key[4..16], now).await.unwrap());
    assert_eq!(ask(key).await.status, 401);

    let tenant = TenantId::parse("acme").unwrap();
    let ends = now + TimeDelta::hours(1);
    let made = new_key(tenant, &[Scope::Read], "an hour", now, Some(ends)).unwrap();
    store.add_key(&made.stored).await.unwrap();
    let key = made.key.expose_secret().to_owned();
    assert_eq!(ask(key.clone()).await.status, 200);
    house.clock.set(ends);
    assert_eq!(ask(key).await.status, 401);
}

#[tokio::test]
async fn a_key_is_not_kept_and_two_are_never_the_same() {
    let house = House::idle(ApiSettings::default()).await;
    let now = instant(AFTERNOON);
    let make = || new_key(TenantId::parse("acme").unwrap(), &[Scope::Send], "", now, None).unwrap();
    let (one, two) = (make(), make());
    assert_ne!(one.key.expose_secret(), two.key.expose_secret());
    assert!(one.key.expose_secret().starts_with(&format!("ork_{}", one.stored.prefix)));
    assert!(!format!("{:?}", one.stored).contains(&one.key.expose_secret()[16..]));
    let store = &house.api.orchestrator.store;
    store.add_key(&one.stored).await.unwrap();
    assert_eq!(verify(&**store, one.key.expose_secret(), now).await.unwrap(), Some(one.stored));
    assert_eq!(verify(&**store, two.key.expose_secret(), now).await.unwrap(), None);
}

/// A page in a browser reaches a port of this machine: it gets nothing (T6).
#[tokio::test]
async fn browsers_and_foreign_names_are_refused_before_any_key_is_looked_at() {
    let settings = ApiSettings { hosts: vec!["Mail.Example.".into()], ..ApiSettings::default() };
    let house = House::idle(settings).await;
    let key = house.key("acme", &[Scope::Read]).await;
    let ask = |host: Option<&'static str>, origin: Option<&'static str>| {
        let mut request = bearer(get("/v1/messages"), &key);
        if let Some(host) = host {
            request = with(request, "host", host);
        }
        if let Some(origin) = origin {
            request = with(request, "origin", origin);
        }
        house.ask_as_it_is(request)
    };
    for host in ["localhost", "127.0.0.1:8080", "[::1]:8080", "mail.example:443"] {
        assert_eq!(ask(Some(host), None).await.status, 200, "{host}");
    }
    for host in [None, Some("evil.example"), Some("localhost.evil.example"), Some("")] {
        assert_eq!(ask(host, None).await.status, 403, "{host:?}");
    }
    for origin in ["http://localhost", "null", "https://evil.example"] {
        let refused = ask(Some("localhost"), Some(origin)).await;
        assert_eq!(refused.status, 403, "{origin}");
        assert_eq!(refused.json()["type"], "/problems/forbidden");
        assert!(refused.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    }
    let absolute = Request::get("http://evil.example/v1/messages").body(Body::empty()).unwrap();
    let absolute = with(bearer(absolute, &key), "host", "localhost");
    assert_eq!(house.ask_as_it_is(absolute).await.status, 403);
    let _: Value = house.get("/healthz").await.json();
}
