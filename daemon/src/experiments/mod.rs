//! Gallery of chaos experiments. `experiment.rs` is the contract, one file per experiment, the slice below is the catalogue
//! in the order users see: data and workers first (local, taken back at once), then network, then Redis.

mod experiment;

pub use experiment::{
    Act, Amount, Expects, Experiment, LoadFault, Loss, Method, Params, RecoverFrom, Revert, Scene,
    SceneStage, ServerFault, Step,
};

/// Every experiment.
pub static EXPERIMENTS: &[Experiment] = &[];

/// The experiment with this name.
pub fn find(name: &str) -> Option<&'static Experiment> {
    EXPERIMENTS
        .iter()
        .find(|experiment| (experiment.spec)().name == name)
}
