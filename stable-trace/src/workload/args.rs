//! The workload options of `stable-trace wac`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use stable_trace_analysis::units::{parse_duration, parse_size};

use super::sync::SyncMethod;

/// Options of the workload.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct WacArgs {
    /// Choose what the workers do (repeatable)
    ///
    /// a: write; b: mmap; c: half write, half mmap; d, e, f: c, a, b with `O_DIRECT`; g: `O_DIRECT`
    /// from one buffer that is rewritten in flight; all: a to f.
    #[arg(
        long = "profile",
        value_name = "PROFILE",
        default_value = "a",
        ignore_case = true,
        value_parser = ["a", "b", "c", "d", "e", "f", "g", "all"]
    )]
    pub profiles: Vec<String>,

    /// Create the scratch file in this directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub path: PathBuf,

    /// Set the number of workers
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub threads: u32,

    /// Set the size of the rewritten file
    ///
    /// All workers rewrite the same file.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_size)]
    pub file_size: u64,

    /// Set the size of one write [default: page size]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub io_size: Option<u64>,

    /// Set the duration of each profile
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,

    /// Choose the sync after each write
    ///
    /// For `sync_file_range`, mmap workers call `msync`.
    #[arg(long, value_enum, default_value_t = SyncMethod::SyncFileRange)]
    pub sync: SyncMethod,

    /// Seed the random offsets
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Overwrite this block device; needs --yes
    ///
    /// The workers write to the device instead of a scratch file.
    #[arg(long, value_name = "DEV", conflicts_with = "path")]
    pub device_file: Option<PathBuf>,

    /// Confirm --device-file, or profile g
    ///
    /// Profile g needs confirmation on any disk that is not known to be a test disk, because it
    /// causes integrity errors.
    #[arg(long)]
    pub yes: bool,
}

impl WacArgs {
    /// Formats the options as command-line arguments, for the child process.
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| {
            // `--name=value` in one argument: a value such as `-dir` is not parsed as an option.
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            arguments.push(argument);
        };
        for profile in &self.profiles {
            option("profile", profile.into());
        }
        match &self.device_file {
            Some(device) => option("device-file", device.into()),
            None => option("path", (&self.path).into()),
        }
        option("threads", self.threads.to_string().into());
        option("file-size", self.file_size.to_string().into());
        if let Some(io_size) = self.io_size {
            option("io-size", io_size.to_string().into());
        }
        option("duration", humantime::format_duration(self.duration).to_string().into());
        if let Some(sync) = self.sync.to_possible_value() {
            option("sync", sync.get_name().into());
        }
        option("seed", self.seed.to_string().into());
        if self.yes {
            arguments.push("--yes".into());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        wac: WacArgs,
    }

    fn parse(arguments: &[&str]) -> WacArgs {
        Cli::try_parse_from(["wac"].iter().chain(arguments)).unwrap().wac
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = parse(&[]);
        assert_eq!(args.profiles, ["a"]);
        assert_eq!((args.threads, args.file_size), (64, 65_536));
        assert_eq!(args.duration, Duration::from_secs(30));
        assert_eq!(args.sync, SyncMethod::SyncFileRange);
        assert_eq!(args.io_size, None);
    }

    #[test]
    fn formatted_options_parse_to_the_same_options() {
        for arguments in [
            vec![],
            vec!["--profile", "c", "--profile", "D", "--sync", "fsync", "--io-size", "8k"],
            vec!["--path=-odd dir", "--threads", "3", "--duration", "1500us", "--seed", "9"],
            vec!["--device-file", "/dev/null", "--yes", "--sync", "none", "--duration", "1m 2s"],
        ] {
            let args = parse(&arguments);
            let formatted = args.to_arguments();
            let formatted: Vec<&str> =
                formatted.iter().map(|argument| argument.to_str().unwrap()).collect();
            assert_eq!(parse(&formatted), args, "{arguments:?}");
        }
    }

    #[test]
    fn invalid_options_are_rejected() {
        for arguments in [
            vec!["--profile", "h"],
            vec!["--sync", "often"],
            vec!["--duration", "10"],
            vec!["--file-size", "big"],
            vec!["--threads", "-1"],
            vec!["--path", ".", "--device-file", "/dev/null"],
        ] {
            assert!(
                Cli::try_parse_from(["wac"].iter().chain(&arguments)).is_err(),
                "{arguments:?}"
            );
        }
    }
}
