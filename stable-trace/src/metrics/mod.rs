//! Exact numbers from the kernel's own maps, and the endpoint that serves them.
//!
//! [`collect`] reads the kernel's maps, [`snapshot`] is what one look at everything found, [`series`]
//! turns snapshots into metric families whose counters never go back and whose number is bounded,
//! [`exposition`] writes them down, and [`server`] hands them out.

pub mod bounded_counters;
pub mod exposition;
mod family;
pub mod limits;
pub mod negotiate;
pub mod number;
pub mod own;
pub mod series;
pub mod server;
pub mod snapshot;
pub mod web_config;
