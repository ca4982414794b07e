//! Pure maths on std types.

pub mod decimal;
pub mod fingerprint;
