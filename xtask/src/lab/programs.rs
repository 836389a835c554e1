//! The programs that guests run: static, so that they run on every kernel as they are.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{compile, progress, setup, workspace};

/// The test program and the agent that it tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `stable-trace/tests/kernel`.
    pub tests: PathBuf,
    /// `stable-trace`, optimised, as it is shipped.
    pub agent: PathBuf,
}

impl Programs {
    /// Builds both.
    ///
    /// # Errors
    /// If cargo fails.
    pub fn build() -> Result<Self> {
        setup::for_builds()?;
        let target = setup::rust::ensure_musl()?;
        progress::step("building the agent and the tests for guests");
        let output = workspace::cargo()?
            .args(["test", "--no-run", "--release", "--target", &target])
            .args(["--package", "stable-trace", "--test", "kernel"])
            .arg("--message-format=json-render-diagnostics")
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo could not build the guests' programs ({})", output.status);
        }
        Self::among(&String::from_utf8_lossy(&output.stdout))
            .context("cargo built the guests' programs but did not say where")
    }

    fn among(messages: &str) -> Option<Self> {
        let find = |name, kind| compile::executable(messages, name, Some(kind));
        Some(Self { tests: find("kernel", "test")?, agent: find("stable-trace", "bin")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_found_among_cargo_s_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"stable-trace","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"stable-trace","kind":["bin"]},"executable":"/t/stable-trace"}
{"reason":"compiler-artifact","target":{"name":"kernel","kind":["test"]},"executable":"/t/deps/kernel-1"}
{"reason":"build-finished","success":true}"#;
        let programs = Programs::among(messages).unwrap();
        assert_eq!(programs.tests, PathBuf::from("/t/deps/kernel-1"));
        assert_eq!(programs.agent, PathBuf::from("/t/stable-trace"));
        assert_eq!(Programs::among("no JSON"), None);
    }
}
