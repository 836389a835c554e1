//! Compiles the eBPF programs to `$OUT_DIR/stable-trace-ebpf`, which the agent embeds.
//!
//! Cargo cannot yet depend on a binary for another target, so this script runs cargo a second time,
//! through [`aya_build`].

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

/// The remedy for each missing tool. It is checked here, because the errors of [`aya_build`] are hard
/// to read.
const REMEDY: &str = "run `cargo xtask setup` once, then build again";

fn main() {
    // `cargo::error` prints one line and fails the build; an `Err` from `main` prints a dump.
    if let Err(error) = build() {
        println!("cargo::error={error:#}");
    }
}

fn build() -> Result<()> {
    let package = PathBuf::from(
        env::var_os("CARGO_MANIFEST_DIR")
            .context("CARGO_MANIFEST_DIR is not set: run this script by cargo")?,
    );
    let workspace = package.parent().context("the package is not inside its workspace")?;
    let ebpf = workspace.join("stable-trace-ebpf");
    let common = workspace.join("stable-trace-common");

    println!("cargo::rerun-if-changed=build.rs");
    for path in [&ebpf, &common, &workspace.join("Cargo.lock")] {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rustc-env=STABLE_TRACE_REVISION={}", revision(workspace));

    set_environment(workspace)?;
    require_rust_src()?;
    require_linker()?;

    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".to_owned());
    let root_dir =
        ebpf.to_str().context("the path of the workspace is not UTF-8: move the workspace")?;
    aya_build::build_ebpf(
        [aya_build::Package { name: "stable-trace-ebpf", root_dir, ..Default::default() }],
        aya_build::Toolchain::Custom(&toolchain),
    )
    .context("cannot compile the eBPF programs (the compiler's errors are above)")
}

/// Sets what the inner cargo needs in its environment.
fn set_environment(workspace: &Path) -> Result<()> {
    // `cargo xtask setup` installs the linker here if PATH has another version.
    let tools = workspace.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path: OsString =
        env::join_paths(std::iter::once(tools).chain(env::split_paths(&path))).context("PATH")?;
    // SAFETY: this process has one thread, and none has been started yet.
    unsafe {
        env::set_var("PATH", path);
        // `core` for the BPF target is built from source, an unstable feature of cargo. This variable
        // enables it with stable Rust.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Without it, each "Compiling" line is shown as a warning of this package on every build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    Ok(())
}

/// Checks for the sources of `core`: there is no compiled `core` for the BPF target.
fn require_rust_src() -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", "sysroot"])
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        return Ok(());
    }
    Err(anyhow!("the eBPF programs need the Rust component `rust-src`: {REMEDY}"))
}

/// Checks for the linker that turns LLVM bitcode into an eBPF object.
fn require_linker() -> Result<()> {
    let works = Command::new("bpf-linker")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if works {
        return Ok(());
    }
    Err(anyhow!("the eBPF programs need `bpf-linker`: {REMEDY}"))
}

/// The commit that is built; `unknown` outside a git checkout (source archive, vendored copy).
fn revision(workspace: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(workspace).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return unknown() };

    // A commit changes the branch's file or the log of HEAD, a checkout changes HEAD.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD"].into_iter().chain(branch.as_deref()) {
        let Some(path) = git(&["rev-parse", "--git-path", name]) else { continue };
        let path = workspace.join(path);
        // A file that does not exist would make cargo run this script on every build.
        if path.is_file() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    hash
}
