//! Grafana dashboards of stable-trace, and the ways to try and to draw them.
//!
//! The JSON files beside this crate are what users import. They are made here, from one description
//! a dashboard, so that all of them have the same variables, links and looks; a test sees that the
//! files are what is made.

pub mod asked;
pub mod board;
pub mod boards;
pub mod draw;
pub mod metric;
pub mod panel;
pub mod prometheus;
pub mod query;
