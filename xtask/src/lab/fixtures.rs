//! `cargo xtask fixtures`: saves the probe-related facts of real kernels. Unit tests check the probe plan
//! of every kernel with them, without booting it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::accel::Accel;
use super::guest_script::GuestScript;
use super::series::Series;
use crate::compile::{self, Options};
use crate::{progress, setup, shell, workspace};

#[derive(Args, Clone, Debug)]
pub(crate) struct FixturesArgs {
    /// Save this kernel of the laboratory (repeatable) [default: all and the host's]
    #[arg(long = "kernel", value_enum, value_name = "SERIES")]
    kernels: Vec<Series>,
    /// Save the host's kernel, alone or in addition to those of `--kernel`
    #[arg(long)]
    native: bool,
    /// Accelerator of the guests
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
}

/// Folder of the fixtures in the workspace.
const FOLDER: &str = "stable-trace/tests/fixtures";

/// Loads the modules with functions that are probed or waited in, and prints the facts. A kernel may
/// lack some modules.
const SCRIPT: &str = r#"for module in ext4 xfs btrfs nfs fuse f2fs; do
    modprobe -q "$module" || echo "xtask: kernel $LAB_KERNEL has no module $module" >&2
done
exec "$STABLE_TRACE" facts"#;

/// Includes the boot: an emulated 5.10 takes half a minute.
const LIMIT: Duration = Duration::from_mins(5);

pub(crate) fn fixtures(args: &FixturesArgs) -> Result<()> {
    let (kernels, native) = match args.kernels.as_slice() {
        [] if args.native => (&[][..], true),
        [] => (&Series::MATRIX[..], true),
        some => (some, args.native),
    };
    // Guests need a static binary; the host uses it too.
    let target = setup::rust::ensure_musl()?;
    let agent = compile::agent(Options { release: true, target: Some(&target), stripped: false })?;
    let folder = workspace::root()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;

    for &series in kernels {
        progress::step(format!("reading the facts of kernel {series}"));
        let script = GuestScript {
            series,
            engine: args.accel.engine()?,
            agent: &agent,
            script: SCRIPT,
            arguments: &[],
            limit: LIMIT,
        };
        save(&folder, "kernel", &script.output()?)?;
    }
    if native {
        progress::step("reading the facts of the host's kernel");
        let facts = shell::output(shell::privileged(&agent)?.arg("facts"))?;
        save(&folder, "native", &facts)?;
    }
    Ok(())
}

/// Saves the facts of one kernel as `PREFIX-SERIES.json`, and prints the differences.
fn save(folder: &Path, prefix: &str, text: &str) -> Result<()> {
    let facts: Value = serde_json::from_str(text).context("the agent's facts are not JSON")?;
    let release = facts.get("release").and_then(Value::as_str).unwrap_or_default();
    let series = series(release)
        .with_context(|| format!("the agent's facts have no valid kernel release: `{release}`"))?;
    let path = folder.join(format!("{prefix}-{series}.json"));
    // A `Value` sorts its keys, so the text depends on the facts only.
    let text = format!("{facts:#}\n");

    let before = fs::read_to_string(&path).ok();
    if before.as_deref() == Some(text.as_str()) {
        println!("{prefix}-{series}.json: unchanged ({release})");
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(&path).with_context(|| format!("cannot replace {}", path.display()))?;
    let Some(before) = before else {
        println!("{prefix}-{series}.json: new ({release})");
        return Ok(());
    };
    println!("{prefix}-{series}.json: changed ({release})");
    // A file that does not parse counts as empty.
    let before = serde_json::from_str(&before).unwrap_or_default();
    for line in differences(&before, &facts) {
        println!("    {line}");
    }
    Ok(())
}

/// The first two numbers of a release: `6.12` of `6.12.117+deb12-amd64`.
fn series(release: &str) -> Option<String> {
    let mut numbers = release.splitn(3, '.');
    let major: u32 = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    let minor: u32 = minor[..digits].parse().ok()?;
    Some(format!("{major}.{minor}"))
}

/// One line for each fact that is new, removed or changed.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", before, &mut old);
    flatten("", after, &mut new);
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let lines = paths.into_iter().filter_map(|path| match (old.get(path), new.get(path)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => Some(format!("{path}: {old} -> {new}")),
        (Some(old), None) => Some(format!("{path}: {old} is removed")),
        (None, Some(new)) => Some(format!("{path}: {new} is new")),
        (None, None) => None,
    });
    lines.collect()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                // Names contain dots.
                let path = if path.is_empty() { name.clone() } else { format!("{path} / {name}") };
                flatten(&path, value, into);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        for (release, expected) in [
            ("5.10.0-46-amd64", Some("5.10")),
            ("6.12.117+deb12-amd64", Some("6.12")),
            ("7.3-rc2", Some("7.3")),
            ("", None),
            ("../../x", None),
            ("6.x", None),
        ] {
            assert_eq!(series(release).as_deref(), expected, "{release}");
        }
    }

    #[test]
    fn differences_are_listed_by_path() {
        let before = json!({"members": {"a.b": 40, "c.d": 8}, "refused": {}});
        let after = json!({"members": {"a.b": 56, "e.f": 0}, "refused": {"kprobe": "no"}});
        assert_eq!(
            differences(&before, &after),
            [
                "members / a.b: 40 -> 56",
                "members / c.d: 8 is removed",
                "members / e.f: 0 is new",
                "refused: {} is removed",
                "refused / kprobe: \"no\" is new",
            ]
        );
    }

    #[test]
    fn a_file_depends_on_the_facts_only() {
        let folder = tempfile::tempdir().unwrap();
        let facts = r#"{"release": "6.1.0", "members": {"z.z": 1, "a.a": 2}}"#;
        save(folder.path(), "kernel", facts).unwrap();
        let path = folder.path().join("kernel-6.1.json");
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.find("a.a") < first.find("z.z"), "{first}");
        save(folder.path(), "kernel", r#"{"members":{"a.a":2,"z.z":1},"release":"6.1.0"}"#)
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file is left");
    }

    #[test]
    fn facts_without_a_release_are_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"release": "unknown"}"#] {
            assert!(save(folder.path(), "kernel", text).is_err(), "{text}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
