//! Email through a relay, by SMTP: one connection, one message, one attempt.
//!
//! `prepare` goes as far as the relay's leave to send the body (354); `send` writes body and final dot and
//! waits for the answer. It never retries, pools, falls back to plaintext, or gives a password to a link that
//! is not encrypted.

mod classify;
mod stream;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lettre::{
    message::Mailbox,
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail as MailFrom, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;

use self::{
    classify::{Failure, Stage, after_dot, before_dot},
    stream::NoReadAhead,
};
use super::{
    Driver, Outbound, PrepareError, Prepared, mime,
    settings::{SmtpSettings, SmtpTimeouts, TlsMode},
};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptError, ErrorClass, Outcome},
    time::Clock,
};

/// How long a polite goodbye may take; nobody waits for it.
const QUIT_SECONDS: u64 = 5;

/// A relay, ready to be spoken to.
pub struct Smtp {
    name: String,
    host: String,
    port: u16,
    tls: Option<(TlsMode, TlsParameters)>,
    login: Option<(SecretString, SecretString)>,
    from: Mailbox,
    hello: ClientId,
    timeouts: SmtpTimeouts,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Smtp({} at {}:{})", self.name, self.host, self.port)
    }
}

impl Smtp {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(name: &str, settings: &SmtpSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let tls = tls(settings)?;
        let login = match (&settings.username, &settings.password) {
            (None, None) => None,
            (Some(_), Some(_)) if tls.is_none() => {
                return Err("username and password need tls: a password is never sent in the clear".into());
            }
            (Some(username), Some(password)) => Some((
                username.read().map_err(|e| format!("username: {e}"))?,
                password.read().map_err(|e| format!("password: {e}"))?,
            )),
            _ => return Err("username and password go together: one of them is missing".into()),
        };
        let hello = match &settings.hello_name {
            None => ClientId::default(),
            Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()) => {
                ClientId::Domain(name.clone())
            }
            Some(name) => return Err(format!("hello_name: {name:?} is not a host name")),
        };
        let timeouts = settings.timeouts;
        if [timeouts.connect_seconds, timeouts.command_seconds, timeouts.data_seconds].contains(&0) {
            return Err("timeouts: each must be at least 1 second".into());
        }
        Ok(Self {
            name: name.to_owned(),
            host: settings.host.clone(),
            port: settings.port.unwrap_or(match settings.tls {
                TlsMode::Starttls => 587,
                TlsMode::Implicit => 465,
                TlsMode::None => 25,
            }),
            tls,
            login,
            from: mime::mailbox("from", &settings.from, settings.from_name.as_deref())?,
            hello,
            timeouts,
            clock,
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, PrepareError> {
        let seconds = self.timeouts.connect_seconds;
        let implicit = matches!(self.tls, Some((TlsMode::Implicit, _)));
        if implicit {
            let parameters = self.tls.as_ref().map(|(_, parameters)| parameters.clone());
            let connecting = AsyncSmtpConnection::connect_tokio1(
                (self.host.as_str(), self.port),
                None,
                &self.hello,
                parameters,
                None,
            );
            return step(Stage::Connect, seconds, connecting).await;
        }
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = match tokio::time::timeout(seconds_of(seconds), connecting).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) => return Err(before_dot(Stage::Connect, &Failure::Broken(e.to_string()))),
            Err(_) => return Err(before_dot(Stage::Connect, &Failure::Silence(seconds))),
        };
        // Only costs speed where it is refused.
        let _ = tcp.set_nodelay(true);
        let stream = Box::new(NoReadAhead::new(tcp));
        let greeting = AsyncSmtpConnection::connect_with_transport(stream, &self.hello);
        let mut link = step(Stage::Connect, seconds, greeting).await?;
        if let Some((TlsMode::Starttls, parameters)) = &self.tls {
            if !link.can_starttls() {
                let why = "the relay does not offer STARTTLS, so that nothing is sent to it in the clear";
                return Err(before_dot(Stage::StartTls, &Failure::Unsuitable(why.into())));
            }
            step(Stage::StartTls, seconds, link.starttls(parameters.clone(), &self.hello)).await?;
        }
        Ok(link)
    }

    async fn log_in(&self, link: &mut AsyncSmtpConnection) -> Result<(), PrepareError> {
        let Some((username, password)) = &self.login else { return Ok(()) };
        if !link.is_encrypted() {
            let why = "the link is not encrypted";
            return Err(before_dot(Stage::Auth, &Failure::Unsuitable(why.into())));
        }
        let credentials =
            Credentials::new(username.expose_secret().to_owned(), password.expose_secret().to_owned());
        let asking = link.auth(&[Mechanism::Plain, Mechanism::Login], &credentials);
        step(Stage::Auth, self.timeouts.command_seconds, asking).await?;
        Ok(())
    }

