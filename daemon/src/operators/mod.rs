//! Gallery of operators. `operator.rs` is the contract, one file per operator, the slice below is the catalogue in the
//! order users see.

mod aggregate;
mod count;
mod filter;
mod lookup;
mod names;
mod operator;
pub(crate) mod quote;
#[cfg(test)]
pub(crate) mod testing;
mod validate;

pub use operator::{Kind, Loaded, Need, Operator, Setup};

/// Every operator.
pub static OPERATORS: &[Kind] = &[
    validate::KIND,
    filter::KIND,
    lookup::KIND,
    count::KIND,
    aggregate::KIND,
];
