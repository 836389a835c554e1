//! `cargo xtask vm`: runs a command or a shell in a guest.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::accel::Accel;
use super::cache_dir::CacheDir;
use super::initrd::Task;
use super::machine::{Machine, Outcome, Stream, status_of};
use super::packages;
use super::series::Series;

/// Boot a Debian kernel in QEMU, and run a command or a shell as root.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = GUEST)]
pub(crate) struct VmArgs {
    /// Kernel of the guest; it is downloaded on first use.
    #[arg(long, value_enum, value_name = "SERIES")]
    kernel: Series,
    /// Accelerator of the guest.
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    /// Stop the guest after this time, such as 90s or 5m [default: 10m; none for a shell].
    #[arg(long, value_name = "DUR", value_parser = duration)]
    timeout: Option<Duration>,
    /// Print the boot time on stderr.
    #[arg(long, short)]
    verbose: bool,
    /// Command with its arguments; its exit status is returned [default: an interactive shell].
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

const GUEST: &str = "\
The guest has the host's root file system and starts in the current folder; its writes are discarded \
when it ends. Its environment and /run/lab.env contain:
  LAB_PI_DISK      SCSI debug disk with protection information (type 1, CRC, DIX), 320 MiB
  LAB_PLAIN_DISK   RAM disk without protection information (null_blk), 1 GiB
  LAB_NVME_PI      emulated NVMe disk with protection information, 390 MiB
  LAB_NVME_IMAGE   image file of that disk: changing a byte at N * 4096 makes the guard tag of block N wrong
  LAB_NVME_PATHS_IMAGE  the same of a disk of 16 MiB with two paths, whose controllers (PCI 00:1c.0 and 00:1d.0) have
                   no driver: write `nvme` to driver_override and the address to drivers_probe
  LAB_KERNEL       kernel series, such as 6.1
  STABLE_TRACE     the agent, also in PATH, if `cargo xtask dist` has built it
tracefs, debugfs, bpffs and cgroup2 are mounted. The command's stdin is empty.";

/// Default time limit of a command, boot included.
const LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn vm(args: &VmArgs) -> Result<ExitCode> {
    packages::ensure()?;
    let cache = CacheDir::open()?;
    let engine = args.accel.engine()?;
    let interactive = args.command.is_empty();
    let saved = if interactive { Some(terminal()?) } else { None };
    let task = if interactive { shell()? } else { Task::Command(args.command.clone()) };
    let limit = args.timeout.or(if interactive { None } else { Some(LIMIT) });
    let machine = Machine { cache: &cache, series: args.kernel, engine, task, agent: None, limit };

    let ended = machine.run(&mut |stream, bytes| forward(stream, bytes));
    if let Some(termios) = saved {
        // QEMU restores the terminal itself unless it was killed.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &termios);
    }
    let ended = ended?;
    if args.verbose {
        let boot = ended.boot.map_or_else(
            || "did not start its command".to_owned(),
            |boot| format!("started its command after {:.1} s", boot.as_secs_f64()),
        );
        let total = ended.total.as_secs_f64();
        eprintln!("kernel {} {boot}, {total:.1} s in total", ended.release);
    }
    if !matches!(ended.outcome, Outcome::Exit(_)) {
        eprintln!("--- the end of the guest's console ---\n{}\n---", ended.console.tail());
    }
    status_of(&ended, args.kernel).map(ExitCode::from)
}

/// A closed stdout is an error, as for any filter.
fn forward(stream: Stream, bytes: &[u8]) -> Result<()> {
    let written = match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Err => std::io::stderr().lock().write_all(bytes),
    };
    written.context("cannot forward the guest's output")
}

fn terminal() -> Result<Termios> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("a shell needs a terminal on stdin and stdout: pass a command after `--`");
    }
    tcgetattr(std::io::stdin()).context("cannot read the terminal's settings")
}

fn shell() -> Result<Task> {
    let size = tcgetwinsize(std::io::stdout()).context("cannot read the terminal's size")?;
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    Ok(Task::Shell { rows: size.ws_row, columns: size.ws_col, terminal })
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a number and a unit, such as 90s, 5m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        for bad in ["", "90", "0s", "-1s", "fast", "s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
