//! The reasons of the hand-written rules: a byte each while deciding, a text when shown.
//!
//! Texts are those of policies/criteria/; that they are the same is asserted before anything is timed.

use channel_orchestrator::{domain::channel::Channel, policy::view::ChannelView};

macro_rules! reasons {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// Why a channel won or lost points, or was ruled out.
        #[derive(Clone, Copy)]
        pub enum Reason {
            $($name,)+
            /// What this recipient did before; the numbers are in the facts.
            History,
        }

        impl Reason {
            /// In words.
            pub fn text(self, channel: &ChannelView) -> String {
                match self {
                    $(Self::$name => $text.to_owned(),)+
                    Self::History => history(channel),
                }
            }
        }
    };
}

reasons! {
    ChannelDisabledByTheRecipient = "Channel disabled by the recipient",
    PreferredChannel = "Preferred channel",
    ContactInfoNotAvailable = "Contact info not available",
    SmsBestForUrgentMessages = "SMS best for urgent messages (98% open rate)",
    WhatsAppGoodForUrgentMessages = "WhatsApp good for urgent messages",
    EmailSlowerForUrgentMessages = "Email slower for urgent messages",
    SmsFastForImportantMessages = "SMS fast for important messages",
    WhatsAppFastForImportantMessages = "WhatsApp fast for important messages",
    EmailFineForImportantMessages = "Email fine for important messages",
    EmailBestForLowPriority = "Email best for low priority (cost-effective)",
    EmailSupportsRichContentAndAttachments = "Email supports rich content and attachments",
    WhatsAppSupportsRichMedia = "WhatsApp supports rich media",
    SmsLimitedForRichContent = "SMS limited for rich content",
    EmailBetterForLongMessages = "Email better for long messages",
    SmsExpensiveForLongMessages = "SMS expensive for long messages",
    TelegramFree = "Telegram free",
    EmailVeryCostEffective = "Email very cost-effective",
    WhatsAppAffordable = "WhatsApp affordable",
    SmsCostlyForLowPriority = "SMS costly for low priority",
    QuietHoursSmsIntrusive = "Quiet hours - SMS intrusive",
    EmailRespectfulDuringQuietHours = "Email respectful during quiet hours",
    SmsExcellentForAppointments = "SMS excellent for appointments",
    EmailIdealForMarketing = "Email ideal for marketing",
    SmsIntrusiveForMarketing = "SMS intrusive for marketing",
    InstantChannelGoodForNotifications = "Instant channel good for notifications",
    EmailGoodForSurveys = "Email good for surveys",
}

fn history(channel: &ChannelView) -> String {
    let (did, what) = match channel.channel {
        Channel::Sms => ("answered", "SMS"),
        Channel::Email => ("opened", "emails"),
        Channel::WhatsApp => ("read", "WhatsApp messages"),
        Channel::Telegram => ("answered", "Telegram messages"),
    };
    let past = &channel.history;
    let average = (past.average * 100.0).round();
    format!("{did} {} of {} {what} (average {average}%)", past.engaged, past.received)
}
