//! Where the public listener is, and how much of anyone it bears.
//!
//! Values only. The times are those of reliability.md T20; the local listeners have their own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::api::{
    listen::Limits,
    settings::{ConnectionLimits, Pace},
};

#[derive(Clone, Debug)]
pub struct PublicSettings {
    pub listen: SocketAddr,
    /// Proxies in front of it: they speak for many, so that the limit by network is not theirs. Nothing that they
    /// say of their callers is believed.
    pub proxies: Vec<Network>,
    pub pace: Pace,
    /// One request, from its header to its answer.
    pub total: Duration,
    /// `most_per_address` counts by network: /24 of IPv4, /64 of IPv6.
    pub connections: ConnectionLimits,
    /// Callbacks handled at one moment.
    pub callbacks_at_once: usize,
    /// Opens, clicks and pages answered at one moment.
    pub visits_at_once: usize,
    /// All bodies held at one moment, in bytes.
    pub held_bytes: usize,
    /// How long connections that are busy when the daemon stops may finish.
    pub drain: Duration,
}

impl Default for PublicSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            proxies: Vec::new(),
            pace: Pace::default(),
            total: Duration::from_secs(15),
            connections: ConnectionLimits { most: 2048, ..ConnectionLimits::default() },
            callbacks_at_once: 512,
            visits_at_once: 256,
            held_bytes: 64 << 20,
            drain: Duration::from_secs(10),
        }
    }
}

impl PublicSettings {
    pub(super) fn limits(&self) -> Limits {
        Limits { pace: self.pace, connections: self.connections, drain: self.drain }
    }
}

/// Addresses that share their first bits: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4()
            && first_bits(ip, self.bits) == first_bits(self.address, self.bits)
    }
}

/// The network that an address counts for: one customer has a /64 of IPv6 at least, one hostile host often a whole
/// /24 of IPv4.
pub(super) fn counted_network(ip: IpAddr) -> IpAddr {
    let ip = ip.to_canonical();
    first_bits(ip, if ip.is_ipv4() { 24 } else { 64 })
}

fn first_bits(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let kept = v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4(kept.into())
        }
        IpAddr::V6(v6) => {
            let kept = v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6(kept.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_what_shares_its_first_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(ip(inside)), "{inside}");
            assert!(!network.contains(ip(outside)), "{outside}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_count_by_their_network() {
        for (one, network) in [
            ("192.0.2.77", "192.0.2.0"),
            ("::ffff:192.0.2.1", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(counted_network(ip(one)), ip(network), "{one}");
        }
    }
}
