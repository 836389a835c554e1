//! QEMU's accelerators: KVM and TCG.

use std::fs::{self, OpenOptions};

use anyhow::{Result, bail};
use clap::ValueEnum;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    /// KVM if it works, else TCG.
    #[default]
    Auto,
    /// Hardware virtualisation.
    Kvm,
    /// Emulation: about ten times slower, works everywhere.
    Tcg,
}

/// The accelerator that QEMU uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Kvm,
    Tcg,
    /// TCG with `-icount`: every instruction takes one nanosecond of guest time, whatever the load of
    /// the host.
    Counting,
}

impl Accel {
    pub(crate) fn engine(self) -> Result<Engine> {
        match (self, kvm_obstacle()) {
            (Self::Tcg, _) | (Self::Auto, Some(_)) => Ok(Engine::Tcg),
            (Self::Auto | Self::Kvm, None) => Ok(Engine::Kvm),
            (Self::Kvm, Some(obstacle)) => {
                bail!("KVM does not work here: {obstacle}; use --accel tcg, which is slower")
            }
        }
    }
}

impl Engine {
    /// For benchmarks: an emulated guest measures time as the number of its instructions.
    pub(crate) const fn counting(self) -> Self {
        match self {
            Self::Kvm => Self::Kvm,
            Self::Tcg | Self::Counting => Self::Counting,
        }
    }

    /// QEMU's arguments.
    ///
    /// TCG runs all virtual CPUs in one thread. With one thread per CPU, patching kernel text under load
    /// (attaching a probe, enabling a tracepoint) made 6.12 and 7.3 oops on `int3` within 30 s in every
    /// run (QEMU 7.2). With one thread, 150 switches per run caused no oops on four kernels.
    ///
    /// TCG copies byte by byte where a CPU copies strings fast (`erms`, `fsrm`), and walks five levels of page tables
    /// where it could be four: without these features an agent starts in 3.9 s instead of 4.3 (6.12).
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm,-la57"],
            Self::Counting => &["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0"],
        }
    }
}

/// Why KVM cannot work here. `/dev/kvm` alone is no proof: some clouds have it on CPUs without
/// virtualisation, where guests hang.
fn kvm_obstacle() -> Option<String> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualisation(&flags) {
        return Some("/proc/cpuinfo has neither vmx nor svm".to_owned());
    }
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    kvm.err().map(|error| format!("cannot open /dev/kvm: {error}"))
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
    fn only_the_exact_cpu_flag_counts() {
        assert!(has_virtualisation("flags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags\t\t: fpu svm\n"));
        assert!(!has_virtualisation("flags\t\t: fpu svm_lock vmxnet\nmodel name: svm\n"));
    }
}
