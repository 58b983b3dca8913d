//! `trial`: one real message through one driver, and the exchange shown with its secrets hidden.
//!
//! It needs no daemon. It sends for real, once, to the address that was given and nobody else.

use serde_json::json;

use super::{
    arguments::TrialArguments,
    outcome::{Answer, Failure},
};
use crate::{
    app::trial::{self, Trial, TrialError, Tried},
    config::Config,
    domain::{address::Region, channel::Channel, delivery::Outcome},
};

pub async fn run(config: &Config, arguments: &TrialArguments, json: bool) -> Result<Answer, Failure> {
    let channel = Channel::parse(&arguments.channel).ok_or_else(|| {
        Failure::Usage(format!("{:?} is no channel: sms, email, whatsapp or telegram", arguments.channel))
    })?;
    let region = arguments.region.as_deref().map(|code| {
        Region::parse(code).ok_or_else(|| Failure::Usage(format!("{code:?} is no country: write it like FR")))
    });
    let asked = Trial {
        channel,
        to: arguments.to.clone(),
        region: region.transpose()?,
        driver: arguments.driver.clone(),
        from: arguments.from.clone(),
        text: arguments.text.clone(),
        in_service_window: arguments.in_window,
    };
    let tried = trial::run(config, &asked).await.map_err(|error| match error {
        TrialError::Settings(faults) => Failure::Settings(faults),
        TrialError::Asked(words) => Failure::Usage(words),
    })?;
    if json {
        println!("{:#}", in_json(&tried));
    } else {
        print!("{}", in_words(&tried));
    }
    Ok(if matches!(tried.outcome, Outcome::Accepted { .. }) { Answer::Yes } else { Answer::No })
}

fn in_json(tried: &Tried) -> serde_json::Value {
    let outcome = match &tried.outcome {
        Outcome::Accepted { provider_message_id, cost } => {
            json!({ "class": "accepted", "providerMessageId": provider_message_id, "cost": cost.map(|c| c.euros()) })
        }
        Outcome::Failed { error, retry_after_seconds } => json!({
            "class": error.class, "code": error.code, "detail": error.detail, "retryAfterSeconds": retry_after_seconds,
        }),
    };
    json!({ "driver": tried.driver, "exchange": tried.exchange, "outcome": outcome })
}

fn in_words(tried: &Tried) -> String {
    let mut words = format!("by {}\n", tried.driver);
    for line in &tried.exchange {
        words.push_str(&format!("  {line}\n"));
    }
    if tried.exchange.is_empty() {
        words.push_str("  (nothing was asked of a provider)\n");
    }
    match &tried.outcome {
        Outcome::Accepted { provider_message_id, .. } => {
            let id = provider_message_id.as_deref().unwrap_or("without an id");
            words.push_str(&format!("accepted: {id}\n"));
        }
        Outcome::Failed { error, .. } => {
            let class = serde_json::to_value(error.class).unwrap_or_default();
            let code = error.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
            words.push_str(&format!("{}{code}: {}\n", class.as_str().unwrap_or("failed"), error.detail));
        }
    }
    words
}
