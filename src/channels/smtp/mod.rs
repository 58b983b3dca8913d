//! Email through a relay, by SMTP: one connection, one message, one attempt.
//!
//! `prepare` goes as far as the whole body; `send` writes the final dot and waits for the answer. A mail that
//! is prepared and not sent is given up by closing the link, which proves that it was not sent. It never
//! retries, pools, falls back to plaintext, or gives a password to a link that is not encrypted.

mod classify;
mod dkim;
mod returns;
mod stream;

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use lettre::{
    message::Mailbox,
    transport::smtp::{
        Error,
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
    dkim::Signer,
    returns::ReturnPath,
    stream::{Gate, Wire},
};
use super::{
    Driver, Outbound, PrepareError, Prepared, exhibit, mime,
    settings::{SmtpSettings, SmtpTimeouts, TlsMode},
};
use crate::{
    domain::{
        channel::Channel,
        delivery::{AttemptError, ErrorClass, Outcome},
        time::Clock,
    },
    failpoint,
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
    returns: Option<ReturnPath>,
    dkim: Option<Signer>,
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
            returns: settings.bounces.as_ref().map(ReturnPath::new).transpose()?,
            dkim: settings.dkim.as_deref().map(Signer::new).transpose()?,
            hello,
            timeouts,
            clock,
        })
    }

    async fn connect(&self, gate: &Arc<Gate>) -> Result<AsyncSmtpConnection, PrepareError> {
        let seconds = self.timeouts.connect_seconds;
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = match tokio::time::timeout(seconds_of(seconds), connecting).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) => return Err(before_dot(Stage::Connect, &Failure::Broken(e.to_string()))),
            Err(_) => return Err(before_dot(Stage::Connect, &Failure::Silence(seconds))),
        };
        // Only costs speed where it is refused.
        let _ = tcp.set_nodelay(true);
        failpoint::hit("send.connected");
        let wire = Wire::new(tcp, Arc::clone(gate));
        if let Some((TlsMode::Implicit, parameters)) = &self.tls {
            let greeting = async {
                let stream = wire.encrypted(parameters.clone()).await?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await
            };
            return step(Stage::Connect, seconds, greeting).await;
        }
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &self.hello);
        let mut link = step(Stage::Connect, seconds, greeting).await?;
        if let Some((TlsMode::Starttls, parameters)) = &self.tls {
            if !link.can_starttls() {
                let why = "the relay does not offer STARTTLS, so that nothing is sent to it in the clear";
                return Err(before_dot(Stage::StartTls, &Failure::Unsuitable(why.into())));
            }
            step(Stage::StartTls, seconds, link.starttls(parameters.clone(), &self.hello)).await?;
            if !link.is_encrypted() {
                let why = "the link is not encrypted";
                return Err(before_dot(Stage::StartTls, &Failure::Unsuitable(why.into())));
            }
        }
        Ok(link)
    }

    async fn log_in(&self, link: &mut AsyncSmtpConnection) -> Result<(), PrepareError> {
        // With a login there is TLS (`new` sees to that), and `connect` gives no link that lacks it.
        let Some((username, password)) = &self.login else { return Ok(()) };
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
        let addresses: [&str; 2] = [mail.envelope_from.as_ref(), mail.to.as_ref()];
        if !addresses.iter().all(|a| a.is_ascii()) {
            if !link.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(refused("smtputf8", "the address is not ASCII and the relay lacks SMTPUTF8"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let from = MailFrom::new(Some(mail.envelope_from.clone()), parameters);
        let answer = step(Stage::Mail, seconds, link.command(from)).await?;
        expect(Stage::Mail, &answer, 2)?;
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let answer = step(Stage::Rcpt, seconds, link.command(to)).await?;
        expect(Stage::Rcpt, &answer, 2)?;
        let answer = step(Stage::Data, seconds, link.command(Data)).await?;
        expect(Stage::Data, &answer, 3)?;
        // One that stands there already would be taken for the answer to the dot.
        let mut another = std::pin::pin!(link.read_response());
        let spoke = std::future::poll_fn(|cx| Poll::Ready(another.as_mut().poll(cx).is_ready())).await;
        if spoke { Err(before_dot(Stage::Body, &too_early())) } else { Ok(()) }
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
    doing: impl Future<Output = Result<T, Error>>,
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
    exhibit::note(|| vec![format!("> {}", stage.as_str()), format!("< {code} {}", words(answer))]);
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
        let now = self.clock.now();
        let mut mail = mime::build(outbound, &self.from, now).map_err(|e| refused("content", e))?;
        if let (Some(returns), Some(token)) = (&self.returns, &outbound.return_token) {
            mail.envelope_from = returns.of(token).map_err(|e| refused("content", e))?;
        }
        if let Some(signer) = &self.dkim {
            mail.bytes = signer.sign(&mail.bytes, now).ok_or_else(|| {
                before_dot(Stage::Connect, &Failure::Unsuitable("the mail could not be signed (DKIM)".into()))
            })?;
        }
        let gate = Arc::<Gate>::default();
        let mut link = self.connect(&gate).await?;
        failpoint::hit("send.tls");
        self.log_in(&mut link).await?;
        self.envelope(&mut link, &mail).await?;
        failpoint::hit("send.first_byte");
        let sending = body_and_dot(link, mail.bytes, Arc::clone(&gate));
        let seconds = self.timeouts.command_seconds;
        let sending = up_to_the_dot(sending, &gate, seconds).await?;
        failpoint::hit("send.mid_body");
        Ok(Box::new(Ready {
            sending,
            gate,
            message_id: mail.message_id,
            seconds: self.timeouts.data_seconds,
        }))
    }
}

/// The writing of a body and its final dot, and the answer; with the link that it was done on.
type Sending = Pin<Box<dyn Future<Output = (AsyncSmtpConnection, Result<Response, Error>)> + Send>>;

fn body_and_dot(mut link: AsyncSmtpConnection, body: Vec<u8>, gate: Arc<Gate>) -> Sending {
    // lettre asks for the next piece only when the one before is written and flushed, and writes the dot when
    // there is none left: there the gate is.
    let mut body = Some(body);
    let pieces = std::iter::from_fn(move || {
        let piece = body.take();
        if piece.is_none() {
            gate.shut();
        }
        piece
    });
    Box::pin(async move {
        let answer = link.message_iter(pieces).await;
        (link, answer)
    })
}

/// Writes until only the dot is left.
async fn up_to_the_dot(mut sending: Sending, gate: &Gate, seconds: u32) -> Result<Sending, PrepareError> {
    let at_the_dot = std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready((_, ended)) => Poll::Ready(Some(ended)),
        Poll::Pending if gate.reached() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let failure = match tokio::time::timeout(seconds_of(seconds), at_the_dot).await {
        Ok(None) if gate.spoke_early() => too_early(),
        Ok(None) => return Ok(sending),
        Ok(Some(Err(error))) => Failure::of(&error),
        Ok(Some(Ok(_))) => too_early(),
        Err(_) => Failure::Silence(seconds),
    };
    Err(before_dot(Stage::Body, &failure))
}

/// The relay spoke, or hung up, before it had the dot: whatever it says is not about this mail.
fn too_early() -> Failure {
    Failure::Broken("an answer, or the end of the link, came before the end of the body".into())
}

/// The relay has the body and waits for the dot.
struct Ready {
    sending: Sending,
    gate: Arc<Gate>,
    message_id: String,
    seconds: u32,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let Self { mut sending, gate, message_id, seconds } = *self;
        // One more look while the gate still holds.
        let over = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_ready())).await;
        if over || gate.spoke_early() {
            let PrepareError { error, retry_after_seconds } = before_dot(Stage::Body, &too_early());
            return Outcome::Failed { error, retry_after_seconds };
        }
        gate.open();
        let answered = tokio::time::timeout(seconds_of(seconds), sending).await;
        if let Ok((_, Ok(answer))) = &answered {
            let said = || format!("< {} {}", u16::from(answer.code()), words(answer));
            exhibit::note(|| vec!["> the mail and its final dot".to_owned(), said()]);
        }
        failpoint::hit("send.parsed");
        let failure = match answered {
            Ok((link, Ok(answer))) if u16::from(answer.code()) / 100 == 2 => {
                say_goodbye(link);
                let id = queue_id(&words(&answer)).unwrap_or(message_id);
                return Outcome::Accepted { provider_message_id: Some(id), cost: None };
            }
            Ok((_, Ok(answer))) => Failure::Reply { code: answer.code().into(), text: words(&answer) },
            Ok((_, Err(error))) => Failure::of(&error),
            Err(_) => Failure::Silence(seconds),
        };
        if gate.passed() {
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
