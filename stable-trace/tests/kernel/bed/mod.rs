//! The test bed: disks, file systems, oracles, and the agent, so that a test reads like a story.

pub mod agent;
pub mod bpftool;
pub mod cgroup;
pub mod console;
pub mod direct;
pub mod disk;
pub mod dmesg;
pub mod eventually;
pub mod function_graph;
pub mod host;
pub mod injection;
pub mod loaded;
pub mod missed;
pub mod need;
pub mod program;
pub mod prometheus_server;
pub mod scrape;
pub mod scratch;
pub mod test;
pub mod tracefs;
pub mod wac;

pub use agent::{Agent, Recording};
pub use cgroup::Cgroup;
pub use disk::Disk;
pub use dmesg::Dmesg;
pub use eventually::eventually;
pub use function_graph::FunctionGraph;
pub use injection::Injection;
pub use loaded::Loaded;
pub use need::Need;
pub use prometheus_server::PrometheusServer;
pub use scrape::Scrape;
pub use scratch::{Fs, Scratch};
pub use test::Test;
pub use tracefs::TracefsInstance;
pub use wac::Wac;
