//! The options of `stable-trace experiment`.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use stable_trace_analysis::units::{parse_duration, parse_size};

use crate::{
    trace::AttachMode,
    workload::{SyncMethod, WacArgs},
};

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
    /// A table
    #[default]
    Text,
    /// JSON lines, one object a cell
    Json,
    /// A Markdown table
    Markdown,
}

/// Options of `experiment`.
#[derive(Args, Clone, Debug)]
pub struct ExperimentArgs {
    /// Choose what the workers do (repeatable)
    ///
    /// a: write; b: mmap; c: half write, half mmap; d, e, f: c, a, b with `O_DIRECT`; all: a to f.
    #[arg(
        long = "profile",
        value_name = "PROFILE",
        default_value = "a",
        ignore_case = true,
        value_parser = ["a", "b", "c", "d", "e", "f", "g", "all"]
    )]
    pub profiles: Vec<String>,

    /// Create this file system (repeatable)
    #[arg(long = "fs", value_enum, value_name = "FS", default_value = "ext4")]
    pub file_systems: Vec<Fs>,

    /// Set the size of the rewritten file (repeatable)
    #[arg(
        long = "file-size",
        value_name = "SIZE",
        default_value = "64KiB",
        value_parser = parse_size
    )]
    pub file_sizes: Vec<u64>,

    /// Set the number of workers
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub threads: u32,

    /// Set the size of one write [default: page size]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub io_size: Option<u64>,

    /// Set the duration of each run
    ///
    /// A cell takes two runs a pair, and one to warm up.
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = parse_duration)]
    pub duration: Duration,

    /// Set the number of pairs of runs
    ///
    /// A pair is one run with stable writes on and one with them off. A confidence interval needs at
    /// least two pairs.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub pairs: u32,

    /// Choose the sync after each write
    ///
    /// For `sync_file_range`, mmap workers call `msync`.
    #[arg(long, value_enum, default_value_t = SyncMethod::SyncFileRange)]
    pub sync: SyncMethod,

    /// Seed the random offsets
    ///
    /// All runs use the same offsets.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Use a loop device on a scratch file of this size [default: 512MiB]
    ///
    /// The default is four times the largest --file-size if that is more.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "device")]
    pub scratch: Option<u64>,

    /// Create the scratch file in this directory [default: TMPDIR, or /var/tmp]
    #[arg(long, value_name = "DIR", conflicts_with = "device")]
    pub path: Option<PathBuf>,

    /// Overwrite this device with the file systems; needs --yes
    ///
    /// A kernel name, a path, or MAJOR:MINOR.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,

    /// Confirm that the device is overwritten
    #[arg(long)]
    pub yes: bool,

    /// Only undo the changes that a killed experiment left behind
    #[arg(long)]
    pub clean: bool,

    /// Choose how probes attach
    ///
    /// `auto` uses the cheapest method that works here, for each probe.
    #[arg(long, value_enum, value_name = "METHOD", default_value_t)]
    pub(crate) attach: AttachMode,

    /// Choose the output format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,

    /// Write the results to this file [default: stdout]
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
