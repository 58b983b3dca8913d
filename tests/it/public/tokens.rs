//! Tokens: what was signed comes back, and nothing else does.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use channel_orchestrator::{
    domain::ids::{AttemptId, MessageId, TenantId},
    store::Links,
    tracking::{TokenKey, Tracker},
};
use proptest::prelude::*;

use super::lobby::{Lobby, NOON};
use crate::store::fixture::Base;

fn tracker() -> Tracker {
    Tracker::new("https://x.example/", TokenKey::new(&[1; 32]))
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn last(url: &str) -> String {
    url.rsplit(['/', '=']).next().unwrap().to_owned()
}

/// One token of each kind about one message and attempt.
fn tokens(tracker: &Tracker) -> [String; 4] {
    let (message, attempt, at) = (MessageId::new(), AttemptId::new(), NOON.parse().unwrap());
    [
        tracker.status_callback("sms", &tenant("acme"), attempt),
        tracker.open_url(message, at),
        tracker.click_url(message, 3, at),
        tracker.unsubscribe_url(message),
    ]
    .map(|url| last(&url))
}

/// How many readers take it, whatever for.
fn takers(tracker: &Tracker, token: &str) -> usize {
    [
        tracker.read_attempt(token, &tenant("acme")).is_some(),
        tracker.read_open(token).is_some(),
        tracker.read_click(token).is_some(),
        tracker.read_unsubscribe(token).is_some(),
    ]
    .into_iter()
    .filter(|taken| *taken)
    .count()
}

#[test]
fn what_was_signed_comes_back() {
    let (tracker, at) = (tracker(), NOON.parse().unwrap());
    let (message, attempt) = (MessageId::new(), AttemptId::new());
    let url = tracker.status_callback("my driver/é", &tenant("acme"), attempt);
    assert!(url.starts_with("https://x.example/callbacks/my%20driver%2F%C3%A9/acme?a="), "{url}");
    assert_eq!(tracker.read_attempt(&last(&url), &tenant("acme")), Some(attempt));
    let opened = tracker.read_open(&last(&tracker.open_url(message, at))).unwrap();
    assert_eq!((opened.message, opened.made_at), (message, at));
    let clicked = tracker.read_click(&last(&tracker.click_url(message, 65_535, at))).unwrap();
    assert_eq!((clicked.message, clicked.link, clicked.made_at), (message, 65_535, at));
    assert_eq!(tracker.read_unsubscribe(&last(&tracker.unsubscribe_url(message))), Some(message));
    assert_eq!(format!("{tracker:?}").matches("TokenKey").count(), 1, "the key does not show itself");
}

#[test]
fn a_token_serves_one_purpose_one_tenant_and_one_key() {
    let tracker = tracker();
    for token in tokens(&tracker) {
        assert_eq!(takers(&tracker, &token), 1, "{token}");
        let other = Tracker::new("https://x.example", TokenKey::new(&[2; 32]));
        assert_eq!(takers(&other, &token), 0, "{token}");
    }
    let [attempt, ..] = tokens(&tracker);
    for stranger in ["globex", "acm", "acme2", "a"] {
        assert_eq!(tracker.read_attempt(&attempt, &tenant(stranger)), None, "{stranger}");
    }
}

#[test]
fn a_token_has_one_spelling() {
    let tracker = tracker();
    for token in tokens(&tracker) {
        for wrong in [
            format!("{token}="),
            format!("{token}A"),
            format!(" {token}"),
            token[1..].to_owned(),
            token[..token.len() - 1].to_owned(),
            token.to_lowercase(),
            String::new(),
            "A".repeat(100_000),
        ] {
            assert_eq!(takers(&tracker, &wrong), 0, "{wrong}");
        }
        // The last character has bits that stand for nothing: only one of its spellings counts.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let spelled = alphabet.iter().filter(|last| {
            let text = format!("{}{}", &token[..token.len() - 1], char::from(**last));
            takers(&tracker, &text) == 1
        });
        assert_eq!(spelled.count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_changed_token_is_nobodys(kind in 0usize..4, bit in 0usize..1_000, cut in 0usize..60) {
        let tracker = tracker();
        let token = &tokens(&tracker)[kind];
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        let at = bit % (bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(takers(&tracker, &URL_SAFE_NO_PAD.encode(&bytes)), 0);
        bytes[at / 8] ^= 1 << (at % 8);
        bytes.truncate(cut.min(bytes.len() - 1));
        prop_assert_eq!(takers(&tracker, &URL_SAFE_NO_PAD.encode(&bytes)), 0);
    }

    #[test]
    fn a_made_up_token_is_nobodys(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,80}") {
        let tracker = tracker();
        let mut versioned = bytes.clone();
        versioned.insert(0, 1);
        for token in [URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&versioned), text] {
            prop_assert_eq!(takers(&tracker, &token), 0);
        }
    }
}

#[tokio::test]
async fn the_first_key_stays_and_replicas_share_it() {
    let base = Base::sqlite();
    let store = base.open().await;
    assert_eq!(store.token_key([3; 32]).await.unwrap(), [3; 32]);
    assert_eq!(store.token_key([4; 32]).await.unwrap(), [3; 32]);
    store.close().await;
    assert_eq!(base.open().await.token_key([5; 32]).await.unwrap(), [3; 32]);
    if let Some(base) = Base::postgres().await {
        let (one, two) = (base.open().await, base.open().await);
        let (first, second) = tokio::join!(one.token_key([6; 32]), two.token_key([7; 32]));
        assert_eq!(first.unwrap(), second.unwrap());
        base.drop_schema().await;
    }
}

#[tokio::test]
async fn links_are_kept_once_and_found_by_place() {
    let lobby = Lobby::new().await;
    let message = MessageId::new();
    let urls = ["https://a.example/".to_owned(), "https://b.example/".to_owned()];
    lobby.store.put_links(message, &urls).await.unwrap();
    lobby.store.put_links(message, &urls[..1]).await.unwrap();
    let found = lobby.store.link(message, 1).await.unwrap().unwrap();
    assert_eq!((found.url.as_str(), found.of), ("https://b.example/", 2));
    assert_eq!(lobby.store.link(message, 2).await.unwrap(), None);
    assert_eq!(lobby.store.link(MessageId::new(), 0).await.unwrap(), None);
}
