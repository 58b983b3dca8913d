//! The API: every shape against its golden file, every fault as a problem, keys, idempotency, and the sockets
//! with their limits.

mod acts;
mod batch;
mod faults;
mod front;
pub(crate) mod house;
mod idempotency;
mod keys;
mod numbers;
mod returned;
mod routes;
mod shapes;
mod sockets;
mod tail;
mod templates;
mod versions;
