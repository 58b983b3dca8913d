//! The four channels, and values kept one per channel.
//!
//! A closed set: drivers are built in. What a channel costs or carries is policy, not here.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use serde::{Deserialize, Serialize};

/// A kind of medium. The order is the last tie-break of a decision (spec.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema, schemars::JsonSchema)]
pub enum Channel {
    Sms,
    Email,
    WhatsApp,
    Telegram,
}

impl Channel {
    /// Every channel, in tie-break order.
    pub const ALL: [Channel; 4] = [Channel::Sms, Channel::Email, Channel::WhatsApp, Channel::Telegram];

    /// The name in JSON, TOML, SQL, scripts and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Email => "email",
            Channel::WhatsApp => "whatsapp",
            Channel::Telegram => "telegram",
        }
    }

    /// The channel of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// Its place in `ALL`.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Some of the channels, in no order. Asking for one costs no search: decisions do so more often than anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSet(u8);

impl ChannelSet {
    pub fn of(channels: &[Channel]) -> Self {
        Self(channels.iter().fold(0, |set, channel| set | 1 << channel.index()))
    }

    pub const fn contains(self, channel: Channel) -> bool {
        self.0 & 1 << channel.index() != 0
    }
}

/// One value for each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerChannel<T> {
    pub sms: T,
    pub email: T,
    pub whatsapp: T,
    pub telegram: T,
}

impl<T> PerChannel<T> {
    /// Makes each channel's value in turn.
    pub fn from_fn(mut make: impl FnMut(Channel) -> T) -> Self {
        Self {
            sms: make(Channel::Sms),
            email: make(Channel::Email),
            whatsapp: make(Channel::WhatsApp),
            telegram: make(Channel::Telegram),
        }
    }

    /// Each channel with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Channel, &T)> {
        Channel::ALL.into_iter().map(|c| (c, &self[c]))
    }
}

impl<T> Index<Channel> for PerChannel<T> {
    type Output = T;
    #[inline]
    fn index(&self, channel: Channel) -> &T {
        match channel {
            Channel::Sms => &self.sms,
            Channel::Email => &self.email,
            Channel::WhatsApp => &self.whatsapp,
            Channel::Telegram => &self.telegram,
        }
    }
}

impl<T> IndexMut<Channel> for PerChannel<T> {
    #[inline]
    fn index_mut(&mut self, channel: Channel) -> &mut T {
        match channel {
            Channel::Sms => &mut self.sms,
            Channel::Email => &mut self.email,
            Channel::WhatsApp => &mut self.whatsapp,
            Channel::Telegram => &mut self.telegram,
        }
    }
}
