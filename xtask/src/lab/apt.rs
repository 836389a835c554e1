//! apt with a private state: the host's sources, lists and caches are not changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::mirror::Mirror;
use super::process;
use super::series::Suite;

/// An apt for some suites of the host's mirror. It checks their signatures with the host's keys.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
    suites: String,
}

impl Apt {
    /// Creates the state in `folder`.
    pub(crate) fn create(folder: &Path, mirror: &Mirror, suites: &[Suite]) -> Result<Self> {
        let sources = folder.join("sources");
        for part in ["lists/partial", "cache/archives/partial", "sources"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create apt's folder {}", path.display()))?;
        }
        write(&sources.join("lab.sources"), &mirror.sources(suites))?;
        let configuration = folder.join("apt.conf");
        write(&configuration, &configuration_of(folder)?)?;
        let names: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
        Ok(Self { configuration, suites: names.join(" and ") })
    }

    pub(crate) fn update(&self) -> Result<()> {
        let done = process::finish(self.command("apt-get").args(["-q", "update"]))?;
        if done.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&done.stderr);
        if text.contains("NO_PUBKEY") || text.contains("not signed") {
            bail!(
                "apt lacks the key that signs {}: install a newer debian-archive-keyring",
                self.suites
            );
        }
        bail!(
            "cannot fetch the package lists of {} from the host's Debian mirror: {}; make `apt-get update` work, then try again",
            self.suites,
            process::error_line(&done)
        );
    }

    /// The names of packages that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The packages that `name` depends on, alternatives included.
    pub(crate) fn dependencies(&self, name: &str) -> Result<Vec<String>> {
        let text =
            process::output(self.command("apt-cache").args(["depends", "--important", name]))?;
        let names = text.lines().filter_map(|line| line.split_once("Depends: "));
        Ok(names.map(|(_, name)| name.trim().to_owned()).collect())
    }

    /// Downloads packages to a folder and verifies them.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["-q", "download"]).args(packages).current_dir(into);
        let done = process::finish(&mut command)?;
        if !done.status.success() {
            bail!(
                "cannot fetch {} from the host's Debian mirror: {}",
                packages.join(" "),
                process::error_line(&done)
            );
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Some messages are matched, so they must not be translated.
        command.arg("-c").arg(&self.configuration).env("LC_ALL", "C.UTF-8");
        command
    }
}

/// apt reads this after the host's configuration, so that settings such as proxies stay in effect.
fn configuration_of(folder: &Path) -> Result<String> {
    let Some(folder) = folder.to_str().filter(|path| !path.contains(['"', '\\', '\n'])) else {
        bail!(
            "apt cannot use the folder {}: its path contains a quote, a backslash or a line break",
            folder.display()
        );
    };
    Ok(format!(
        r#"Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
// The host's hooks clean the host's caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
// apt's own user may have no access to the folder.
APT::Sandbox::User "root";
// By default a suite that cannot be fetched is only a warning.
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Catalogues for software centres are as large as the package lists.
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"#
    ))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
