//! What a message is dressed with: links by the cases of `links.toml`, and who is tracked at all.

use channel_orchestrator::{
    channels::Outbound,
    domain::{
        address::Address,
        channel::Channel,
        delivery::TrackingTerms,
        ids::{AttemptId, MessageId, TenantId},
        message::{Content, MessageClass},
    },
    tracking::{TokenKey, Tracker},
};
use serde::Deserialize;

use super::lobby::{NOON, URL};

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    html: String,
    /// What becomes of it, `«n»` standing for the nth link's new address; none: it stays as it is.
    out: Option<String>,
    #[serde(default)]
    links: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
}

fn tracker() -> Tracker {
    Tracker::new(URL, TokenKey::new(&[1; 32]))
}

fn outbound(channel: Channel, class: MessageClass, html: Option<&str>) -> Outbound {
    Outbound {
        message: MessageId::new(),
        attempt: AttemptId::new(),
        attempt_number: 1,
        channel,
        to: Address::Email("zoe@example.fr".into()),
        to_name: None,
        from: None,
        from_name: None,
        reply_to: None,
        content: Content {
            body: "see https://example.com/".into(),
            html: html.map(str::to_owned),
            ..Content::default()
        },
        class,
        locale: None,
        tenant: TenantId::parse("acme").unwrap(),
        deadline: NOON.parse().unwrap(),
        status_callback: None,
        return_token: None,
        unsubscribe: None,
        approved_template: None,
        in_service_window: false,
    }
}

fn on() -> TrackingTerms {
    TrackingTerms { engagement: true, hosts: Vec::new() }
}

#[test]
fn links_are_led_as_the_cases_say() {
    let cases: Cases = toml::from_str(include_str!("links.toml")).unwrap();
    let (tracker, now) = (tracker(), NOON.parse().unwrap());
    assert!(cases.case.len() > 30);
    for case in cases.case {
        let name = &case.name;
        let mut outbound = outbound(Channel::Email, MessageClass::Transactional, Some(&case.html));
        let terms = TrackingTerms { hosts: case.hosts, ..on() };
        let links = tracker.dress(&mut outbound, "relay", &terms, now);
        assert_eq!(links, case.links, "{name}");
        let html = outbound.content.html.unwrap();
        let image =
            html.find("<img src=\"https://msg.example.com/o/").unwrap_or_else(|| panic!("{name}: {html}"));
        let end = image + html[image..].find('>').unwrap() + 1;
        let without = format!("{}{}", &html[..image], &html[end..]);
        let mut expected = case.out.unwrap_or(case.html);
        for (place, _) in links.iter().enumerate() {
            let place = u16::try_from(place).unwrap();
            let url = tracker.click_url(outbound.message, place, now);
            expected = expected.replacen(&format!("«{place}»"), &url, 1);
        }
        assert_eq!(without, expected, "{name}");
    }
}

/// The addresses that an independent reading finds in the dressed text: all of ours, none of theirs.
#[test]
fn the_image_stands_in_the_body_and_an_unfinished_text_gets_one_too() {
    let (tracker, now) = (tracker(), NOON.parse().unwrap());
    for (html, before) in
        [("<html><body>x</BODY></html>", "</BODY></html>"), ("<p>x", ""), ("", ""), ("é</body", "</body")]
    {
        let mut outbound = outbound(Channel::Email, MessageClass::Transactional, Some(html));
        tracker.dress(&mut outbound, "relay", &on(), now);
        let dressed = outbound.content.html.unwrap();
        assert!(dressed.ends_with(&format!("height:1px\">{before}")), "{dressed}");
        assert_eq!(dressed.matches("<img").count(), 1);
    }
}

#[test]
fn nobody_is_tracked_who_may_not_be() {
    let (tracker, now) = (tracker(), NOON.parse().unwrap());
    let html = "<a href=\"https://example.com/\">x</a>";
    let mut off = outbound(Channel::Email, MessageClass::Marketing, Some(html));
    assert_eq!(tracker.dress(&mut off, "relay", &TrackingTerms::default(), now), [""; 0]);
    assert_eq!(off.content.html.as_deref(), Some(html), "no image and no link of ours");
    // What is no tracking stays: unsubscribing, and the provider's reports.
    assert_eq!(off.unsubscribe, Some(tracker.unsubscribe_url(off.message)));
    let callback = tracker.status_callback("relay", &off.tenant, off.attempt);
    assert_eq!(off.status_callback, Some(callback));

    let mut plain = outbound(Channel::Email, MessageClass::Transactional, None);
    assert_eq!(tracker.dress(&mut plain, "relay", &on(), now), [""; 0]);
    assert_eq!((plain.content.html, plain.unsubscribe), (None, None));
    assert_eq!(plain.content.body, "see https://example.com/", "texts stay as they were written");

    for channel in [Channel::Sms, Channel::WhatsApp, Channel::Telegram] {
        let mut other = outbound(channel, MessageClass::Marketing, Some(html));
        assert_eq!(tracker.dress(&mut other, "x", &on(), now), [""; 0]);
        assert_eq!(other.content.html.as_deref(), Some(html), "{channel}");
        assert_eq!(other.unsubscribe, None, "{channel}");
        assert!(other.status_callback.is_some(), "{channel}");
    }
}

/// Another attempt at the same message leads the same links: what was kept stays right.
#[test]
fn the_same_text_gives_the_same_links() {
    let (tracker, now) = (tracker(), NOON.parse().unwrap());
    let html = "<a href=https://a.example/1>x</a><a href='https://b.example/?q=1&amp;r=2'>y</a>";
    let dress = || {
        let mut outbound = outbound(Channel::Email, MessageClass::Transactional, Some(html));
        tracker.dress(&mut outbound, "relay", &on(), now)
    };
    assert_eq!(dress(), dress());
    assert_eq!(dress(), ["https://a.example/1", "https://b.example/?q=1&r=2"]);
}

proptest::proptest! {
    /// Whatever stands in a mail: nothing panics, and every kept address is one that a browser may be sent to.
    #[test]
    fn no_text_leads_anywhere_else(pieces in proptest::collection::vec(piece(), 0..12)) {
        let html: String = pieces.concat();
        let mut outbound = outbound(Channel::Email, MessageClass::Transactional, Some(&html));
        for url in tracker().dress(&mut outbound, "relay", &on(), NOON.parse().unwrap()) {
            proptest::prop_assert!(channel_orchestrator::tracking::may_redirect_to(&url), "{}", url);
            proptest::prop_assert!(url.to_ascii_lowercase().starts_with("http"), "{}", url);
        }
    }
}

fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::prop_oneof![
        proptest::sample::select(vec![
            "<a ",
            "<A\n",
            "href=",
            "HREF = ",
            "\"",
            "'",
            ">",
            "<",
            "</a>",
            "<!--",
            "-->",
            "<script>",
            "</script>",
            "https://",
            "http://",
            "javascript:",
            "//evil",
            "a.example",
            "@",
            "&amp;",
            "&#x3a;",
            "&#0;",
            "&lt",
            "/",
            "\\",
            "=",
            " ",
            "\u{e9}",
            "«",
            "<style",
            "x",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

use proptest::strategy::Strategy as _;
