//! Faults on purpose: the fault board stops or kills a worker at a named point; [`Weather`] delays, refuses, loses, repeats
//! and belates what goes over the ports of the store, [`LookupWeather`] what is looked up; [`Proxy`] is a network with
//! faults. [`Inside`] has what an experiment needs of them in one hand. Each has an owner that ends it.

mod admin;
mod faults;
mod hands;
mod inside;
mod lookup;
mod network;
mod order;
mod proxy;
mod server;
mod shown;
mod store;
mod weather;

pub use faults::{FaultBoard, Point, Precaution};
pub use inside::{Inside, IsOurs, Setup};
pub use lookup::{LookupCounts, LookupWeather};
pub use network::between;
pub use order::{Ask, Hits, Order, Told};
pub use proxy::{Faults, Proxy};
pub use server::{Backlog, Process, Server, Watched, words};
pub use shown::Shown;
pub use store::Weathered;
pub use weather::{Call, Fate, Happens, Weather};
