//! The store on Redis or Valkey: what users run.
