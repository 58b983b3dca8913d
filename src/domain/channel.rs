//! The four channels, and values kept one per channel.
//!
//! A closed set: drivers are built in. What a channel costs or carries is policy, not here.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use serde::{Deserialize, Serialize, Serializer};

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

/// One value for each channel, in the order of `Channel::ALL`: where a value stands is reckoned, and not branched to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Named<T>")]
pub struct PerChannel<T>([T; 4]);

/// The same by name, as it is read and written.
#[derive(Serialize, Deserialize)]
#[serde(rename = "PerChannel")]
struct Named<T> {
    sms: T,
    email: T,
    whatsapp: T,
    telegram: T,
}

impl<T> From<Named<T>> for PerChannel<T> {
    fn from(Named { sms, email, whatsapp, telegram }: Named<T>) -> Self {
        Self([sms, email, whatsapp, telegram])
    }
}

impl<T: Serialize> Serialize for PerChannel<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [sms, email, whatsapp, telegram] = self.0.each_ref();
        Named { sms, email, whatsapp, telegram }.serialize(serializer)
    }
}

impl<T> PerChannel<T> {
    /// Values in the order of `Channel::ALL`.
    pub const fn new(values: [T; 4]) -> Self {
        Self(values)
    }

    /// Makes each channel's value in turn.
    #[inline]
    pub fn from_fn(make: impl FnMut(Channel) -> T) -> Self {
        Self(Channel::ALL.map(make))
    }

    /// A value for one channel alone, and the default for the others.
    pub fn only(channel: Channel, value: T) -> Self
    where
        T: Default,
    {
        let mut all = Self(std::array::from_fn(|_| T::default()));
        all[channel] = value;
        all
    }

    /// In the order of `Channel::ALL`.
    #[inline]
    pub fn as_array(&self) -> &[T; 4] {
        &self.0
    }

    /// In the order of `Channel::ALL`.
    #[inline]
    pub fn into_array(self) -> [T; 4] {
        self.0
    }

    /// Each channel with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Channel, &T)> {
        Channel::ALL.into_iter().zip(&self.0)
    }
}

impl<T> Index<Channel> for PerChannel<T> {
    type Output = T;
    #[inline]
    fn index(&self, channel: Channel) -> &T {
        &self.0[channel.index()]
    }
}

impl<T> IndexMut<Channel> for PerChannel<T> {
    #[inline]
    fn index_mut(&mut self, channel: Channel) -> &mut T {
        &mut self.0[channel.index()]
    }
}
