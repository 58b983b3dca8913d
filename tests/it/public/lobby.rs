//! A public listener without its process: real router, tracker and store, a driver that signs by hand, and a
//! receiver that remembers what it was told.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use channel_orchestrator::{
    api::Metrics,
    channels::{
        Driver, Drivers, Outbound, PrepareError, Prepared,
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest, Callbacks},
    },
    domain::{
        channel::Channel,
        ids::{AttemptId, MessageId, TenantId},
        receipt::{EngagementEvent, ProviderEvent, ProviderReceipt, ReceiptKind},
        time::{Clock, ManualClock},
    },
    public::{Parts, Public, PublicSettings, Receive, router},
    store::{Links, OpenOptions, SqlStore, StoreError, open},
    tracking::{TokenKey, Tracker},
};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use ring::hmac;
use tempfile::TempDir;
use tower::ServiceExt;

pub const URL: &str = "https://msg.example.com";
pub const NOON: &str = "2025-11-14T12:00:00Z";

/// What the receiver was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Events { driver: String, tenant: String, attempt: Option<AttemptId>, events: Vec<ProviderEvent> },
    Engaged(EngagementEvent),
    Unsubscribed(MessageId),
}

#[derive(Default)]
pub struct Remembering {
    told: Mutex<Vec<Told>>,
    /// The database is away.
    pub down: AtomicBool,
    /// Nothing is known of any message.
    pub forgotten: AtomicBool,
}

impl Remembering {
    fn tell(&self, what: Told) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("away".into()));
        }
        self.told.lock().unwrap().push(what);
        Ok(())
    }

    /// Everything since the last time.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

#[async_trait]
impl Receive for Remembering {
    async fn provider_events(
        &self,
        driver: &dyn Driver,
        tenant: &TenantId,
        attempt: Option<AttemptId>,
        events: Vec<ProviderEvent>,
    ) -> Result<(), StoreError> {
        let (driver, tenant) = (driver.name().to_owned(), tenant.to_string());
        self.tell(Told::Events { driver, tenant, attempt, events })
    }

    async fn engaged(&self, event: EngagementEvent) -> Result<(), StoreError> {
        self.tell(Told::Engaged(event))
    }

    async fn unsubscribe(&self, message: MessageId) -> Result<bool, StoreError> {
        if self.forgotten.load(Ordering::SeqCst) {
            return Ok(false);
        }
        self.tell(Told::Unsubscribed(message)).map(|()| true)
    }
}

/// A provider whose callbacks are signed over method, address and body; the body's first word says what it is.
#[derive(Debug)]
pub struct Signing {
    pub name: &'static str,
    pub calls: bool,
}

pub fn signature(method: &str, url: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the provider's secret");
    let text = [method.as_bytes(), b" ", url.as_bytes(), b" ", body].concat();
    hmac::sign(&key, &text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn receipt(reference: &str) -> ProviderEvent {
    ProviderEvent::Receipt(ProviderReceipt {
        provider_message_id: Some(reference.to_owned()),
        attempt: None,
        kind: ReceiptKind::Delivered,
        at: None,
        error: None,
        cost: None,
    })
}

impl Callbacks for Signing {
    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused> {
        if request.header("x-signature") != Some(&signature(request.method, request.url, request.body)) {
            return Err(CallbackRefused::NotVerified);
        }
        let text = std::str::from_utf8(request.body).map_err(|_| CallbackRefused::Unreadable("not UTF-8"))?;
        match text.split_once(' ') {
            Some(("receipts", names)) => {
                Ok(CallbackAnswer::Events(names.split_whitespace().map(receipt).collect()))
            }
            Some(("challenge", digits)) => Ok(CallbackAnswer::Challenge(digits.to_owned())),
            Some(("panic", _)) => panic!("a driver's fault"),
            _ if text.is_empty() => Ok(CallbackAnswer::Events(Vec::new())),
            _ => Err(CallbackRefused::Unreadable("no word that is known")),
        }
    }
}

#[async_trait]
impl Driver for Signing {
    fn name(&self) -> &str {
        self.name
    }
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }
    fn send_timeout_seconds(&self) -> u32 {
        1
    }
    fn callbacks(&self) -> Option<&dyn Callbacks> {
        self.calls.then_some(self)
    }
    async fn prepare(&self, _: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        unreachable!("nothing is sent here")
    }
}

pub struct Lobby {
    pub public: Arc<Public>,
    pub router: Router,
    pub receiver: Arc<Remembering>,
    pub store: Arc<SqlStore>,
    pub tracker: Tracker,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    _dir: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }
}

impl Lobby {
    pub async fn new() -> Self {
        Self::with(PublicSettings::default()).await
    }

    pub async fn with(settings: PublicSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("store.db").display());
        let store = open(&url, OpenOptions::default()).await.unwrap();
        let key = store.token_key([7; 32]).await.unwrap();
        let tracker = Tracker::new(URL, TokenKey::new(&key));
        let receiver = Arc::new(Remembering::default());
        let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
        let metrics = Arc::new(Metrics::default());
        let drivers: [Arc<dyn Driver>; 2] = [
            Arc::new(Signing { name: "signing", calls: true }),
            Arc::new(Signing { name: "silent", calls: false }),
        ];
        let public = Public::new(Parts {
            tracker: tracker.clone(),
            drivers: Drivers::new(drivers),
            links: store.clone(),
            receiver: receiver.clone(),
            knows_tenant: Box::new(|tenant| ["acme", "globex"].contains(&tenant.as_str())),
            clock: clock.clone(),
            metrics: metrics.clone(),
            settings,
        });
        Self { router: router(public.clone()), public, receiver, store, tracker, clock, metrics, _dir: dir }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// A callback as its provider sends it: signed over the public URL.
    pub async fn call(&self, path: &str, body: &str) -> Answer {
        self.ask(signed("POST", path, body)).await
    }

    /// As a person's browser asks.
    pub async fn browse(&self, method: &str, url: &str) -> Answer {
        self.ask(visit(method, url, PERSON)).await
    }
}

pub const PERSON: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36";

/// What stands behind the public URL.
pub fn path(url: &str) -> &str {
    url.strip_prefix(URL).unwrap()
}

pub fn visit(method: &str, url: &str, user_agent: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path(url)).header("user-agent", user_agent);
    request.body(Body::empty()).unwrap()
}

pub fn signed(method: &str, path: &str, body: &str) -> Request<Body> {
    let signature = signature(method, &format!("{URL}{path}"), body.as_bytes());
    let request = Request::builder().method(method).uri(path).header("x-signature", signature);
    request.body(body.to_owned().into()).unwrap()
}
