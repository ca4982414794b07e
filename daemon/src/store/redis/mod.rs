//! The store on Redis or Valkey: what users run.

mod info;
pub mod managed;
pub mod preflight;
