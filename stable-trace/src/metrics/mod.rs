//! Exact numbers from the kernel's own maps.

pub mod collect;
