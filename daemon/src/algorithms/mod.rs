//! Pure maths on std types.
