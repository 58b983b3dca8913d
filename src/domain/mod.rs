//! The nouns: what a message, a channel, a decision and a delivery are.
//!
//! Everything here is a plain value. Nothing here does I/O, reads the clock (but for `time::SystemClock`, the
//! one place that may), knows SQL, JSON bodies of the API, TOML files or scripts.

pub mod address;
pub mod by_word;
pub mod channel;
pub mod consent;
pub mod decision;
pub mod delivery;
pub mod facts;
pub mod figures;
pub mod forget;
pub mod ids;
pub mod message;
pub mod money;
pub mod octets;
pub mod question;
pub mod receipt;
pub mod segments;
pub mod suggest;
pub mod time;
