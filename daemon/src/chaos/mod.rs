//! Faults on purpose: the fault board stops a worker at a named point; [`Weather`] delays, refuses, loses, repeats and
//! belates what goes over the ports of the store. Each has an owner that ends it.

mod admin;
mod faults;
mod hands;
mod inside;
mod order;
mod proxy;
mod shown;
mod store;
mod weather;

pub use faults::{FaultBoard, Point, Precaution};
pub use inside::Inside;
pub use order::{Ask, Hits, Order, Told};
pub use proxy::{Faults, Proxy};
pub use shown::Shown;
pub use store::Weathered;
pub use weather::{Call, Fate, Happens, Weather};
