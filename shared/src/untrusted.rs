//! untrusted.
