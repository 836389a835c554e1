//! How the guest's instructions are run.

use std::fs::{self, OpenOptions};

use anyhow::{Result, bail};
use clap::ValueEnum;

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// The CPU's own virtualisation.
    Kvm,
    /// Emulation: some ten times slower, works everywhere.
    Tcg,
}

/// What QEMU gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `-accel kvm`.
    Kvm,
    /// `-accel tcg`.
    Tcg,
    /// The same with `-icount`: every instruction takes one nanosecond of the guest's time, whatever
    /// else this machine does meanwhile.
    Counting,
}

impl Accel {
    /// Decides for this machine.
    ///
    /// # Errors
    /// If KVM is asked for and cannot work.
    pub fn engine(self) -> Result<Engine> {
        match (self, kvm_gap()) {
            (Self::Tcg, _) | (Self::Auto, Some(_)) => Ok(Engine::Tcg),
            (Self::Auto | Self::Kvm, None) => Ok(Engine::Kvm),
            (Self::Kvm, Some(gap)) => {
                bail!("KVM does not work here: {gap}; use --accel tcg, which is slower")
            }
        }
    }
}

impl Engine {
    /// For measuring: where instructions are emulated, time is the number of them.
    #[must_use]
    pub const fn counting(self) -> Self {
        match self {
            Self::Kvm => Self::Kvm,
            Self::Tcg | Self::Counting => Self::Counting,
        }
    }

    /// QEMU's arguments.
    ///
    /// TCG runs all virtual CPUs in one thread: with one thread for each, patching kernel text
    /// under load (a probe attached, a tracepoint switched) made 6.12 and 7.3 oops on `int3`
    /// within 30 s in every run (QEMU 7.2); so, 150 switches a run were clean on four kernels.
    #[must_use]
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=single", "-cpu", "max"],
            Self::Counting => &["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0"],
        }
    }
}

/// Why KVM cannot work here. `/dev/kvm` alone says nothing: some clouds show one on CPUs that do
/// not pass virtualisation on, and guests hang there.
fn kvm_gap() -> Option<String> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualisation(&flags) {
        return Some("/proc/cpuinfo shows neither vmx nor svm".to_owned());
    }
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    kvm.err().map(|error| format!("/dev/kvm cannot be opened: {error}"))
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| matches!(flag, "vmx" | "svm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cpu_flag_itself_counts() {
        assert!(has_virtualisation("flags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags\t\t: fpu svm\n"));
        assert!(!has_virtualisation("flags\t\t: fpu svm_lock vmxnet\nmodel name: svm\n"));
    }
}
