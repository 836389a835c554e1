//! The options of `stable-trace experiment`.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use stable_trace_analysis::units::{parse_duration, parse_size};

use crate::workload::{Sync, WacArgs};

/// A file system that the experiment can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fs {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// Btrfs
    Btrfs,
}

impl Fs {
    /// The type name, as for `mount -t`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `--format` of the experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    #[default]
    Text,
    /// One object a cell, each on a line
    Json,
    /// A Markdown table
    Markdown,
}

/// Options of `experiment`.
#[derive(Args, Clone, Debug)]
pub struct ExperimentArgs {
    /// What the workers do: a = write, b = mmap, c = half and half, d/e/f = c/a/b with `O_DIRECT`,
    /// all = a to f (repeatable)
    #[arg(
        long = "profile",
        value_name = "PROFILE",
        default_value = "a",
        ignore_case = true,
        value_parser = ["a", "b", "c", "d", "e", "f", "g", "all"]
    )]
    pub profiles: Vec<String>,

    /// File system to make (repeatable)
    #[arg(long = "fs", value_enum, value_name = "FS", default_value = "ext4")]
    pub file_systems: Vec<Fs>,

    /// Size of the file that all workers rewrite (repeatable)
    #[arg(
        long = "file-size",
        value_name = "SIZE",
        default_value = "64KiB",
        value_parser = parse_size
    )]
    pub file_sizes: Vec<u64>,

    /// Number of workers
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub threads: u32,

    /// Size of one write [default: the page size]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub io_size: Option<u64>,

    /// How long each run lasts; a cell takes 2 × pairs of them, and one to warm up
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = parse_duration)]
    pub duration: Duration,

    /// Pairs of runs, one with stable writes on and one with them off; two are the least that have
    /// a confidence interval
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub pairs: u32,

    /// What follows each write; mmap workers do `msync` for `sync_file_range`
    #[arg(long, value_enum, default_value_t = Sync::SyncFileRange)]
    pub sync: Sync,

    /// Seed of the random offsets; all runs have the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Size of the scratch file below a loop device of its own [default: 512MiB, or four times the
    /// largest --file-size]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "device")]
    pub scratch: Option<u64>,

    /// Directory that the scratch file goes to [default: /var/tmp, or TMPDIR]
    #[arg(long, value_name = "DIR", conflicts_with = "device")]
    pub path: Option<PathBuf>,

    /// Make the file systems on this device, by name, path or MAJOR:MINOR, whose contents are lost;
    /// needs --yes
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,

    /// Yes, overwrite the device
    #[arg(long)]
    pub yes: bool,

    /// Only put back what an experiment that was killed has left behind
    #[arg(long)]
    pub clean: bool,

    /// How probes attach; `auto` picks per probe the cheapest that works here
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    pub attach: crate::cli::options::Attach,

    /// A table, one JSON object a cell, or a Markdown table
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// Where the outcome goes [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl ExperimentArgs {
    /// The options of one run of the workload, on a file in `path`.
    pub(super) fn wac(&self, profile: &str, file_size: u64, path: PathBuf) -> WacArgs {
        WacArgs {
            profiles: vec![profile.to_owned()],
            path,
            threads: self.threads,
            file_size,
            io_size: self.io_size,
            duration: self.duration,
            sync: self.sync,
            seed: self.seed,
            device_file: None,
            yes: self.yes,
        }
    }
}
