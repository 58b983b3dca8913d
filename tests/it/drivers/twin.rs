//! Twilio as its vendor describes it: the twin of `provider_twin` holds every request against Twilio's own
//! description and signs its callbacks with Twilio's own SDK.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver, Outbound,
        callback::{CallbackAnswer, CallbackRequest},
    },
    domain::{
        address::Address,
        channel::Channel,
        delivery::ApprovedTemplate,
        receipt::{ProviderEvent, ReceiptKind},
    },
};
use chrono::TimeDelta;
use serde_json::Value;

use super::{
    provider_twin::{Twin, eventually},
    twilio::{SID, attempt, made, now, outbound},
};
use crate::support::http_provider::{Act, Heard, HttpProvider, secret};

fn kinds(driver: &Arc<dyn Driver>, receiver: &HttpProvider, calls: &[Heard], to: &str) -> Vec<ReceiptKind> {
    let to = to.replace('+', "%2B");
    let mut kinds = Vec::new();
    for call in calls.iter().filter(|call| call.body.contains(&to)) {
        let url = format!("{}{}", receiver.url(), call.target);
        let query = call.target.split_once('?').map_or("", |(_, query)| query);
        let request = CallbackRequest {
            method: &call.method,
            url: &url,
            query,
            headers: &call.headers,
            body: call.body.as_bytes(),
            now: now(),
        };
        let Ok(CallbackAnswer::Events(events)) = driver.callbacks().unwrap().read(&request) else {
            panic!("{call:?}")
        };
        for event in events {
            let ProviderEvent::Receipt(receipt) = event else { panic!("{event:?}") };
            kinds.push(receipt.kind);
        }
    }
    kinds
}

#[tokio::test]
async fn twilios_description_has_no_complaint_and_its_sdk_signs_what_we_believe() {
    let receiver = HttpProvider::start(vec![Act::answer(200, "")]).await;
    let Some(twin) = Twin::start(receiver.port).await else { return };
    let base_url = format!("http://127.0.0.1:{}", twin.port);
    let dir = tempfile::tempdir().unwrap();
    let token = secret(dir.path(), "token", "tok");
    let driver = |kind: &str, more: &str| {
        made(&format!(
            "kind = \"{kind}\"\naccount_sid = \"{SID}\"\nauth_token = \"{token}\"\nbase_url = \"{base_url}\"\n{more}"
        ))
        .unwrap()
    };
    let sms = driver("twilio", "from = \"+33700000000\"\nsmart_encoded = true");
    let service = driver("twilio", "messaging_service_sid = \"MG0123456789abcdef0123456789abcdef\"");
    let whatsapp = driver("twilio_whatsapp", "free_text_anytime = true");
    let to = |channel, number: &str| {
        let mut made: Outbound = outbound(channel);
        made.to = Address::Phone(number.into());
        made.status_callback =
            Some(format!("{}/callbacks/mine/tenant_123?t=a&b=é", receiver.url()).replace('é', "%C3%A9"));
        made
    };
    for (number, expected) in [
        ("+15005550001", "permanent 21211"),
        ("+15005550002", "permanent 21612"),
        ("+15005550003", "permanent 21408"),
        ("+15005550004", "permanent 21610"),
        ("+15005550009", "permanent 21614"),
    ] {
        assert_eq!(attempt(&sms, &to(Channel::Sms, number)).await, expected, "{number}");
    }
    let mut short_lived = to(Channel::Sms, "+33612345678");
    short_lived.deadline = now() + TimeDelta::seconds(90);
    let mut nobody = to(Channel::Sms, "+15005550010");
    nobody.from = None;
    let mut template = to(Channel::WhatsApp, "+33612345679");
    template.approved_template = Some(ApprovedTemplate {
        name: "HX0123456789abcdef0123456789abcdef".into(),
        language: "fr".into(),
        parameters: vec!["Ada".into()],
    });
    for (driver, message) in [
        (&sms, &short_lived),
        (&service, &nobody),
        (&whatsapp, &to(Channel::WhatsApp, "+33612345677")),
        (&whatsapp, &template),
    ] {
        let ended = attempt(driver, message).await;
        assert!(ended.starts_with("accepted SM"), "{ended}");
    }
    let calls = eventually("every status is told", || {
        Some(receiver.heard()).filter(|heard| heard.len() == 2 + 2 + 3 + 3)
    })
    .await;
    use ReceiptKind::{Delivered, Read, Sent, Undelivered};
    for (number, expected) in [
        ("+33612345678", vec![Sent, Delivered]),
        ("+15005550010", vec![Sent, Undelivered]),
        ("+33612345677", vec![Sent, Delivered, Read]),
        ("+33612345679", vec![Sent, Delivered, Read]),
    ] {
        assert_eq!(kinds(&sms, &receiver, &calls, number), expected, "{number}");
    }
    assert_eq!(twin.ask("GET", "/_violations", ""), Value::Array(Vec::new()));
}
