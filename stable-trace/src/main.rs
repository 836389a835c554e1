//! `stable-trace`: see `stable_trace`.
fn main() {}
