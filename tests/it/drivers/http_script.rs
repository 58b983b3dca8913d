//! An HTTP provider that answers byte for byte what a test scripts, and keeps every request that it heard whole.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the provider does with a request that it has read whole.
#[derive(Clone, Debug)]
pub enum Say {
    Bytes(Vec<u8>),
    /// Closes the link without a word.
    Drop,
    /// Says nothing and keeps the link.
    Hang,
}

/// An answer with its length.
pub fn answer(status: u16, more: &str, body: impl AsRef<[u8]>) -> Say {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} Any\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    Say::Bytes([head.as_bytes(), body].concat())
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Method and path.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A provider on a port of its own, until it is dropped.
pub struct HttpScript {
    pub port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: tokio::task::JoinHandle<()>,
}

impl HttpScript {
    /// The first request gets the first answer, and so on; the last answer is for all that follow.
    pub async fn start(answers: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let log = Arc::clone(&heard);
        let answers = Arc::new(answers);
        let task = tokio::spawn(async move {
            while let Ok((link, _)) = listener.accept().await {
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                tokio::spawn(async move { serve(link, &log, &answers).await });
            }
        });
        Self { port, heard, task }
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for HttpScript {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut link: TcpStream, log: &Mutex<Vec<Heard>>, answers: &[Say]) {
    let Some(request) = read(&mut link).await else { return };
    let at = {
        let mut log = log.lock().unwrap();
        log.push(request);
        log.len() - 1
    };
    match &answers[at.min(answers.len() - 1)] {
        Say::Bytes(bytes) => {
            let _ = link.write_all(bytes).await;
            let _ = link.shutdown().await;
        }
        Say::Drop => {}
        Say::Hang => std::future::pending().await,
    }
}

/// One request, or none where the client went first.
async fn read(link: &mut TcpStream) -> Option<Heard> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(heard) = whole(&bytes) {
            return Some(heard);
        }
        match link.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

fn whole(bytes: &[u8]) -> Option<Heard> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut heard = Heard { line, headers, body: Vec::new() };
    let length = heard.header("content-length").map_or(0, |text| text.parse().unwrap());
    let body = &bytes[end + 4..];
    (body.len() >= length).then(|| {
        heard.body = body[..length].to_vec();
        heard
    })
}
