//! A provider over HTTP that misbehaves byte by byte: it plays a script, one act a connection, and keeps what it
//! heard.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is done with one connection.
#[derive(Clone, Debug)]
pub enum Act {
    /// Hears the request and answers it.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Hears the request and says exactly that, then closes.
    Say(Vec<u8>),
    /// Hears that many bytes of the request and resets the connection.
    CutAfter(usize),
    /// Hears the request, keeps silent, and stays.
    Hang,
}

impl Act {
    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Act::Answer { status, headers: Vec::new(), body: body.into() }
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Every byte.
    pub raw: Vec<u8>,
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Head and the whole of the body.
    pub whole: bool,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The body as the pairs of a form, in their order.
    pub fn form(&self) -> Vec<(String, String)> {
        channel_orchestrator::channels::http::form::decode(self.body.as_bytes()).expect("a form")
    }

    fn of(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Self { raw: raw.to_vec(), ..Self::default() };
        };
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        Self {
            raw: raw.to_vec(),
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            whole: body.len() >= length,
            body: body.to_owned(),
            headers,
        }
    }
}

/// The provider, until it is dropped.
pub struct HttpProvider {
    pub port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl HttpProvider {
    /// Plays the acts in order, the last one for ever.
    pub async fn start(script: Vec<Act>) -> Self {
        assert!(!script.is_empty());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let kept = Arc::clone(&heard);
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut acts = script.into_iter().peekable();
            loop {
                let Ok((link, _)) = listener.accept().await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                let act = acts.next().unwrap();
                if acts.peek().is_none() {
                    acts = vec![act.clone()].into_iter().peekable();
                }
                tokio::spawn(play(link, act, Arc::clone(&kept)));
            }
        });
        Self { port, heard, connections, serving }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How often it was connected to, whatever came of it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The requests so far, in the order in which they were heard out.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for HttpProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn play(mut link: TcpStream, act: Act, kept: Arc<Mutex<Vec<Heard>>>) {
    let most = match act {
        Act::CutAfter(bytes) => bytes,
        _ => usize::MAX,
    };
    let mut raw = Vec::new();
    let mut piece = [0; 16 * 1024];
    while raw.len() < most && !Heard::of(&raw).whole {
        let room = piece.len().min(most - raw.len());
        match link.read(&mut piece[..room]).await {
            Ok(count @ 1..) => raw.extend_from_slice(&piece[..count]),
            _ => break,
        }
    }
    kept.lock().unwrap().push(Heard::of(&raw));
    let said = match act {
        Act::Answer { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
                .into_bytes()
        }
        Act::Say(bytes) => bytes,
        Act::CutAfter(_) => {
            // Closed with bytes unread: a reset.
            return;
        }
        Act::Hang => {
            let _ = link.read_to_end(&mut raw).await;
            return;
        }
    };
    let _ = link.write_all(&said).await;
    let _ = link.shutdown().await;
}

/// A secret file that its owner alone may read, as a reference.
pub fn secret(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!("file:{}", path.display())
}
