//! Evaluates every expression of every dashboard and rule on a Prometheus server that scrapes an
//! agent: on a healthy system and on one where integrity checks fail.

mod alerts;
mod failing;
mod healthy;
mod queries;

use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![healthy::test(), failing::test()]
}
