//! How the daemon is reached from the internet: the public listener, and the address that leads to it.
//!
//! Off unless it is asked for. The address is never guessed: providers sign it, and it is written into mails.

use std::net::{IpAddr, SocketAddr};

use super::{Environment, Flags, file::FileSettings, listen};
use crate::{policy::diagnostic::Diagnostic, public::settings::Network};

/// The public side, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicSide {
    /// Where this process takes callbacks, opens, clicks and unsubscriptions; none: it does not.
    pub listen: Option<SocketAddr>,
    /// `https://host`, without a slash at its end; none: messages carry no address that leads back.
    pub url: Option<String>,
    /// Proxies that the limit by network does not count.
    pub proxies: Vec<Network>,
}

pub(super) fn read(
    flags: &Flags,
    environment: &Environment,
    settings: &FileSettings,
    faults: &mut Vec<Diagnostic>,
) -> PublicSide {
    let listening = flags.public_listen.clone().or_else(|| environment.text("ORCHESTRATOR_PUBLIC_LISTEN"));
    let listen = listen("public_listen", listening.or_else(|| settings.public_listen.clone()), faults);
    let given = flags.public_url.clone().or_else(|| environment.text("ORCHESTRATOR_PUBLIC_URL"));
    let given = given.or_else(|| settings.public_url.clone());
    let named = given.is_some();
    let url = given.and_then(|text| match origin(&text) {
        Ok(url) => Some(url),
        Err(why) => {
            let message = format!("public_url is {text:?}: {why}");
            let hint = "write the origin at which the proxy is reached, such as https://msg.example.com";
            faults.push(Diagnostic::error("public_url", "settings", message).hint(hint));
            None
        }
    });
    if listen.is_some() && !named {
        let message = "public_listen is set and public_url is not";
        let hint = "set public_url (ORCHESTRATOR_PUBLIC_URL) to the address that providers and people call: it is \
                    what providers sign";
        faults.push(Diagnostic::error("public_url", "settings", message).hint(hint));
    }
    if listen.is_none() && url.is_some() {
        let message = "public_url is set and this process has no public listener: another one has to take what \
                       comes back there";
        let hint =
            "set public_listen (ORCHESTRATOR_PUBLIC_LISTEN), unless another daemon on this database does";
        faults.push(Diagnostic::warning("public_listen", "settings", message).hint(hint));
    }
    PublicSide { listen, url, proxies: proxies(&settings.trusted_proxies, faults) }
}

fn proxies(texts: &[String], faults: &mut Vec<Diagnostic>) -> Vec<Network> {
    let mut networks = Vec::new();
    for text in texts {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => faults.push(
                Diagnostic::error("trusted_proxies", "settings", format!("{text:?} is no network"))
                    .hint("write an address or a network, such as 127.0.0.1 or 10.0.0.0/8"),
            ),
        }
    }
    networks
}

/// `https://host` or `https://host:port`; `http` only to this machine. Everything else has no place in it: the path
/// is ours, and what is signed has one spelling.
fn origin(text: &str) -> Result<String, &'static str> {
    let url = text.strip_suffix('/').unwrap_or(text);
    let (scheme, authority) = url.split_once("://").ok_or("it has no https:// before it")?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
    if authority.is_empty() || !authority.bytes().all(plain) {
        return Err("expected a host in lower case, a port if need be, and nothing more");
    }
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("its host or port cannot be read");
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match scheme {
        "https" => Ok(url.to_owned()),
        "http" if here => Ok(url.to_owned()),
        "http" => Err("http is only for this machine itself (localhost, 127.0.0.1): others need https"),
        _ => Err("expected https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_and_https_but_for_this_machine() {
        for (text, url) in [
            ("https://msg.example.com", "https://msg.example.com"),
            ("https://msg.example.com/", "https://msg.example.com"),
            ("https://msg.example.com:8443", "https://msg.example.com:8443"),
            ("http://localhost:8081", "http://localhost:8081"),
            ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
            ("http://[::1]:8081", "http://[::1]:8081"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(url));
        }
        for wrong in [
            "msg.example.com",
            "http://msg.example.com",
            "http://localhost.example.com",
            "https://",
            "https:///",
            "https://msg.example.com/path",
            "https://msg.example.com//",
            "https://msg.example.com?x",
            "https://me@msg.example.com",
            "https://Msg.example.com",
            "https://msg.example.com:port",
            "https://msg.example.com:",
            "https://:443",
            "ftp://msg.example.com",
            "javascript://x",
            "https://msg.example.com\n",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
