//! `cargo xtask bench`: what tracing costs. It prints what it measures and asserts nothing: numbers
//! of a busy machine are for people to judge.

mod agent;
mod calls;
mod numbers;
mod overhead;
mod report;
mod scrape;
mod seed;
mod start;
mod table;
mod yardstick;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::compile::{self, Options};
use crate::{lab, setup, shell};

/// Options of `cargo xtask bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(value_enum, value_name = "NAME")]
    names: Vec<Name>,
    /// How often each thing is measured, in turn with the others
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The kernel of the guest that `calls` and `seed` boot (repeatable)
    #[arg(long = "kernel", value_enum, value_name = "SERIES", default_value = "6.12")]
    kernels: Vec<lab::Series>,
    /// How to run the guest's instructions
    #[arg(long, value_enum, default_value_t)]
    accel: lab::Accel,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// From exec to all probes attached, and the agent's peak resident memory
    Start,
    /// What tracing takes from the throughput of wac
    Overhead,
    /// What a scrape costs with some 2,000 series, and whether ten thousand of them cost memory
    Scrape,
    /// What a wait that finds no writeback costs under each method, in a guest
    Calls,
    /// How fast a report reads a recording of a million events, and its peak resident memory
    Report,
    /// The workload's rate beside that of a C program with the same system calls
    Wac,
    /// Integrity errors of the seed's profiles, with stable pages and without, in guests
    Seed,
}

/// Measures and prints.
///
/// # Errors
/// If something that is to be measured does not run.
pub fn bench(args: &BenchArgs) -> Result<()> {
    let names = if args.names.is_empty() { Name::value_variants() } else { &args.names };
    if names.iter().any(|name| !matches!(name, Name::Calls | Name::Seed)) && !shell::is_root() {
        bail!(
            "`start`, `overhead` and `wac` want loop devices, and to look into the agent: run this as root"
        );
    }
    let agent = built()?;
    for name in names {
        match name {
            Name::Start => start::bench(&agent, args.rounds)?,
            Name::Report => report::bench(&agent, args.rounds)?,
            Name::Overhead => overhead::bench(&agent, args.rounds)?,
            Name::Scrape => scrape::bench(&agent)?,
            Name::Wac => yardstick::bench(&agent, args.rounds)?,
            Name::Seed => seed::bench(&args.kernels, args.accel)?,
            Name::Calls => {
                for series in &args.kernels {
                    calls::bench(&agent, *series, args.accel, args.rounds)?;
                }
            }
        }
    }
    Ok(())
}

/// The agent as it is shipped: optimised and static, so that the guest can run it too.
fn built() -> Result<PathBuf> {
    let target = setup::rust::ensure_musl()?;
    compile::agent(Options { release: true, target: Some(&target), stripped: false })
}
