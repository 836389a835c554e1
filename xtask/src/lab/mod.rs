//! The kernel laboratory: real Debian kernels in QEMU, with disks that check guard tags.
//!
//! What was tried, and why things are as they are, stands beside each piece; how to use it, in
//! `cargo xtask vm --help`.

mod accel;
mod apt;
mod console;
mod cpio;
mod initrd;
mod kernel;
mod machine;
mod mirror;
mod modules;
mod place;
mod process;
mod qemu;
mod series;
mod vm;

pub use series::Series;
pub use vm::{VmArgs, vm};
