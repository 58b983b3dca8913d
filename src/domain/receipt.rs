//! What comes back about a message: receipts of providers, what people do with it, what they answer.
//!
//! Values only. What a set of receipts comes to is a fold that depends on no order; what follows from it is
//! `delivery`'s affair.

pub mod fold;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    channel::Channel,
    delivery::AttemptError,
    ids::{AttemptId, MessageId},
    money::MicroEuros,
};

/// What a provider says became of a message that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptKind {
    /// It has it, and nothing more is known: settles an attempt whose outcome was unknown.
    Accepted,
    /// Handed to the carrier.
    Sent,
    /// It did not arrive yet, and the provider goes on trying (a relay's notice of a delay).
    Delayed,
    /// Arrived at the device or in the mailbox.
    Delivered,
    /// Opened or read; implies that it arrived.
    Read,
    /// It will not arrive: a carrier's refusal, a bounce.
    Undelivered,
}

impl ReceiptKind {
    pub const ALL: [ReceiptKind; 6] = [
        ReceiptKind::Accepted,
        ReceiptKind::Sent,
        ReceiptKind::Delayed,
        ReceiptKind::Delivered,
        ReceiptKind::Read,
        ReceiptKind::Undelivered,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ReceiptKind::Accepted => "accepted",
            ReceiptKind::Sent => "sent",
            ReceiptKind::Delayed => "delayed",
            ReceiptKind::Delivered => "delivered",
            ReceiptKind::Read => "read",
            ReceiptKind::Undelivered => "undelivered",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One receipt, verified, as its driver read it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderReceipt {
    /// The provider's own name for the message, where it gave one.
    pub provider_message_id: Option<String>,
    /// The attempt, where the provider echoed our token (WhatsApp's `biz_opaque_callback_data`).
    pub attempt: Option<AttemptId>,
    pub kind: ReceiptKind,
    /// The provider's own time, where it told one.
    pub at: Option<DateTime<Utc>>,
    /// Why it will not arrive.
    pub error: Option<AttemptError>,
    pub cost: Option<MicroEuros>,
}

/// A message that a person wrote to one of our senders.
#[derive(Clone, PartialEq)]
pub struct InboundMessage {
    pub channel: Channel,
    /// The provider's own name for it: the same message told twice counts once.
    pub provider_message_id: String,
    /// The person's address as the provider writes it (E.164, a chat id, a mailbox).
    pub from: String,
    /// The sender that was written to: our number, mailbox or bot.
    pub to: String,
    pub text: String,
    /// The provider's own time, where it told one.
    pub at: Option<DateTime<Utc>>,
    /// The provider's name of the message that this answers, where it says so.
    pub answers: Option<String>,
}

/// Never the text nor the addresses.
impl std::fmt::Debug for InboundMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InboundMessage({}, {} characters)", self.channel, self.text.chars().count())
    }
}

/// What a verified callback holds.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderEvent {
    Receipt(ProviderReceipt),
    Inbound(InboundMessage),
    /// The person blocked us on this channel (Telegram's `my_chat_member`), or came back.
    Blocked {
        channel: Channel,
        address: String,
        blocked: bool,
    },
}

/// What a person, or a robot, did with a message.
#[derive(Clone, Debug, PartialEq)]
pub struct EngagementEvent {
    pub message: MessageId,
    /// `opened`, `clicked`, `replied`, `converted`, `unsubscribed`, or the caller's own name.
    pub name: String,
    pub at: DateTime<Utc>,
    /// A prefetcher, a scanner, a proxy: counted apart, never a reason to do anything.
    pub machine: bool,
    /// The channel that it happened on, where that is known.
    pub channel: Option<Channel>,
    /// Which link, for a click.
    pub link: Option<u16>,
    /// Told twice with the same id, it counts once.
    pub dedup: Option<String>,
}
