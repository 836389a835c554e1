//! The kernel laboratory: real Debian kernels in QEMU, with disks that check guard tags.
//!
//! Usage: `cargo xtask vm --help`.

mod accel;
mod apt;
mod cache_dir;
mod console;
mod cpio;
mod fixtures;
mod guest_script;
mod guest_tests;
mod initrd;
mod kernel;
mod machine;
mod mirror;
mod modules;
mod packages;
mod process;
mod programs;
mod qemu;
mod series;
mod vm;

pub(crate) use accel::{Accel, Engine};
pub(crate) use fixtures::{FixturesArgs, fixtures};
pub(crate) use guest_script::GuestScript;
pub(crate) use guest_tests::{GuestSelection, guest_tests};
pub(crate) use series::Series;
pub(crate) use vm::{VmArgs, vm};
