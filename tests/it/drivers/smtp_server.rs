//! An SMTP server that answers byte for byte what a test scripts, and drops the link where it is told to; over TLS from
//! STARTTLS on where it is asked to.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::smtp_sink::certificates;

/// What the server does when its turn comes.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Writes these bytes.
    Say(&'static str),
    /// Writes them one by one, this many milliseconds apart.
    Drip(&'static str, u64),
    /// Closes the link.
    Drop,
    /// Says nothing and keeps the link.
    Hang,
}

/// The server's part, by turn.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub greeting: Act,
    pub hello: Act,
    pub starttls: Act,
    /// After the answer to STARTTLS there is TLS.
    pub tls: bool,
    /// The answer to EHLO once there is.
    pub hello_again: Act,
    pub auth: Act,
    pub mail: Act,
    pub rcpt: Act,
    pub data: Act,
    /// Closes the link after this many bytes of the body.
    pub body_bytes: Option<usize>,
    pub dot: Act,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            greeting: Act::Say("220 mail.test ready\r\n"),
            hello: Act::Say("250-mail.test\r\n250 8BITMIME\r\n"),
            starttls: Act::Say("220 go on\r\n"),
            tls: false,
            hello_again: Act::Say("250-mail.test\r\n250 AUTH PLAIN\r\n"),
            auth: Act::Say("235 2.7.0 welcome\r\n"),
            mail: Act::Say("250 2.1.0 ok\r\n"),
            rcpt: Act::Say("250 2.1.5 ok\r\n"),
            data: Act::Say("354 go on\r\n"),
            body_bytes: None,
            dot: Act::Say("250 2.0.0 Ok: queued as 4F2A\r\n"),
        }
    }
}

/// A server on a port of its own, until it is dropped.
pub struct SmtpServer {
    pub port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    closed: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl SmtpServer {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let closed = Arc::<AtomicUsize>::default();
        let (log, over) = (Arc::clone(&heard), Arc::clone(&closed));
        let task = tokio::spawn(async move {
            while let Ok((link, _)) = listener.accept().await {
                let (log, over) = (Arc::clone(&log), Arc::clone(&over));
                tokio::spawn(async move {
                    converse(link, script, &log).await;
                    over.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, heard, closed, task }
    }

    /// Conversations that are over.
    pub fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }

    /// Everything that clients have written so far.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    pub fn heard_text(&self) -> String {
        String::from_utf8(self.heard()).unwrap()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the conversation goes on.
async fn act<S: AsyncRead + AsyncWrite + Unpin>(link: &mut BufReader<S>, act: Act) -> bool {
    match act {
        Act::Say(text) => link.write_all(text.as_bytes()).await.is_ok() && link.flush().await.is_ok(),
        Act::Drip(text, apart_ms) => {
            for byte in text.bytes() {
                if link.write_all(&[byte]).await.is_err() || link.flush().await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(apart_ms)).await;
            }
            true
        }
        Act::Drop => false,
        Act::Hang => {
            // Until the client gives up.
            let mut rest = Vec::new();
            let _ = link.read_to_end(&mut rest).await;
            false
        }
    }
}

async fn converse(link: TcpStream, script: Script, log: &Mutex<Vec<u8>>) {
    let mut link = BufReader::new(link);
    if !act(&mut link, script.greeting).await || !turns(&mut link, script, log).await {
        return;
    }
    let Ok(link) = acceptor().accept(link.into_inner()).await else { return };
    let inside =
        Script { hello: script.hello_again, starttls: Act::Say("503 again?\r\n"), tls: false, ..script };
    turns(&mut BufReader::new(link), inside, log).await;
}

/// Takes turns; true where TLS is to begin.
async fn turns<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut BufReader<S>,
    script: Script,
    log: &Mutex<Vec<u8>>,
) -> bool {
    loop {
        let mut line = Vec::new();
        if link.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        log.lock().unwrap().extend_from_slice(&line);
        let text = String::from_utf8_lossy(&line).to_ascii_uppercase();
        let verb = text.split_whitespace().next().unwrap_or_default().to_owned();
        let answer = match verb.as_str() {
            "EHLO" => script.hello,
            "STARTTLS" => script.starttls,
            "AUTH" => script.auth,
            "MAIL" => script.mail,
            "RCPT" => script.rcpt,
            "DATA" => script.data,
            "QUIT" => Act::Say("221 bye\r\n"),
            _ => Act::Say("502 what?\r\n"),
        };
        if !act(link, answer).await {
            return false;
        }
        if verb == "STARTTLS" && script.tls {
            return true;
        }
        let asked_for = matches!(answer, Act::Say(text) if text.starts_with("354"));
        if verb == "DATA"
            && asked_for
            && !(body(link, script.body_bytes, log).await && act(link, script.dot).await)
        {
            return false;
        }
    }
}

fn acceptor() -> TlsAcceptor {
    static ACCEPTOR: OnceLock<TlsAcceptor> = OnceLock::new();
    let made = ACCEPTOR.get_or_init(|| {
        let path = |extension: &str| certificates().join(format!("good.{extension}"));
        let chain = CertificateDer::pem_file_iter(path("pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(path("key")).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        TlsAcceptor::from(Arc::new(config))
    });
    made.clone()
}

/// Reads until the final dot, or only so many bytes; whether the dot came.
async fn body<S: AsyncRead + Unpin>(
    link: &mut BufReader<S>,
    most: Option<usize>,
    log: &Mutex<Vec<u8>>,
) -> bool {
    let mut read = 0;
    loop {
        let mut line = Vec::new();
        if link.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        read += line.len();
        log.lock().unwrap().extend_from_slice(&line);
        if most.is_some_and(|most| read >= most) {
            return false;
        }
        if line == b".\r\n" {
            return true;
        }
    }
}
