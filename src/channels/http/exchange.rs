//! One request and its answer over one link, in a given time.
//!
//! It does not judge the answer. What is not a complete answer of a bearable size is no answer.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method,
    client::conn::http1::Builder,
    header::{ACCEPT_ENCODING, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;

use super::stream::{Link, Meter, Metered};
use crate::failpoint;

/// The most that is read of an answer's body (reliability.md T34).
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The most that an answer's head may hold.
const HEAD_BYTES_MAX: usize = 64 * 1024;
pub(super) const OUR_NAME: &str = concat!("channel-orchestrator/", env!("CARGO_PKG_VERSION"));

/// What is asked of a provider.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    /// Path and query below the endpoint's base URL, beginning with a slash.
    pub target: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Request {
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    pub fn post(target: impl Into<String>, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, target: target.into(), headers: Vec::new(), body: body.into() }
            .header(hyper::header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// The method alone: targets hold addresses, headers credentials, bodies texts.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}, {} bytes)", self.method, self.body.len())
    }
}

/// A complete answer.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The first header of that name, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// How far the request had come when the exchange broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Its last byte never left: the provider cannot have acted on it.
    Partly,
    /// Its last byte may have left.
    Wholly,
}

/// No complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub written: Written,
    pub why: String,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Exchange {
    Answered(Answer),
    Broken(Broken),
}

/// Sends the request and reads its answer.
pub(super) async fn exchange(
    link: impl Link,
    request: Request,
    authority: HeaderValue,
    seconds: u32,
) -> Exchange {
    let over = tokio::time::sleep(Duration::from_secs(u64::from(seconds)));
    let late = format!("no complete answer in {seconds} s");
    exchange_until(link, request, authority, over, late).await
}

/// The same until a moment that nothing puts off, however much comes before it.
pub(super) async fn exchange_until(
    link: impl Link,
    request: Request,
    authority: HeaderValue,
    over: impl Future<Output = ()>,
    late: String,
) -> Exchange {
    let meter = Meter::new(request.body.len());
    let talking = talk(Metered::new(link, meter.clone()), request, authority);
    let ended = tokio::select! {
        biased;
        ended = talking => ended,
        () = over => Err(late),
    };
    // The link is gone by now, so that the meter stands still.
    let why = match ended {
        Ok(answer) => return Exchange::Answered(answer),
        Err(why) => why,
    };
    let written = if meter.is_whole() { Written::Wholly } else { Written::Partly };
    Exchange::Broken(Broken { written, why })
}

async fn talk(link: Metered<impl Link>, request: Request, authority: HeaderValue) -> Result<Answer, String> {
    let request = with_our_headers(request, authority)?;
    let (mut sender, link) = Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(link))
        .await
        .map_err(|error| error.to_string())?;
    let answering = async move {
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        failpoint::hit("send.resp_head");
        let (head, mut rest) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = rest.frame().await {
            let frame = frame.map_err(|error| format!("the answer broke off: {}", told(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&data);
        }
        failpoint::hit("send.resp_body");
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.freeze() })
    };
    let (mut answering, mut link) = (std::pin::pin!(answering), std::pin::pin!(link));
    let mut linked = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut answering => return answer,
            _ = &mut link, if linked => linked = false,
        }
    }
}

fn with_our_headers(request: Request, authority: HeaderValue) -> Result<hyper::Request<Full<Bytes>>, String> {
    let mut made = hyper::Request::new(Full::new(request.body));
    *made.method_mut() = request.method;
    *made.uri_mut() = request.target.parse().map_err(|_| "the request's path is not one".to_owned())?;
    let headers = made.headers_mut();
    headers.insert(HOST, authority);
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in request.headers {
        headers.append(name, value);
    }
    Ok(made)
}

/// The error with its cause: hyper alone says no more than "connection error".
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
