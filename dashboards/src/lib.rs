//! Grafana dashboards of stable-trace: their generator, a Prometheus client, and a renderer.
//!
//! Users import the JSON files beside this crate. [`dashboards`] describes each of them in code, so
//! that they share variables, links and style. A test compares the files with the generator's output.

pub mod dashboard;
pub mod dashboards;
pub mod draw;
pub mod expressions;
pub mod json;
pub mod metric;
mod panel;
pub mod prometheus;
mod query;
