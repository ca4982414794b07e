//! Pure maths on std types.

pub mod decimal;
