//! A worker on a clock that stands, with real drivers and the providers behind them.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use channel_orchestrator::{
    bell::Bell,
    channels::{
        Driver, Drivers,
        settings::{DriverSettings, build},
    },
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        delivery::{MessageRecord, NewMessage},
        time::{Clock, ManualClock},
    },
    store::{Intake, Records, SqlStore},
};

use crate::{
    store::fixture::{Base, at, message, tenant},
    support::{
        http_provider::secret,
        ledger::{self, AtDot, Ledger},
        provider::{ACCOUNT, AUTH_TOKEN, Act, Provider},
    },
};

/// Seconds after ten o'clock at which a provider was asked to send.
type Tried = Arc<Mutex<Vec<i64>>>;

pub struct Desk {
    pub store: Arc<SqlStore>,
    pub clock: Arc<ManualClock>,
    pub worker: Worker,
    pub tried: Tried,
    pub ledger: Ledger,
    base: Base,
    _secrets: tempfile::TempDir,
}

fn seconds(clock: &ManualClock) -> i64 {
    (clock.now() - at(0)).num_seconds()
}

impl Desk {
    /// Twilio behaves by a rule about the first message, the second, and so on.
    pub async fn sms(rule: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let (clock, tried) = (Arc::new(ManualClock::new(at(0))), Tried::default());
        let (told, noted, dated) = (Arc::clone(&clock), Arc::clone(&tried), Arc::clone(&clock));
        let millis = move || dated.now().timestamp_millis();
        let provider = Provider::start(millis, move |n| {
            noted.lock().unwrap().push(seconds(&told));
            rule(n)
        });
        let (port, ledger) = (provider.port, provider.ledger);
        Self::twilio_at(port, clock, tried, ledger).await
    }

    /// Twilio where nobody listens.
    pub async fn unreachable() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self::twilio_at(port, Arc::new(ManualClock::new(at(0))), Tried::default(), Ledger::default()).await
    }

    async fn twilio_at(port: u16, clock: Arc<ManualClock>, tried: Tried, ledger: Ledger) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let token = secret(secrets.path(), "token", AUTH_TOKEN);
        let toml = format!(
            "kind = \"twilio\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{token}\"\nfrom = \"+33700000000\"\n\
             base_url = \"http://127.0.0.1:{port}\"\n\
             timeouts = {{ connect_seconds = 2, answer_seconds = 2 }}\n"
        );
        Self::on(&toml, clock, tried, ledger, secrets).await
    }

    /// A relay behaves by such a rule.
    pub async fn mail(rule: impl Fn(usize) -> AtDot + Send + Sync + 'static) -> Self {
        let (clock, tried) = (Arc::new(ManualClock::new(at(0))), Tried::default());
        let (told, noted) = (Arc::clone(&clock), Arc::clone(&tried));
        let (port, ledger) = ledger::serve_by(move |n| {
            noted.lock().unwrap().push(seconds(&told));
            rule(n)
        });
        let toml = format!(
            "kind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"rdv@example.com\"\n"
        );
        Self::on(&toml, clock, tried, ledger, tempfile::tempdir().unwrap()).await
    }

    async fn on(
        toml: &str,
        clock: Arc<ManualClock>,
        tried: Tried,
        ledger: Ledger,
        secrets: tempfile::TempDir,
    ) -> Self {
        let settings: DriverSettings = toml::from_str(toml).unwrap();
        let time: Arc<dyn Clock> = clock.clone();
        let driver: Arc<dyn Driver> =
            build("provider", &settings, Path::new("/nonexistent"), time.clone()).unwrap();
        let base = Base::sqlite();
        let store = base.open().await;
        let settings =
            WorkerSettings { poll: std::time::Duration::from_secs(600), ..WorkerSettings::default() };
        let drivers = Drivers::new([driver]);
        let mut worker = Worker::new("w", store.clone(), drivers, time, Arc::new(Bell::default()), settings);
        worker.jitter = || 0.0;
        Self { store, clock, worker, tried, ledger, base, _secrets: secrets }
    }

    pub async fn accept(&self, message: &NewMessage) {
        self.store.accept(message.clone()).await.unwrap();
    }

    pub async fn record(&self, message: &NewMessage) -> MessageRecord {
        self.store.message(&tenant(), message.id).await.unwrap().unwrap()
    }

    /// Follows a message, from one moment at which it is due to the next, until nothing is; what it came to.
    pub async fn to_the_end(&self, message: &NewMessage) -> MessageRecord {
        for _ in 0..60 {
            while self.worker.run_once().await.unwrap() > 0 {}
            let record = self.record(message).await;
            let Some(due) = record.due_at else { return record };
            self.clock.set(due);
        }
        let record = self.record(message).await;
        panic!("it never ends: {:?} {:#?} {:?}", record.status, record.timeline, record.attempts);
    }

    pub fn tried(&self) -> Vec<i64> {
        self.tried.lock().unwrap().clone()
    }

    /// Leaves a database that stands up to the audit.
    pub async fn end(self) {
        self.store.close().await;
        crate::store::audit::audit(&self.base).await;
    }
}

/// To a mailbox or to a telephone, by whichever driver there is, and to nobody else.
pub fn only(email: bool) -> NewMessage {
    let mut message = message();
    let plan = message.plan.as_mut().unwrap();
    plan.hops.remove(usize::from(!email));
    plan.hops[0].drivers = Vec::new();
    plan.hops[0].from = None;
    message
}
