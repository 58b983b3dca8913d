//! One message through one driver by hand: shown as it went, secrets hidden, and nobody reached who is not allowed.

use super::Place;
use crate::support::http_provider::{Act, HttpProvider};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_shows_what_was_asked_and_answered_without_the_secrets() {
    let body = r#"{"sid":"SM00000000000000000000000000000001","status":"queued"}"#;
    let refused = r#"{"code":21211,"message":"Invalid 'To' number","status":400}"#;
    let provider = HttpProvider::start(vec![Act::answer(201, body), Act::answer(400, refused)]).await;
    let place = Place::new();
    let settings = format!(
        "allow_recipients = [\"+3361234*\"]\n[drivers.mine]\nkind = \"twilio\"\nbase_url = \"http://127.0.0.1:{}\"\n\
         account_sid = \"AC00000000000000000000000000000000\"\nauth_token = \"env:TOKEN\"\nfrom = \"+33700000000\"\n",
        provider.port
    );
    place.write("orchestrator.toml", &settings);
    let run = |arguments: &[&str]| {
        let trial = [&["trial", "--channel", "sms", "--to"], arguments].concat();
        super::Ran::of(place.command(&trial).env("TOKEN", TOKEN).output().unwrap())
    };
    let sent = run(&["06 12 34 56 78", "--text", "Ça va ?"]).expect(0);
    sent.says(&[
        "by mine",
        "> POST 127.0.0.1:",
        "/2010-04-01/Accounts/(hidden)/Messages.json",
        "> authorization: (hidden)",
        "To = +33612345678",
        "Body = Ça va ?",
        "< 201",
        "accepted: SM00000000000000000000000000000001",
    ]);
    assert!(!sent.out.contains(TOKEN), "{}", sent.out);
    let refused = run(&["+33612345678", "--driver", "mine", "--json"]).expect(1).json();
    assert_eq!(
        (&refused["outcome"]["class"], &refused["outcome"]["code"]),
        (&"permanent".into(), &"21211".into())
    );
    run(&["+33798765432"]).expect(1).says(&["nothing was asked of a provider", "allow_recipients"]);
    run(&["12"]).expect(2).says(&["not a phone number"]);
    run(&["+33612345678", "--driver", "other"])
        .expect(2)
        .says(&["no driver \"other\" for sms; there are mine"]);
    assert_eq!(provider.heard().len(), 2, "the others were never asked for");
}

#[test]
fn without_a_driver_the_sandbox_takes_it_and_says_so() {
    let place = Place::new();
    place
        .run(&["trial", "--channel", "email", "--to", "zoe@example.com"])
        .expect(0)
        .says(&["by sandbox", "accepted: "]);
    place.run(&["trial", "--channel", "fax", "--to", "1"]).expect(2).says(&["is no channel"]);
}
