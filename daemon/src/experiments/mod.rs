//! Gallery of chaos experiments. `experiment.rs` is the contract, one file per experiment, the slice below is the catalogue
//! in the order users see: data and workers first (local, taken back at once), then network, then Redis.

mod build;
mod cache_flush;
mod daemon_kill;
mod data_burst;
mod data_duplicate;
mod data_hot_key;
mod data_poison;
mod experiment;
mod lookup_error;
mod lookup_slow;
mod net_blackhole;
mod net_latency;
mod net_reset;
mod net_slicer;
mod redis_delconsumer;
mod redis_flushgroup;
mod redis_kill;
mod redis_oom;
mod redis_pause;
mod redis_scriptflush;
mod redis_trim;
mod together;
mod worker_churn;
mod worker_kill;
mod worker_pause;

pub use experiment::{
    Act, Amount, Expects, Experiment, LoadFault, Loss, Method, Params, RecoverFrom, Revert, Scene,
    SceneStage, ServerFault, Step,
};

pub use together::{AND, together};

/// Every experiment.
pub static EXPERIMENTS: &[Experiment] = &[
    data_poison::EXPERIMENT,
    data_duplicate::EXPERIMENT,
    data_burst::EXPERIMENT,
    data_hot_key::EXPERIMENT,
    worker_kill::EXPERIMENT,
    worker_pause::EXPERIMENT,
    worker_churn::EXPERIMENT,
    daemon_kill::EXPERIMENT,
    lookup_slow::EXPERIMENT,
    lookup_error::EXPERIMENT,
    cache_flush::EXPERIMENT,
    net_latency::EXPERIMENT,
    net_slicer::EXPERIMENT,
    net_reset::EXPERIMENT,
    net_blackhole::EXPERIMENT,
    redis_scriptflush::EXPERIMENT,
    redis_pause::EXPERIMENT,
    redis_kill::EXPERIMENT,
    redis_oom::EXPERIMENT,
    redis_flushgroup::EXPERIMENT,
    redis_delconsumer::EXPERIMENT,
    redis_trim::EXPERIMENT,
];

/// The experiment with this name.
pub fn find(name: &str) -> Option<&'static Experiment> {
    EXPERIMENTS
        .iter()
        .find(|experiment| (experiment.spec)().name == name)
}

#[cfg(test)]
mod tests;