    /// MAIL, RCPT and DATA: until the relay says that it will take the body.
    async fn envelope(&self, link: &mut AsyncSmtpConnection, mail: &mime::Mail) -> Result<(), PrepareError> {
        let seconds = self.timeouts.command_seconds;
        let mut parameters = Vec::new();
        let addresses: [&str; 2] = [mail.from.as_ref(), mail.to.as_ref()];
        if !addresses.iter().all(|a| a.is_ascii()) {
            if !link.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(refused("smtputf8", "the address is not ASCII and the relay lacks SMTPUTF8"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = MailFrom::new(Some(mail.from.clone()), parameters);
        let answer = step(Stage::Mail, seconds, link.command(from)).await?;
        expect(Stage::Mail, &answer, 2)?;
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let answer = step(Stage::Rcpt, seconds, link.command(to)).await?;
        expect(Stage::Rcpt, &answer, 2)?;
        let answer = step(Stage::Data, seconds, link.command(Data)).await?;
        expect(Stage::Data, &answer, 3)
    }
}

fn tls(settings: &SmtpSettings) -> Result<Option<(TlsMode, TlsParameters)>, String> {
    if settings.tls == TlsMode::None {
        let loopback = settings.host == "localhost"
            || settings.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !loopback && !settings.allow_plaintext {
            return Err(format!(
                "tls = \"none\" to {}, which is not this machine: use \"starttls\" or \"implicit\", or say \
                 allow_plaintext = true",
                settings.host
            ));
        }
        return Ok(None);
    }
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let shown = path.display();
        let pem = std::fs::read(path).map_err(|e| format!("ca_file {shown} cannot be read: {e}"))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|e| format!("ca_file {shown} holds no certificate: {e}"))?;
        builder = builder.add_root_certificate(certificate);
    }
    let parameters = builder.build_rustls().map_err(|e| format!("tls: {e}"))?;
    Ok(Some((settings.tls, parameters)))
}

fn seconds_of(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// One step of the conversation, in its time.
async fn step<T>(
    stage: Stage,
    seconds: u32,
    doing: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, PrepareError> {
    match tokio::time::timeout(seconds_of(seconds), doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(before_dot(stage, &Failure::of(&error))),
        Err(_) => Err(before_dot(stage, &Failure::Silence(seconds))),
    }
}

/// lettre takes any 2xx or 3xx for success; an answer of the wrong kind means that we misread each other.
fn expect(stage: Stage, answer: &Response, first_digit: u16) -> Result<(), PrepareError> {
    let code = u16::from(answer.code());
    if code / 100 == first_digit {
        return Ok(());
    }
    Err(before_dot(stage, &Failure::Reply { code, text: words(answer) }))
}

fn words(answer: &Response) -> String {
    answer.message().collect::<Vec<_>>().join(" ")
}

fn refused(code: &str, detail: impl Into<String>) -> PrepareError {
    PrepareError {
        error: AttemptError {
            class: ErrorClass::Permanent,
            code: Some(code.to_owned()),
            detail: detail.into(),
        },
        retry_after_seconds: None,
    }
}

#[async_trait]
impl Driver for Smtp {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        &[Channel::Email]
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.timeouts.data_seconds
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let mail = mime::build(outbound, &self.from, self.clock.now()).map_err(|e| refused("content", e))?;
        let mut link = self.connect().await?;
        self.log_in(&mut link).await?;
        self.envelope(&mut link, &mail).await?;
        Ok(Box::new(Ready { link, mail, seconds: self.timeouts.data_seconds }))
    }
}

/// The relay waits for the body.
struct Ready {
    link: AsyncSmtpConnection,
    mail: mime::Mail,
    seconds: u32,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(mut self: Box<Self>) -> Outcome {
        // lettre asks for the next piece only when the one before is written and flushed, and writes the dot
        // when there is none left: until then the dot has certainly not left.
        let body_written = AtomicBool::new(false);
        let pieces = std::iter::once(self.mail.bytes.as_slice()).chain(std::iter::from_fn(|| {
            body_written.store(true, Ordering::SeqCst);
            None
        }));
        let sending = self.link.message_iter(pieces);
        let failure = match tokio::time::timeout(seconds_of(self.seconds), sending).await {
            Ok(Ok(answer)) if u16::from(answer.code()) / 100 == 2 => {
                let id = queue_id(&words(&answer)).unwrap_or_else(|| self.mail.message_id.clone());
                say_goodbye(self.link);
                return Outcome::Accepted { provider_message_id: Some(id), cost: None };
            }
            Ok(Ok(answer)) => Failure::Reply { code: answer.code().into(), text: words(&answer) },
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::Silence(self.seconds),
        };
        if body_written.load(Ordering::SeqCst) {
            return after_dot(&failure);
        }
        let PrepareError { error, retry_after_seconds } = before_dot(Stage::Body, &failure);
        Outcome::Failed { error, retry_after_seconds }
    }
}

/// The relay's own name for the message, where it gives one as most do: `2.0.0 Ok: queued as 4F2A`.
fn queue_id(answer: &str) -> Option<String> {
    let (_, after) = answer.split_once("queued as ")?;
    let id: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    (1..=100).contains(&id.len()).then_some(id)
}

/// Ends the conversation without keeping anybody waiting for it.
fn say_goodbye(mut link: AsyncSmtpConnection) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_secs(QUIT_SECONDS), link.quit()).await;
    });
}
