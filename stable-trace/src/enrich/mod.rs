//! From records to events: decoding, devices and file systems, paths, contexts.

pub(crate) mod cgroups;
mod checked_devices;
pub(crate) mod context;
pub(crate) mod decode;
mod enricher;
mod evidence;
pub(crate) mod fuse_servers;
pub(crate) mod identity;
pub(crate) mod integrity;
pub(crate) mod layouts;
pub(crate) mod paths;
pub(crate) mod stacks;
mod stall;

pub(crate) use enricher::Enricher;
pub(crate) use stall::{unstable_write_context, unstable_write_grade};
