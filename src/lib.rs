//! The Channel Orchestrator decides, for every message a business sends, whether it goes by SMS, email,
//! WhatsApp or Telegram, says why, and sends it.
//!
//! # The path of a message
//!
//! A request comes in on a socket (`api`), is parsed (`request`), scored by the tenant's scripts and ranked
//! (`policy`, `decide`), kept in one transaction (`orchestrator`, `store`), claimed, sent and settled
//! (`delivery`, `channels`). Policies are files; `bundles` swaps them while the daemon runs.
//!
//! # Modules, in the order of their layers
//!
//! * `domain` nouns: messages, channels, decisions, deliveries, time. Pure.
//! * `failpoint` where a test kills the process; otherwise nothing at all.
//! * `request` what callers write, parsed into the domain with every fault at once.
//! * `policy` scripts and TOML, compiled and checked into bundles. The only place that knows Rhai.
//! * `decide` request, bundle and facts in; decision and explanation out. Pure.
//! * `bundles` the policies folder: read, checked, tested, swapped in; the last good kept.
//! * `store` what is kept, in whole operations of one transaction each. The only place that knows SQL.
//! * `channels` drivers: one provider each, one attempt, classified.
//! * `tracking` the signed addresses that a message carries back to us, and who comes by them. Pure.
//! * `bell` wakes workers and waiters.
//! * `delivery` claim, send, settle; what follows an attempt is one pure function.
//! * `orchestrator` the one way into the queue.
//! * `api` sockets and routes. The only place that knows status codes.
//! * `public` the listener that faces the internet: providers' callbacks, opens, clicks, unsubscribing.
//! * `config` settings: file, environment, flags.
//! * `app` puts the parts together and takes them down in reverse.
//! * `cli` the commands.
//!
//! # What is never so
//!
//! Nobody finds these by reading, because they are absences; `tests/tidy.rs` and the suites hold them.
//!
//! * No script can send to someone who opted out: gates are Rust (`decide::gates`), not policy.
//! * Nothing but `orchestrator` puts a message in the queue; nothing but `delivery` calls a driver.
//! * No driver retries, sleeps or falls back.
//! * No transaction is open while a provider is spoken to.
//! * No decision reads the clock, the database or the network.
//! * No query asks the database what time it is.
//! * A reload never stops or changes a message that is already decided.

pub mod api;
pub mod app;
pub mod bell;
pub mod bundles;
pub mod channels;
pub mod cli;
pub mod config;
pub mod decide;
pub mod delivery;
pub mod domain;
pub mod failpoint;
pub mod orchestrator;
pub mod policy;
pub mod public;
pub mod request;
pub mod store;
pub mod tracking;
