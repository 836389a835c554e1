//! What a test says about itself.

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

use super::host;
use super::need::Need;
use super::watchdog::watched;

/// Where a test belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the machine that builds: its kernel is newer than any guest's and is not emulated.
    Native,
    /// In a guest of the laboratory: kprobes, fentry, disks with protection information.
    Guest,
    /// Wherever its needs are met.
    Both,
}

/// One test: a name, where it belongs, what it needs, and its story.
pub struct Test {
    name: String,
    place: Place,
    needs: Vec<Need>,
    story: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Test {
    /// A test for the machine that builds.
    pub fn native(
        name: impl Into<String>,
        story: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Place::Native, story)
    }

    /// A test for every kernel of the laboratory.
    pub fn guest(
        name: impl Into<String>,
        story: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Place::Guest, story)
    }

    /// A test for everywhere.
    pub fn both(
        name: impl Into<String>,
        story: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self::new(name, Place::Both, story)
    }

    /// Ignored, with the reason, where this is missing.
    #[must_use]
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    fn new(
        name: impl Into<String>,
        place: Place,
        story: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), place, needs: Vec::new(), story: Box::new(story) }
    }

    /// The trial, if the test belongs here.
    pub fn into_trial(self) -> Option<Trial> {
        let Self { name, place, needs, story } = self;
        let belongs = match place {
            Place::Native => !host::is_guest(),
            Place::Guest => host::is_guest(),
            Place::Both => true,
        };
        belongs.then(|| {
            Trial::ignorable_test(name.clone(), move || {
                if let Some(gap) = needs.iter().find_map(Need::gap) {
                    return Ok(Completion::ignored_with(gap));
                }
                watched(&name, story).map_err(|error| Failed::from(format!("{error:#}")))?;
                Ok(Completion::Completed)
            })
        })
    }
}
