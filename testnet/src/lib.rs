//! A whole Lockstep network on one machine: what it shows, what it measures, what it survives.
//!
//! Validators are real processes of this crate's own executable, with real disks and sockets. Everything else goes through the
//! SDK, as it would for anybody.

pub mod accounts;
pub mod chain;
pub mod chaos;
pub mod child;
pub mod city;
pub mod cli;
pub mod folder;
pub mod latency;
pub mod ledger;
pub mod levels;
pub mod load;
pub mod network;
pub mod nodes;
pub mod ports;
pub mod probe;
pub mod process;
pub mod promises;
pub mod restarts;
pub mod rollups;
pub mod run;
pub mod screen;
pub mod table;
pub mod traffic;
pub mod transfers;
pub mod venues;
mod visitor;
pub mod watch;
pub mod whole;
