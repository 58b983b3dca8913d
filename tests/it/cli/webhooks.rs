//! A tenant's own server hears what becomes of its messages: signed, in order, again until it takes it.

use channel_orchestrator::channels::http::signature::{Hash, sign_base64};

use super::in_folder;
use crate::support::{
    daemon::{Daemon, eventually},
    http_provider::{Act, HttpProvider},
};

const REQUEST: &str = r#"{"context": {"tenantId": "acme", "prospectId": "p-1", "prospectEmail": "zoe@example.com"},
    "content": {"body": "Bonjour Zoé"}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_hears_of_its_messages_until_it_takes_it() {
    let provider = HttpProvider::start(vec![Act::answer(500, ""), Act::answer(204, "")]).await;
    let dir = tempfile::tempdir().unwrap();
    let key = [7; 32];
    std::fs::write(dir.path().join("secret"), "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path().join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "[webhooks.acme]\nurl = \"http://127.0.0.1:{}/hook\"\nsecret = \"file:{}\"\nallow_private = true\n",
        provider.port,
        dir.path().join("secret").display()
    );
    let mut daemon = Daemon::prepare(dir.path(), "", &settings);
    daemon.start();
    let id = daemon.call("POST", "/v1/messages", &[], REQUEST).unwrap().body["messageId"].clone();
    let id = id.as_str().unwrap();
    assert!(eventually(|| provider.heard().len() == 2), "refused once, taken the second time");
    let heard = provider.heard();
    assert_eq!(heard[0].header("webhook-id"), heard[1].header("webhook-id"));
    assert_eq!(heard[0].body, heard[1].body);
    let told = heard[1].json();
    assert_eq!((told["type"].as_str(), told["data"]["messageId"].as_str()), (Some("message.sent"), Some(id)));
    assert_eq!((&told["data"]["sentVia"], &told["data"]["prospectId"]), (&"email".into(), &"p-1".into()));
    assert!(!told.to_string().contains("zoe@") && !told.to_string().contains("Bonjour"), "{told}");
    let header = |name: &str| heard[1].header(name).unwrap();
    let text = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), heard[1].body);
    let expected = format!("v1,{}", sign_base64(Hash::Sha256, &key, text.as_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    in_folder(&dir, &["audit"]).expect(0);
}

#[test]
fn a_webhook_that_cannot_be_is_refused_at_the_start() {
    let place = super::Place::new();
    place.write("orchestrator.toml", "[webhooks.acme]\nurl = \"http://example.com\"\nsecret = \"hush\"\n");
    place.run(&["serve"]).expect(78).says(&["secret", "plain text"]);
    place.write(
        "orchestrator.toml",
        "[webhooks.Acme]\nurl = \"https://example.com\"\nsecret = \"file:/none\"\n",
    );
    place.run(&["serve"]).expect(78).says(&["is not a tenant id"]);
    place.write(
        "orchestrator.toml",
        "[webhooks.acme]\nurl = \"https://example.com\"\nsecret = \"file:/none\"\n",
    );
    place.run(&["serve"]).expect(78).says(&["[webhooks.acme]", "secret"]);
}
