//! What makes events inside the daemon: pure generators on a seed. The loop that sends them is `runtime/intake`.

mod funnel;
mod generator;

pub use generator::Generator;
