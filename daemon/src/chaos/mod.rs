//! Faults at the ports, each with an owner that ends it.

mod faults;

pub use faults::{FaultBoard, Point};
