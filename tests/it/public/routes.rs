//! The two front doors share no route: each path of one is nothing to the other.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use channel_orchestrator::{api::ApiSettings, public::ROUTES};

use super::lobby::Lobby;
use crate::api::house::House;

/// A path with something in the place of each parameter.
fn filled(pattern: &str) -> String {
    let fill = |part: &str| if part.contains('{') { "acme".to_owned() } else { part.to_owned() };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn no_route_of_the_api_is_public_and_no_public_one_is_the_apis() {
    let (lobby, house) = (Lobby::new().await, House::idle(ApiSettings::default()).await);
    let document = house.get("/openapi.json").await.json();
    let mut paths: Vec<String> = document["paths"].as_object().unwrap().keys().map(|p| filled(p)).collect();
    assert!(paths.len() > 10, "{paths:?}");
    paths.extend(["/", "/dashboard", "/v1", "/healthz", "/readyz", "/metrics"].map(str::to_owned));
    for path in &paths {
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = lobby.ask(request).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert!(method == "HEAD" || answer.text() == "not found\n", "{method} {path}: {}", answer.text());
            assert!(answer.header("allow").is_none(), "{method} {path} says what it takes");
        }
    }
    for pattern in ROUTES {
        for method in ["GET", "POST"] {
            let request = Request::builder().method(method).uri(filled(pattern)).body(Body::empty()).unwrap();
            let answer = house.ask(request).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {pattern}");
        }
    }
}
