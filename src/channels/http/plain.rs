//! Questions that may be asked twice without harm: look-ups, uploads. Over reqwest, because nothing here needs to
//! know how far a request came.
//!
//! Its redirects, proxies and retries are off, and it reads no more of an answer than it must. Nothing that
//! delivers goes this way.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, redirect, retry};

use super::{Answer, Endpoint, Request, classify::clean, exchange::OUR_NAME, reach::Reach, tls_config};

/// The most that is read of an answer: a list of messages is longer than an answer to one.
pub const LIST_BYTES_MAX: usize = 1024 * 1024;

/// Asks one provider.
#[derive(Clone, Debug)]
pub struct Plain {
    client: Client,
    /// Scheme, host and port.
    origin: String,
    base_path: String,
}

impl Plain {
    /// A client with the endpoint's own trust and patience.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        if endpoint.reach == Reach::Public {
            return Err("no look-ups where only public addresses may be reached".into());
        }
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let authority = endpoint.authority.to_str().unwrap_or(&endpoint.host);
        // Also where nothing is encrypted: reqwest makes no client without.
        let (scheme, config) = match &endpoint.tls {
            Some((config, _)) => ("https", config.as_ref().clone()),
            None => ("http", tls_config(None)?),
        };
        let builder = Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(OUR_NAME)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(seconds(endpoint.timeouts.connect_seconds))
            .timeout(seconds(
                endpoint.timeouts.connect_seconds.saturating_add(endpoint.timeouts.answer_seconds),
            ));
        Ok(Self {
            client: builder.build().map_err(|error| format!("http client: {error}"))?,
            origin: format!("{scheme}://{authority}"),
            base_path: endpoint.base_path.clone(),
        })
    }

    /// Asks; a failure is in words that name nobody.
    pub async fn ask(&self, request: Request) -> Result<Answer, String> {
        // The URL of an error may hold an address.
        let told = |error: reqwest::Error| clean(&error.without_url().to_string());
        let url = format!("{}{}{}", self.origin, self.base_path, request.target);
        let mut asking = self.client.request(request.method, url).body(request.body);
        for (name, value) in request.headers {
            asking = asking.header(name, value);
        }
        let mut response = asking.send().await.map_err(told)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(told)? {
            if body.len() + piece.len() > LIST_BYTES_MAX {
                return Err(format!("the answer is longer than {LIST_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, headers, body: Bytes::from(body) })
    }
}
