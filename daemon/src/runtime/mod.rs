//! The running pipeline: workers, their supervisor, sources, meters, and the handle by which others reach them.

mod chain;
mod handle;
mod intake;
mod meter;
mod schedule;

pub use chain::{Chain, Ended};
pub use handle::{Handed, Handle, Order, SourceHandle, StageHandle, WorkerView};
pub use intake::Intake;
pub use meter::{GREATEST_US, LEAST_US, Latencies, Measure, StageMeter};
