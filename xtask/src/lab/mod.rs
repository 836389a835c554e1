//! The kernel laboratory: real Debian kernels in QEMU, with disks that check guard tags.
//!
//! What was tried, and why things are as they are, stands beside each piece; how to use it, in
//! `cargo xtask vm --help`.

mod accel;
mod apt;
mod console;
mod cpio;
mod fixtures;
mod guest_tests;
mod initrd;
mod kernel;
mod machine;
mod mirror;
mod modules;
mod output;
mod packages;
mod place;
mod process;
mod programs;
mod qemu;
mod series;
mod vm;

pub use accel::{Accel, Engine};
pub use fixtures::{FixturesArgs, fixtures};
pub use guest_tests::{GuestSelection, guest_tests};
pub use output::Errand;
pub use series::Series;
pub use vm::{VmArgs, vm};
