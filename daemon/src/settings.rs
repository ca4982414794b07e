//! Settings: finds the configuration file, environment and flags, hands them to `shared::config`, prints faults.
