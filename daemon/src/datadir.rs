//! The data folder: lock, instance id, socket paths.
