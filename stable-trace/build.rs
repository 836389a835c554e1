//! Builds the eBPF programs and puts them where the agent embeds them from: `$OUT_DIR/stable-trace-ebpf`.
//!
//! Cargo cannot yet depend on another target's binary, so this script runs cargo a second time,
//! through [`aya_build`].

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

/// What [`aya_build`] must find before it starts; without it its own words are long and hard to read.
const REMEDY: &str = "run `cargo xtask setup` once, then build again";

fn main() {
    // `cargo::error` prints one line and fails the build; an `Err` from `main` prints a dump.
    if let Err(error) = build() {
        println!("cargo::error={error:#}");
    }
}

fn build() -> Result<()> {
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets no directory")?);
    let workspace = package.parent().context("the package stands outside its workspace")?;
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
    let root_dir = ebpf.to_str().context("the workspace's path is not UTF-8: move it")?;
    aya_build::build_ebpf(
        [aya_build::Package { name: "stable-trace-ebpf", root_dir, ..Default::default() }],
        aya_build::Toolchain::Custom(&toolchain),
    )
    .context("the eBPF programs do not build (their errors stand above)")
}

/// What the inner cargo has to find in its environment, and nothing but it.
fn set_environment(workspace: &Path) -> Result<()> {
    // Where `cargo xtask setup` puts the linker if PATH has another version of it.
    let tools = workspace.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path: OsString =
        env::join_paths(std::iter::once(tools).chain(env::split_paths(&path))).context("PATH")?;
    // SAFETY: this process has one thread, and none has been started yet.
    unsafe {
        env::set_var("PATH", path);
        // `core` for the BPF target must be built from source: unstable, but stable Rust can do it.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Else every "Compiling" line comes out as a warning of this package, on every build.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    Ok(())
}

/// The sources of `core`, which the BPF target has no compiled copy of.
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
    Err(anyhow!("the eBPF programs need Rust's component `rust-src`: {REMEDY}"))
}

/// The linker that turns LLVM bitcode into an eBPF object.
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

/// The commit that is built, or `unknown` outside a checkout (a source archive, a vendored copy).
fn revision(workspace: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(workspace).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else { return unknown() };

    // A commit moves the branch's file or the log of HEAD; a checkout moves HEAD.
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
