//! `cargo xtask test`: runs all lints and tests, and prints one closing line for all.

mod architecture;
mod guests;
mod lint;
mod native;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::lab;
use crate::report::Tally;
use crate::setup::{self, debian};

/// Packages that the tests use: mkfs of each file system, a C compiler, a browser with fonts for HTML
/// reports, zstd for compressed recordings, curl for metrics.
const PACKAGES: [(&str, &str); 8] = [
    ("btrfs-progs", "mkfs.btrfs"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("e2fsprogs", "mkfs.ext4"),
    ("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    ("gcc", "gcc"),
    ("xfsprogs", "mkfs.xfs"),
    ("zstd", "zstd"),
];

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Run only tests and lints whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// Skip the lints.
    #[arg(long)]
    skip_lint: bool,
    /// Run only the guest tests on this kernel (repeatable).
    #[arg(long = "kernel", value_name = "SERIES", conflicts_with = "skip_guests")]
    kernels: Vec<lab::Series>,
    /// Skip the guest tests.
    #[arg(long)]
    skip_guests: bool,
}

pub(crate) fn test(args: &TestArgs) -> Result<ExitCode> {
    let only = args.only.as_deref();
    let only_lints = only.is_some_and(|only| only.starts_with(lint::PREFIX));
    setup::for_builds()?;
    if !only_lints {
        debian::ensure(&PACKAGES)?;
        setup::prometheus::ensure()?;
    }

    let mut tally = Tally::default();
    if args.kernels.is_empty() {
        if !args.skip_lint {
            tally.add(lint::lint(only)?);
        }
        if !only_lints {
            tally.add(native::test(only)?);
        }
    }
    if args.skip_guests {
        tally.skip("guest tests", "--skip-guests");
    } else if !only_lints {
        tally.add(guests::test(&args.kernels, only)?);
    }

    if let Some(only) = only
        && tally.is_empty()
    {
        bail!("no test or lint has `{only}` in its name: use a part of a name that a run prints");
    }
    println!("\n{tally}");
    Ok(tally.exit_code())
}
