//! Gallery of operators. `operator.rs` is the contract, one file per operator, the slice below is the catalogue in the
//! order users see.

mod operator;

pub use operator::{Kind, Loaded, Need, Operator, Setup};

/// Every operator.
pub static OPERATORS: &[Kind] = &[];
