//! Faults at the ports, each with an owner that ends it.

mod faults;
mod proxy;

pub use faults::{FaultBoard, Point};
pub use proxy::{Faults, Proxy};
