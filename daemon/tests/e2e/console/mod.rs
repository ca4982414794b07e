//! The console as an operator uses it: real keys in a real terminal, the real daemon, a real Redis.
//!
//! `driver.rs` opens and drives it; each other file is one thing that people do with it.

#[path = "../../../../console/tests/common/strict.rs"]
#[allow(dead_code, reason = "the tests of the other package use the rest")]
mod strict;

mod driver;

mod acting;
mod enduring;
mod looking;
mod owned;

/// The two sizes that a console must be good at.
const SIZES: [(u16, u16); 2] = [(80, 24), (160, 45)];
