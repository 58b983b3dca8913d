//! The public side: tokens, links and robots by table and at random; callbacks, opens, clicks and unsubscribing
//! through the real router and store; the listener's limits on real sockets.

mod callbacks;
mod daemon;
mod links;
mod lobby;
mod robots;
mod routes;
mod sockets;
mod tokens;
mod visits;
