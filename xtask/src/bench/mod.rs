//! `cargo xtask bench`: measures the cost of tracing and prints tables. It asserts nothing, since the
//! results depend on the load of the machine.

mod agent;
mod c_baseline;
mod calls;
mod failures;
mod faults;
mod guest_rows;
mod numbers;
mod overhead;
mod proofs;
mod reader;
mod report;
mod scrape;
mod stable_pages_patchset;
mod stall;
mod start;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::compile::{self, Options};
use crate::{lab, setup, shell};

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure [default: all]
    #[arg(value_enum, value_name = "NAME")]
    names: Vec<Name>,
    /// Number of rounds; each round measures every variant once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Kernel of the guests of `calls`, `failures`, `faults`, `proofs` and `stable-pages-patchset` (repeatable)
    #[arg(long = "kernel", value_enum, value_name = "SERIES", default_value = "6.12")]
    kernels: Vec<lab::Series>,
    /// Accelerator of the guests
    #[arg(long, value_enum, default_value_t)]
    accel: lab::Accel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Time from exec to all probes attached, and peak resident memory
    Start,
    /// CPU time of the agent from a record of the ring to a JSON line
    Reader,
    /// Throughput of wac with and without tracing
    Overhead,
    /// Run time of the programs for each wait and each switch of tasks, beside bpftrace
    Stall,
    /// Duration of a scrape with about 2,000 series, and memory after 10,000 scrapes
    Scrape,
    /// Cost of a wait without writeback for each attach method, in a guest
    Calls,
    /// Cost of an integrity failure in the programs, in a guest
    Failures,
    /// Counts while something of the machine fails, in guests
    Faults,
    /// Speed and peak resident memory of a report on a million events
    Report,
    /// Proofs and causes of integrity errors that were made in a known way, in guests
    Proofs,
    /// Throughput of wac compared with a C program that makes the same system calls
    Wac,
    /// Integrity errors of the 2011 stable-pages patch set's workloads, in guests
    #[value(alias = "seed")]
    StablePagesPatchset,
}

pub(crate) fn bench(args: &BenchArgs) -> Result<()> {
    let names = if args.names.is_empty() { Name::value_variants() } else { &args.names };
    if names.iter().any(|name| {
        !matches!(
            name,
            Name::Calls | Name::Failures | Name::Faults | Name::Proofs | Name::StablePagesPatchset
        )
    }) && !shell::is_root()
    {
        bail!(
            "`start`, `reader`, `overhead`, `stall`, `scrape`, `report` and `wac` need root for loop devices, for eBPF and for the agent's /proc: run this as root"
        );
    }
    let agent = build_agent()?;
    for name in names {
        match name {
            Name::Start => start::bench(&agent, args.rounds)?,
            Name::Reader => reader::bench(args.rounds)?,
            Name::Report => report::bench(&agent, args.rounds)?,
            Name::Overhead => overhead::bench(&agent, args.rounds)?,
            Name::Stall => stall::bench(&agent, args.rounds)?,
            Name::Scrape => scrape::bench(&agent)?,
            Name::Failures => {
                for series in &args.kernels {
                    failures::bench(&agent, *series, args.accel)?;
                }
            }
            Name::Faults => faults::bench(&args.kernels, args.accel, args.rounds)?,
            Name::Proofs => proofs::bench(&args.kernels, args.accel)?,
            Name::Wac => c_baseline::bench(&agent, args.rounds)?,
            Name::StablePagesPatchset => stable_pages_patchset::bench(&args.kernels, args.accel)?,
            Name::Calls => {
                for series in &args.kernels {
                    calls::bench(&agent, *series, args.accel, args.rounds)?;
                }
            }
        }
    }
    Ok(())
}

/// Builds the agent for release, and static so that guests can run it.
fn build_agent() -> Result<PathBuf> {
    let target = setup::rust::ensure_musl()?;
    compile::agent(Options { release: true, target: Some(&target), stripped: false })
}
