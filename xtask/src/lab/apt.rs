//! apt with a state of its own: the machine's sources, lists and caches are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::mirror::Mirror;
use super::process;
use super::series::Suite;

/// A private apt that knows some suites of the machine's mirror, and checks their signatures with
/// the machine's keys.
#[derive(Debug)]
pub struct Apt {
    configuration: PathBuf,
    suites: String,
}

impl Apt {
    /// Lays out the state in `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn lay_out(folder: &Path, mirror: &Mirror, suites: &[Suite]) -> Result<Self> {
        let sources = folder.join("sources");
        for part in ["lists/partial", "cache/archives/partial", "sources"] {
            let path = folder.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot make apt's folder {}", path.display()))?;
        }
        write(&sources.join("lab.sources"), &mirror.sources(suites))?;
        let configuration = folder.join("apt.conf");
        write(&configuration, &configuration_of(folder)?)?;
        let names: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
        Ok(Self { configuration, suites: names.join(" and ") })
    }

    /// Fetches the suites' package lists.
    ///
    /// # Errors
    /// If the mirror does not answer, lacks a suite, or signs it with a key that is not known here.
    pub fn update(&self) -> Result<()> {
        let done = process::finish(self.command("apt-get").args(["-q", "update"]))?;
        if done.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&done.stderr);
        if text.contains("NO_PUBKEY") || text.contains("not signed") {
            bail!(
                "apt does not know the key that signs {}: install a newer debian-archive-keyring",
                self.suites
            );
        }
        bail!(
            "the Debian mirror of this machine did not give the package lists of {}: {}; see that `apt-get update` works, then try again",
            self.suites,
            process::complaint(&done)
        );
    }

    /// All package names that start so.
    ///
    /// # Errors
    /// If apt fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let text = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The packages that `name` depends on, alternatives included.
    ///
    /// # Errors
    /// If apt fails.
    pub fn dependencies(&self, name: &str) -> Result<Vec<String>> {
        let text =
            process::output(self.command("apt-cache").args(["depends", "--important", name]))?;
        let names = text.lines().filter_map(|line| line.split_once("Depends: "));
        Ok(names.map(|(_, name)| name.trim().to_owned()).collect())
    }

    /// Downloads packages into a folder and checks them.
    ///
    /// # Errors
    /// If the mirror does not give one, or there is no room for it.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["-q", "download"]).args(packages).current_dir(into);
        let done = process::finish(&mut command)?;
        if !done.status.success() {
            bail!(
                "the Debian mirror of this machine did not give {}: {}",
                packages.join(" "),
                process::complaint(&done)
            );
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Messages that are looked for must not come translated.
        command.arg("-c").arg(&self.configuration).env("LC_ALL", "C.UTF-8");
        command
    }
}

/// apt reads this after the machine's own configuration, so that proxies and the like still count.
fn configuration_of(folder: &Path) -> Result<String> {
    let Some(folder) = folder.to_str().filter(|path| !path.contains(['"', '\\', '\n'])) else {
        bail!("apt cannot use the folder {}: its name has a quote in it", folder.display());
    };
    Ok(format!(
        r#"Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
// The system's own hooks clean the system's own caches: none of our business.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
// The folder may be one that apt's own user cannot enter.
APT::Sandbox::User "root";
// Without this, a suite that could not be fetched is only a warning.
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Catalogues for software centres: as large as the package lists themselves.
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"#
    ))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
