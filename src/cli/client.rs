//! Speaks HTTP to the daemon on its Unix socket: one request, one connection.
//!
//! Says so when nobody answers. It retries nothing.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Answers are small; this keeps a stranger on the socket from filling the memory.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const CONNECT_SECONDS_MAX: u64 = 5;

/// A daemon on this machine.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    /// How long an answer may take.
    timeout: Duration,
}

/// What the daemon answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: serde_json::Value,
    /// The body as it came, where it is no JSON.
    pub text: String,
    /// `Idempotency-Replayed: true`.
    pub replayed: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no daemon answers on {}: {reason}", socket.display())]
    Unreachable { socket: PathBuf, reason: String },
    #[error("the daemon on {} broke off: {reason}", socket.display())]
    Broken { socket: PathBuf, reason: String },
}

impl Client {
    pub fn new(socket: &Path, timeout: Duration) -> Self {
        Self { socket: socket.to_owned(), timeout }
    }

    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.call(Method::GET, path, None, &[]).await
    }

    pub async fn post(
        &self,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&'static str, String)],
    ) -> Result<Answer, ClientError> {
        self.call(Method::POST, path, body, headers).await
    }

    pub async fn delete(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClientError> {
        self.call(Method::DELETE, path, Some(body), &[]).await
    }

    /// Hands on each line of an answer without end, until the daemon ends it; where it is no success, the answer.
    pub async fn lines(&self, path: &str, mut show: impl FnMut(&str)) -> Result<Option<Answer>, ClientError> {
        let broken = |error: hyper::Error| self.broken(&error.to_string());
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Full::new(Bytes::new()))
            .map_err(|error| self.broken(&format!("the request cannot be written: {error}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            return self.read(response).await.map(Some);
        }
        let (mut body, mut kept) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            // Cut off: the daemon is gone, and so is what it had to tell.
            let Ok(frame) = frame else { break };
            kept.extend_from_slice(frame.data_ref().map(|data| &data[..]).unwrap_or_default());
            while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = kept.drain(..=end).collect();
                show(String::from_utf8_lossy(&line).trim_end());
            }
        }
        connection.abort();
        Ok(None)
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connecting = UnixStream::connect(&self.socket);
        tokio::time::timeout(Duration::from_secs(CONNECT_SECONDS_MAX), connecting)
            .await
            .map_err(|_| self.unreachable("it does not take the connection"))?
            .map_err(|error| self.unreachable(&in_words(&error)))
    }

    async fn read(&self, response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, ClientError> {
        let status = response.status();
        let replayed = response.headers().get("idempotency-replayed").is_some_and(|v| v == "true");
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.broken(&error.to_string()))?
            .to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
        Ok(Answer { status, body, text, replayed })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&'static str, String)],
    ) -> Result<Answer, ClientError> {
        let stream = self.connect().await?;
        let exchange = self.exchange(stream, method, path, body, headers);
        tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| self.broken(&format!("no answer within {} s", self.timeout.as_secs())))?
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&'static str, String)],
    ) -> Result<Answer, ClientError> {
        let broken = |error: hyper::Error| self.broken(&error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json");
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| self.broken(&format!("the request cannot be written: {error}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let answer = self.read(response).await;
        connection.abort();
        answer
    }

    fn unreachable(&self, reason: &str) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), reason: reason.to_owned() }
    }

    fn broken(&self, reason: &str) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), reason: reason.to_owned() }
    }
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "the socket is there, but nobody listens".to_owned(),
        ErrorKind::PermissionDenied => "you may not open it (its mode is 0660: owner and group)".to_owned(),
        _ => error.to_string(),
    }
}
