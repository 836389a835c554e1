//! `cargo xtask fixtures`: what real kernels have of what the probes need, saved so that the plan of
//! what attaches is tested for all of them without booting one.

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
use super::output::Errand;
use super::series::Series;
use crate::compile::{self, Options};
use crate::{progress, setup, shell, workspace};

/// Options of `cargo xtask fixtures`.
#[derive(Args, Clone, Debug)]
pub struct FixturesArgs {
    /// Only this kernel of the laboratory (repeatable) [default: all, and this machine's own]
    #[arg(long = "kernel", value_enum, value_name = "SERIES")]
    kernels: Vec<Series>,
    /// Only this machine's own kernel, or that one too
    #[arg(long)]
    native: bool,
    /// How to run the guests' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
}

/// Where they are kept, below the workspace.
const FOLDER: &str = "stable-trace/tests/fixtures";

/// Loads the modules whose functions are probed or waited in, where the kernel has them, and asks
/// the agent. A kernel without one of them is a fact too.
const GATHER: &str = r#"for module in ext4 xfs btrfs nfs fuse f2fs; do
    modprobe -q "$module" || echo "xtask: kernel $LAB_KERNEL has no module $module" >&2
done
exec "$STABLE_TRACE" facts"#;

/// Boot included; an emulated 5.10 takes half a minute.
const LIMIT: Duration = Duration::from_mins(5);

/// Gathers and saves.
///
/// # Errors
/// If the agent does not build, a guest does not run, or a file cannot be written.
pub fn fixtures(args: &FixturesArgs) -> Result<()> {
    let (kernels, native) = match args.kernels.as_slice() {
        [] if args.native => (&[][..], true),
        [] => (&Series::MATRIX[..], true),
        some => (some, args.native),
    };
    // Static, for the guests; the same for this machine, so that one build serves all.
    let target = setup::rust::ensure_musl()?;
    let agent = compile::agent(Options { release: true, target: Some(&target), stripped: false })?;
    let folder = workspace::root()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    for &series in kernels {
        progress::step(format!("asking kernel {series}"));
        let errand = Errand {
            series,
            engine: args.accel.engine()?,
            agent: &agent,
            script: GATHER,
            arguments: &[],
            limit: LIMIT,
        };
        save(&folder, "kernel", &errand.output()?)?;
    }
    if native {
        progress::step("asking this machine's own kernel");
        let said = shell::output(shell::privileged(&agent)?.arg("facts"))?;
        save(&folder, "native", &said)?;
    }
    Ok(())
}

/// Saves one kernel's facts as `PREFIX-SERIES.json`, and says what differs from those before.
fn save(folder: &Path, prefix: &str, said: &str) -> Result<()> {
    let facts: Value = serde_json::from_str(said).context("the agent's facts are no JSON")?;
    let release = facts.get("release").and_then(Value::as_str).unwrap_or_default();
    let series = series(release)
        .with_context(|| format!("the agent's facts are of no known kernel: `{release}`"))?;
    let path = folder.join(format!("{prefix}-{series}.json"));
    // Read as a value, whose keys are sorted: what is written depends on the facts alone.
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
    // One that does not parse is one that said nothing.
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

/// One line a fact that came, went or changed.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", before, &mut old);
    flatten("", after, &mut new);
    let paths: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let lines = paths.into_iter().filter_map(|path| match (old.get(path), new.get(path)) {
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) => Some(format!("{path}: {old} -> {new}")),
        (Some(old), None) => Some(format!("{path}: {old} is gone")),
        (None, Some(new)) => Some(format!("{path}: {new} is new")),
        (None, None) => None,
    });
    lines.collect()
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                // Names have dots in them.
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
    fn what_a_kernel_moved_is_named() {
        let before = json!({"members": {"a.b": 40, "c.d": 8}, "refused": {}});
        let after = json!({"members": {"a.b": 56, "e.f": 0}, "refused": {"kprobe": "no"}});
        assert_eq!(
            differences(&before, &after),
            [
                "members / a.b: 40 -> 56",
                "members / c.d: 8 is gone",
                "members / e.f: 0 is new",
                "refused: {} is gone",
                "refused / kprobe: \"no\" is new",
            ]
        );
    }

    #[test]
    fn a_file_depends_on_the_facts_alone() {
        let folder = tempfile::tempdir().unwrap();
        let facts = r#"{"release": "6.1.0", "members": {"z.z": 1, "a.a": 2}}"#;
        save(folder.path(), "kernel", facts).unwrap();
        let path = folder.path().join("kernel-6.1.json");
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.find("a.a") < first.find("z.z"), "{first}");
        save(folder.path(), "kernel", r#"{"members":{"a.a":2,"z.z":1},"release":"6.1.0"}"#)
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
    }

    #[test]
    fn facts_of_no_kernel_are_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        for said in ["", "{}", r#"{"release": "unknown"}"#] {
            assert!(save(folder.path(), "kernel", said).is_err(), "{said}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
