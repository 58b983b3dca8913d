//! Flip points under the shipped policies: each is tried for real, in the file or in the request.

use channel_orchestrator::domain::channel::Channel;
use serde_json::json;

use crate::{
    decisions::{DAY, NIGHT, decide, example},
    support::bundle,
};

/// Every flip says the truth: the weight that it names, written into the tenant's file, gives the winner that it
/// names.
#[test]
fn flips_of_weights_hold_when_the_file_is_edited() {
    let mut checked = 0;
    for (name, at) in [("urgent", DAY), ("quiet_hours", NIGHT), ("quiet_hours", DAY), ("appointment", NIGHT)]
    {
        let request = example(name, at);
        let (_, explanation) = decide(&bundle(""), &request);
        for flip in explanation.flips.iter().filter(|f| f.what.starts_with("weights.")) {
            let criterion = flip.what.trim_start_matches("weights.");
            let edited = bundle(&format!("[weights]\n{criterion} = {}\n", flip.to));
            let (decision, _) = decide(&edited, &request);
            assert_eq!(decision.chosen, flip.winner, "{name}: {flip:?}");
            checked += 1;
        }
    }
    assert!(checked >= 3, "only {checked} flips of weights were found");
}

/// A text of 160 characters that SMS cannot write in its own alphabet is three segments, not one, and too dear.
#[test]
fn a_flip_of_the_length_counts_the_segments_of_the_text_itself() {
    for (text, flips) in [("x", true), ("ж", false)] {
        let mut request = example("urgent", DAY);
        request["context"] = json!({
            "tenantId": "acme", "prospectId": "p", "prospectPhone": "+33612345678", "prospectTelegram": "42",
            "messageType": "appointment", "priority": { "level": "high" }
        });
        request["content"] = json!({ "body": text.repeat(459) });
        let bundle = bundle("");
        let (decision, explanation) = decide(&bundle, &request);
        assert_eq!(decision.chosen, Some(Channel::Telegram), "too many segments for SMS");
        let told = explanation.flips.iter().find(|flip| flip.what == "content.body length");
        assert_eq!(told.is_some(), flips, "{text}: {told:?}");

        request["content"]["body"] = json!(text.repeat(160));
        let (shorter, _) = decide(&bundle, &request);
        assert_eq!(shorter.chosen, Some(if flips { Channel::Sms } else { Channel::Telegram }));
    }
}
