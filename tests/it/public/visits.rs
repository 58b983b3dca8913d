//! Opens, clicks and unsubscribing, as people and machines do them.

use std::sync::atomic::Ordering;

use axum::http::{HeaderMap, StatusCode};
use channel_orchestrator::{
    domain::{channel::Channel, ids::MessageId, receipt::EngagementEvent},
    store::Links,
};
use chrono::TimeDelta;

use super::lobby::{Answer, Lobby, PERSON, Told, URL, visit};

fn later(lobby: &Lobby, seconds: i64) {
    lobby.clock.advance(TimeDelta::seconds(seconds));
}

/// Each engagement as `name link machine`.
fn engaged(lobby: &Lobby) -> Vec<String> {
    let word = |event: &EngagementEvent| {
        assert_eq!(event.channel, Some(Channel::Email));
        let link = event.link.map_or("-".to_owned(), |link| link.to_string());
        format!("{} {link} {}", event.name, if event.machine { "machine" } else { "person" })
    };
    let told = lobby.receiver.told();
    told.iter().map(|t| if let Told::Engaged(e) = t { word(e) } else { panic!("{t:?}") }).collect()
}

async fn message_with(lobby: &Lobby, urls: &[&str]) -> MessageId {
    let message = MessageId::new();
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    lobby.store.put_links(message, &urls).await.unwrap();
    message
}

#[track_caller]
fn has_its_headers(answer: &Answer) {
    let headers: &HeaderMap = &answer.headers;
    let text = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap());
    assert_eq!(text("x-content-type-options"), "nosniff");
    assert_eq!(text("referrer-policy"), "no-referrer");
    assert_eq!(text("cache-control"), "no-store");
    let policy = text("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
    for never in ["set-cookie", "access-control-allow-origin", "server"] {
        assert!(!headers.contains_key(never), "{never}");
    }
}

#[tokio::test]
async fn an_opened_mail_is_an_image_and_a_word_on_who_opened_it() {
    let lobby = Lobby::new().await;
    let url = lobby.tracker.open_url(MessageId::new(), lobby.now());
    assert_eq!(lobby.browse("GET", &url).await.status, StatusCode::OK);
    later(&lobby, 60);
    let answer = lobby.browse("GET", &url).await;
    assert_eq!((answer.status, answer.bytes.len()), (StatusCode::OK, 43));
    assert_eq!(answer.header("content-type"), Some("image/gif"));
    assert!(answer.bytes.starts_with(b"GIF89a") && answer.bytes.ends_with(b";"));
    has_its_headers(&answer);
    lobby.browse("HEAD", &url).await;
    lobby.ask(visit("GET", &url, "GoogleImageProxy")).await;
    // The first within two seconds of sending, HEAD and Google's proxy are machines.
    let expected = ["opened - machine", "opened - person", "opened - machine", "opened - machine"];
    assert_eq!(engaged(&lobby), expected);
    let text = lobby.metrics.text(None);
    assert!(text.contains("engagements_total{event=\"opened\",by=\"person\"} 1"), "{text}");
    assert!(text.contains("engagements_total{event=\"opened\",by=\"machine\"} 3"), "{text}");
}

/// The same person's second look is told under the same name, so that it counts once.
#[tokio::test]
async fn an_open_is_told_apart_from_another_only_by_who_and_which_mail() {
    let lobby = Lobby::new().await;
    let message = MessageId::new();
    let urls = [message, message, MessageId::new()].map(|m| lobby.tracker.open_url(m, lobby.now()));
    later(&lobby, 60);
    for url in &urls {
        lobby.browse("GET", url).await;
        later(&lobby, 1);
    }
    let told = lobby.receiver.told();
    let names: Vec<_> = told
        .iter()
        .map(|t| if let Told::Engaged(e) = t { e.dedup.clone() } else { panic!("{t:?}") })
        .collect();
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
}

#[tokio::test]
async fn an_open_that_cannot_be_written_waits() {
    let lobby = Lobby::new().await;
    let url = lobby.tracker.open_url(MessageId::new(), lobby.now());
    later(&lobby, 60);
    lobby.receiver.down.store(true, Ordering::SeqCst);
    assert_eq!(lobby.browse("GET", &url).await.status, StatusCode::OK, "the reader sees nothing of it");
    lobby.public.settle_clicks(false).await;
    lobby.receiver.down.store(false, Ordering::SeqCst);
    lobby.public.settle_clicks(false).await;
    assert_eq!(engaged(&lobby), ["opened - person"]);
}

#[tokio::test]
async fn a_link_leads_where_it_led() {
    let lobby = Lobby::new().await;
    let message = message_with(&lobby, &["https://a.example/", "https://b.example/?q=1&r=%C3%A9#x"]).await;
    let url = lobby.tracker.click_url(message, 1, lobby.now());
    later(&lobby, 60);
    let answer = lobby.browse("GET", &url).await;
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(answer.header("location"), Some("https://b.example/?q=1&r=%C3%A9#x"));
    has_its_headers(&answer);
    assert_eq!(engaged(&lobby), [""; 0], "not before its few seconds are over");
    lobby.public.settle_clicks(false).await;
    assert_eq!(engaged(&lobby), [""; 0]);
    later(&lobby, 5);
    lobby.public.settle_clicks(false).await;
    assert_eq!(engaged(&lobby), ["clicked 1 person"]);
}

