//! Mail that came back, taken to the attempt that its token names: a bounce is a receipt like a carrier's, a complaint
//! a refusal like an unsubscription.
//!
//! A mail without a token of ours changes nothing, whatever it says (reliability.md T16). It answers once what follows is
//! durable, so that whoever holds the mail may let it go; told again, nothing is done twice.

use super::receipts::Receiver;
use crate::{
    channels::returned::{Report, ReturnTokens, ReturnedMail},
    domain::{
        ids::MessageId,
        receipt::{ProviderReceipt, ReceiptKind},
    },
    store::{CalledBack, Owner, Result},
};

/// What became of a mail that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It was read as this, and is kept.
    Kept { what: What, message: MessageId },
    /// It changed nothing, and why.
    Ignored(&'static str),
}

/// What it was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Bounced,
    Delayed,
    Complained,
}

impl What {
    pub const fn as_str(self) -> &'static str {
        match self {
            What::Bounced => "bounced",
            What::Delayed => "delayed",
            What::Complained => "complained",
        }
    }
}

impl Receiver {
    /// Keeps what a mail says that came back. An error: it is not kept, and has to be handed in again.
    pub async fn mail_returned(&self, mail: ReturnedMail, tokens: &dyn ReturnTokens) -> Result<Returned> {
        let Some(attempt) = mail.tokens.iter().find_map(|token| tokens.read_returned(token)) else {
            tracing::info!("a mail came back without a token of ours: ignored");
            return Ok(Returned::Ignored("no address in it has a token of ours"));
        };
        let Some(owner) = self.store.owner(attempt).await? else {
            tracing::info!(%attempt, "a mail came back about an attempt that is forgotten");
            return Ok(Returned::Ignored("the message that it is about is forgotten"));
        };
        let (kind, what, error) = match mail.report {
            Report::Bounced(error) => (ReceiptKind::Undelivered, What::Bounced, error),
            Report::Delayed(error) => (ReceiptKind::Delayed, What::Delayed, error),
            Report::Complained => return self.complaint(owner).await,
            Report::Nothing(why) => {
                tracing::info!(message_id = %owner.message, why, "a mail came back that says nothing");
                return Ok(Returned::Ignored(why));
            }
        };
        let receipt = ProviderReceipt {
            provider_message_id: None,
            attempt: Some(attempt),
            kind,
            at: mail.at,
            error: Some(error),
            cost: None,
        };
        let from = CalledBack {
            drivers: vec![owner.driver.clone()],
            driver: owner.driver,
            credential: owner.credential,
            tenant: owner.tenant,
            attempt: Some(attempt),
            services: Vec::new(),
        };
        self.receipt(&from, &receipt).await?;
        Ok(Returned::Kept { what, message: owner.message })
    }

    async fn complaint(&self, owner: Owner) -> Result<Returned> {
        let message = owner.message;
        if self.store.complained(message, self.clock.now()).await?.is_none() {
            return Ok(Returned::Ignored("whose address it was is forgotten"));
        }
        tracing::warn!(message_id = %message, tenant = %owner.tenant, "the recipient complained: a refusal was recorded");
        self.bell.ring_outcome(message);
        Ok(Returned::Kept { what: What::Complained, message })
    }
}
