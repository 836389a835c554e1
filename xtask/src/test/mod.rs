//! Every test there is, whatever runs it, and one closing line for all.

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

/// What the tests use beside Rust: mkfs of each file system, a C compiler, a browser with letters to
/// look at pages with, what compressed recordings are unpacked with, and those who read metrics.
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

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct TestArgs {
    /// Only tests and lints whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// No formatting check and no clippy.
    #[arg(long)]
    skip_lint: bool,
    /// Only the tests in a guest of this kernel, nothing on this machine's own (repeatable).
    #[arg(long = "kernel", value_name = "SERIES", conflicts_with = "skip_guests")]
    kernels: Vec<lab::Series>,
    /// No tests in guests.
    #[arg(long)]
    skip_guests: bool,
}

/// `cargo xtask test`.
///
/// # Errors
/// If set-up fails, or nothing is called as `--only` says.
pub fn test(args: &TestArgs) -> Result<ExitCode> {
    setup::for_builds()?;
    debian::ensure(&PACKAGES)?;
    setup::prometheus::ensure()?;
    let only = args.only.as_deref();

    let mut tally = Tally::default();
    // Whoever names a kernel wants its guest, and nothing else.
    if args.kernels.is_empty() {
        if !args.skip_lint {
            tally.add(lint::lint(only)?);
        }
        tally.add(native::test(only)?);
    }
    if args.skip_guests {
        tally.skip("the tests in guests".to_owned(), "--skip-guests".to_owned());
    } else {
        tally.add(guests::test(&args.kernels, only)?);
    }

    if let Some(only) = only
        && tally.is_empty()
    {
        bail!(
            "no test is called like `{only}`: give a part of a name, such as one printed above a result"
        );
    }
    println!("\n{tally}");
    Ok(tally.exit_code())
}
