//! Providers over HTTP, in two steps: `connect` does all that cannot deliver anything (name, TCP, TLS), `send`
//! writes one request and reads one answer, and knows whether the request left whole.
//!
//! It never retries, follows a redirect, asks a proxy, keeps a connection, unpacks a compressed answer or reads
//! more of one than it must. Plain HTTP goes to this machine alone, unless the operator says otherwise.

pub mod classify;
mod exchange;
pub mod form;
pub mod plain;
pub mod reach;
pub mod signature;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper::{Uri, header::HeaderValue};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::reach::Reach;
pub use self::{
    exchange::{ANSWER_BYTES_MAX, Answer, Broken, Exchange, Request, Written},
    stream::Link,
};
use super::{PrepareError, exhibit};
use crate::{domain::delivery::ErrorClass, failpoint};

/// How long a provider may take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTimeouts {
    /// Name, TCP and TLS.
    pub connect_seconds: u32,
    /// The request and its whole answer, however slowly it drips (reliability.md F37).
    pub answer_seconds: u32,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self { connect_seconds: 10, answer_seconds: 30 }
    }
}

/// What the operator allows of a provider's address.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointOptions<'a> {
    /// Lets `http://` go beyond this machine.
    pub allow_plaintext: bool,
    /// Trusts these certificate authorities (PEM) besides the system's.
    pub ca_file: Option<&'a Path>,
    /// Speaks to addresses of the public internet only (reliability.md T33).
    pub public_only: bool,
    pub timeouts: HttpTimeouts,
}

/// Where a provider is, and how it is spoken to.
#[derive(Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// Before every path; without a slash at its end.
    base_path: String,
    /// Host and port as they stand in the `Host` header.
    authority: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    reach: Reach,
    timeouts: HttpTimeouts,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}:{})", self.host, self.port)
    }
}

impl Endpoint {
    /// Checks the address; the refusal is in words, for the operator. `base_url` is `https://HOST[:PORT][/PATH]`.
    pub fn new(base_url: &str, options: EndpointOptions<'_>) -> Result<Self, String> {
        let uri: Uri = base_url.parse().map_err(|_| format!("base_url: {base_url:?} is not a URL"))?;
        let authority = uri.authority().ok_or(format!("base_url: {base_url:?} names no host"))?.clone();
        if authority.as_str().contains('@') || uri.query().is_some() || base_url.contains('#') {
            return Err(
                "base_url: takes no user, password, `?` or `#`: credentials have keys of their own".into()
            );
        }
        if options.timeouts.connect_seconds == 0 || options.timeouts.answer_seconds == 0 {
            return Err("timeouts: each must be at least 1 second".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (encrypted, usual_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(format!("base_url: {base_url:?} must begin with https://")),
        };
        let reach = match (encrypted, options.public_only) {
            (_, true) => Reach::Public,
            (false, _) if !options.allow_plaintext => Reach::ThisMachine,
            _ => Reach::Anywhere,
        };
        if reach == Reach::ThisMachine && !is_this_machine(&host) {
            return Err(format!(
                "base_url: http:// to {host}, which is not this machine: use https://, or say allow_plaintext = true"
            ));
        }
        let tls = match encrypted {
            false => None,
            true => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| format!("base_url: {host:?} is no name that a certificate could hold"))?;
                Some((Arc::new(tls_config(options.ca_file)?), name))
            }
        };
        Ok(Self {
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| format!("base_url: {base_url:?} is not a URL"))?,
            port: authority.port_u16().unwrap_or(usual_port),
            base_path: uri.path().trim_end_matches('/').to_owned(),
            host,
            tls,
            reach,
            timeouts: options.timeouts,
        })
    }

    /// The longest that `Connection::send` can take.
    pub fn answer_seconds(&self) -> u32 {
        self.timeouts.answer_seconds
    }

    /// Name, TCP, TLS: whatever fails here has delivered nothing.
    pub async fn connect(&self) -> Result<Connection, PrepareError> {
        let seconds = self.timeouts.connect_seconds;
        let limit = Duration::from_secs(u64::from(seconds));
        match tokio::time::timeout(limit, self.dial_and_encrypt()).await {
            Ok(done) => done,
            Err(_) => Err(not_sent(&format!("no connection in {seconds} s"))),
        }
    }

    async fn dial_and_encrypt(&self) -> Result<Connection, PrepareError> {
        let tcp = self.dial().await?;
        failpoint::hit("send.connected");
        // Only costs speed where it is refused.
        let _ = tcp.set_nodelay(true);
        let link: Box<dyn Link> = match &self.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let encrypted = connector.connect(name.clone(), tcp).await;
                Box::new(encrypted.map_err(|error| not_sent(&format!("TLS: {error}")))?)
            }
        };
        failpoint::hit("send.tls");
        Ok(Connection {
            link,
            authority: self.authority.clone(),
            base_path: self.base_path.clone(),
            answer_seconds: self.timeouts.answer_seconds,
        })
    }

    /// Every address of the name in turn, each with its share of the time; the rule about addresses is checked
    /// here, on the very address that is connected to, so that no second answer of the DNS can get around it.
    async fn dial(&self) -> Result<TcpStream, PrepareError> {
        failpoint::hit("send.dns");
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| not_sent(&format!("name: {error}")))?.collect();
        let allowed: Vec<SocketAddr> =
            found.iter().copied().filter(|address| self.reach.allows(address.ip())).collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(PrepareError::new(ErrorClass::Misconfigured, Some("address"), self.reach.refusal()));
        }
        let share = Duration::from_secs(u64::from(self.timeouts.connect_seconds))
            / u32::try_from(allowed.len().max(1)).unwrap_or(u32::MAX);
        let mut last = "the name has no address".to_owned();
        for address in allowed {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = format!("connecting: {error}"),
                Err(_) => last = "connecting: no answer".into(),
            }
        }
        Err(not_sent(&last))
    }
}

/// A provider that waits for one request.
pub struct Connection {
    link: Box<dyn Link>,
    authority: HeaderValue,
    base_path: String,
    answer_seconds: u32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Writes the request and reads the answer, all in `answer_seconds`.
    pub async fn send(self, mut request: Request) -> Exchange {
        request.target.insert_str(0, &self.base_path);
        exhibit::note(|| exhibit::asked(self.authority.to_str().unwrap_or_default(), &request));
        let exchange = exchange::exchange(self.link, request, self.authority, self.answer_seconds).await;
        exhibit::note(|| exhibit::answered(&exchange));
        exchange
    }
}

fn not_sent(why: &str) -> PrepareError {
    PrepareError::new(ErrorClass::NotSent, None, classify::clean(why))
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The system's certificate authorities and the operator's; HTTP/1.1 only.
fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots: Vec<CertificateDer<'static>> = Vec::new();
    if let Some(path) = ca_file {
        let shown = path.display();
        let read = CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| format!("ca_file {shown} cannot be read: {error}"))?;
        if read.is_empty() {
            return Err(format!("ca_file {shown} holds no certificate"));
        }
        roots = read;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
        .map_err(|error| format!("certificate authorities: {error}"))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
