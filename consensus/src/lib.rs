//! Replicates a log with authenticated state among a set of validators.