#[tokio::test]
async fn a_scanner_that_follows_every_link_is_a_machine_from_its_first_on() {
    let lobby = Lobby::new().await;
    let message = message_with(&lobby, &["https://a.example/", "https://b.example/"]).await;
    let made = lobby.now();
    later(&lobby, 60);
    for link in 0..2 {
        let answer = lobby.browse("GET", &lobby.tracker.click_url(message, link, made)).await;
        assert_eq!(answer.status, StatusCode::FOUND);
    }
    later(&lobby, 5);
    lobby.public.settle_clicks(false).await;
    assert_eq!(engaged(&lobby), ["clicked 0 machine", "clicked 1 machine"]);
    // A person, later.
    lobby.browse("GET", &lobby.tracker.click_url(message, 0, made)).await;
    lobby.browse("HEAD", &lobby.tracker.click_url(message, 0, made)).await;
    lobby.public.settle_clicks(true).await;
    assert_eq!(engaged(&lobby), ["clicked 0 person", "clicked 0 machine"]);
}

/// reliability.md T22.
#[tokio::test]
async fn no_link_leads_anywhere_else() {
    let lobby = Lobby::new().await;
    let evil = [
        "javascript:alert(1)",
        "//evil.example",
        "https://u@evil.example/",
        "https://a.example/\r\nSet-Cookie: x=1",
        "data:text/html,x",
        "",
    ];
    let message = message_with(&lobby, &evil).await;
    for link in 0..=evil.len() {
        let link = u16::try_from(link).unwrap();
        let answer = lobby.browse("GET", &lobby.tracker.click_url(message, link, lobby.now())).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::NOT_FOUND, None), "{link}");
        has_its_headers(&answer);
    }
    for token in ["x", "https:%2F%2Fevil.example", "%2e%2e", "%ff", &"A".repeat(5000)] {
        let answer = lobby.browse("GET", &format!("{URL}/c/{token}")).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::NOT_FOUND, None), "{token}");
        assert!(answer.header("content-type").is_none_or(|t| t.starts_with("text/")));
    }
    let url = lobby.tracker.click_url(message, 0, lobby.now());
    let answer = lobby.browse("GET", &format!("{url}?to=https://evil.example")).await;
    assert_eq!(answer.header("location"), None);
    lobby.public.settle_clicks(true).await;
    assert_eq!(engaged(&lobby), [""; 0]);
}

/// reliability.md T24.
#[tokio::test]
async fn only_a_post_unsubscribes() {
    let lobby = Lobby::new().await;
    let message = MessageId::new();
    let url = lobby.tracker.unsubscribe_url(message);
    for method in ["GET", "HEAD"] {
        for agent in [PERSON, "curl/8.5.0", "Barracuda", ""] {
            for _ in 0..50 {
                let answer = lobby.ask(visit(method, &url, agent)).await;
                assert_eq!(answer.status, StatusCode::OK);
            }
        }
    }
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
        let status = lobby.ask(visit(method, &url, PERSON)).await.status;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method}");
    }
    assert_eq!(lobby.receiver.told(), []);
    let mut page = visit("GET", &url, PERSON);
    page.headers_mut().insert("accept-language", "fr-FR,fr;q=0.9".parse().unwrap());
    let page = lobby.ask(page).await;
    has_its_headers(&page);
    let text = page.text();
    assert!(text.contains("<form method=\"post\">") && text.contains("Me désabonner"), "{text}");
    assert!(text.contains("name=\"List-Unsubscribe\" value=\"One-Click\""), "{text}");

    // A mail program's one click, and the page's button: the same body.
    for _ in 0..2 {
        let mut request = visit("POST", &url, PERSON);
        *request.body_mut() = "List-Unsubscribe=One-Click".into();
        let answer = lobby.ask(request).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::OK, None));
        has_its_headers(&answer);
        assert_eq!(lobby.receiver.told(), [Told::Unsubscribed(message)]);
    }
}

#[tokio::test]
async fn an_unsubscription_that_is_not_kept_is_not_confirmed() {
    let lobby = Lobby::new().await;
    let url = lobby.tracker.unsubscribe_url(MessageId::new());
    lobby.receiver.down.store(true, Ordering::SeqCst);
    let answer = lobby.browse("POST", &url).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("nothing was done"), "{}", answer.text());
    lobby.receiver.down.store(false, Ordering::SeqCst);
    lobby.receiver.forgotten.store(true, Ordering::SeqCst);
    assert_eq!(lobby.browse("POST", &url).await.status, StatusCode::NOT_FOUND);
    for token in ["x", "", "%00"] {
        for method in ["GET", "POST"] {
            let status = lobby.browse(method, &format!("{URL}/u/{token}")).await.status;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {token}");
        }
    }
    assert_eq!(lobby.receiver.told(), []);
}
