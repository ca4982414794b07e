//! Doors: the ways in from outside the process. The control socket and its sessions.
//!
//! `socket.rs` binds and accepts, `roles.rs` says what a peer may do, `session.rs` is one connection, `methods.rs` is the
//! table of what can be asked, `reads.rs` and `acts.rs` answer. A door changes nothing by itself: it asks commands, plans and the store.

mod acts;
mod admission;
mod documents;
mod ingest;
mod lists;
mod messages;
mod methods;
mod outbox;
mod reads;
mod roles;
mod session;
mod settle;
mod socket;
mod stats;
mod tap;
#[cfg(test)]
mod tests;

pub use roles::Accounts;
pub use socket::{BindError, Bound, bind, serve};
