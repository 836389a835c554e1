//! stable-trace's own commands.
fn main() {}
