//! Metric series, and the HTTP endpoint that serves them.
//!
//! A [`snapshot`] holds the values of one scrape. [`series`] turns snapshots into metric families with
//! monotonic counters and a bounded number of series, `exposition` encodes the families, and
//! [`server`] answers HTTP requests.

mod bounded_counters;
mod exposition;
mod family;
mod limits;
mod negotiate;
mod number;
mod process;
mod process_label;
pub mod series;
pub mod server;
pub mod snapshot;
pub mod web_config;
