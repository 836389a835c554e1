//! From the kernel's ring to typed events: reading, decoding, naming.

pub mod context;
pub mod decode;
pub mod identity;
pub mod paths;
pub mod ring;
pub mod stacks;
