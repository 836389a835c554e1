//! A test with its environment and its requirements.

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

use super::host;
use super::requirement::Requirement;
use super::watchdog::run_with_watchdog;

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Environment {
    /// The machine that builds: its kernel is newer than any guest's and not emulated.
    Native,
    /// A guest of the laboratory: kprobes, fentry, disks with protection information.
    Guest,
    Any,
}

pub(crate) struct Test {
    name: String,
    environment: Environment,
    requirements: Vec<Requirement>,
    body: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Test {
    /// A test for the machine that builds.
    pub(crate) fn native(
        name: impl Into<String>,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Environment::Native, body)
    }

    /// A test for every kernel of the laboratory.
    pub(crate) fn guest(
        name: impl Into<String>,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Environment::Guest, body)
    }

    /// A test for the machine that builds and for every kernel of the laboratory.
    pub(crate) fn anywhere(
        name: impl Into<String>,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Environment::Any, body)
    }

    /// Ignores the test, with the reason, where the requirement is not met.
    #[must_use]
    pub(crate) fn requires(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    #[must_use]
    pub(crate) fn requires_all<const N: usize>(mut self, requirements: [Requirement; N]) -> Self {
        self.requirements.extend(requirements);
        self
    }

    /// Requires an agent that traces a loop device as root.
    #[must_use]
    pub(crate) fn requires_traced_loop_device(self) -> Self {
        self.requires_all([
            Requirement::Root,
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::Program("losetup"),
        ])
    }

    /// Requires an agent that traces the SCSI debug disk.
    #[must_use]
    pub(crate) fn requires_traced_pi_disk(self) -> Self {
        self.requires_all([Requirement::Agent, Requirement::Tracefs, Requirement::PiDisk])
    }

    fn new(
        name: impl Into<String>,
        environment: Environment,
        body: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), environment, requirements: Vec::new(), body: Box::new(body) }
    }

    /// The trial `MODULE::NAME`, if the test runs in this environment.
    pub(crate) fn into_trial(self, module: &str) -> Option<Trial> {
        let Self { name, environment, requirements, body } = self;
        let name = format!("{module}::{name}");
        let runs_here = match environment {
            Environment::Native => !host::is_guest(),
            Environment::Guest => host::is_guest(),
            Environment::Any => true,
        };
        runs_here.then(|| {
            Trial::ignorable_test(name.clone(), move || {
                if let Some(reason) = requirements.iter().find_map(Requirement::unmet) {
                    return Ok(Completion::ignored_with(reason));
                }
                run_with_watchdog(&name, body)
                    .map_err(|error| Failed::from(format!("{error:#}")))?;
                Ok(Completion::Completed)
            })
        })
    }
}
