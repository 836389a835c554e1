//! Every expression of every dashboard and rule, asked of a real Prometheus that scrapes a real
//! agent: where all is well, and where checks fail.

mod alerts;
mod failing;
mod questions;
mod well;

use crate::bed::Test;

pub fn tests() -> Vec<Test> {
    vec![well::test(), failing::test()]
}
