//! `pipelined`: a headless daemon that runs a streaming pipeline on Redis Streams with exactly-once effects.
//!
//! ARCHITECTURE.md is the map: rooms, floors (imports point down only) and invariants.

pub mod algorithms;
pub mod app;
pub mod args;
pub mod audit;
pub mod chaos;
pub mod clock;
pub mod commands;
pub mod datadir;
pub mod doors;
pub mod effect;
pub mod experiments;
pub mod guard;
pub mod journal;
pub mod logging;
pub mod lookup;
pub mod observe;
pub mod operators;
pub mod params;
pub mod plans;
pub mod record;
pub mod runtime;
pub mod settings;
pub mod sources;
pub mod spool;
pub mod store;
pub mod world;
