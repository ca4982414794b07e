//! The running pipeline: workers, their supervisor, sources, meters, and the handle by which others reach them.

mod build;
mod chain;
mod epoch;
mod handle;
mod intake;
mod janitor;
mod loader;
mod measure;
mod mender;
mod meter;
mod names;
pub mod pressure;
mod reader;
mod schedule;
mod seldom;
mod supervisor;
mod switch;
mod worker;

pub use build::layout;
pub use chain::{Chain, Ended};
pub use epoch::EpochKeeper;
pub use handle::{Handed, Handle, Order, SourceHandle, StageHandle, WorkerView};
pub use intake::Intake;
pub use meter::{GREATEST_US, LEAST_US, Latencies, Measure, StageMeter};
pub use supervisor::{Drained, Runtime};
pub use switch::Switch;
