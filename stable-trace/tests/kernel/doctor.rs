//! The report of `doctor` equals what the test reads from the system itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{Agent, Disk, Requirement, Test, host};

pub(crate) fn tests() -> Vec<Test> {
    let root = |test: Test| test.requires(Requirement::Root).requires(Requirement::Agent);
    vec![
        root(Test::anywhere("reports_the_kernel", kernel)),
        root(Test::anywhere("reports_the_methods", methods)),
        root(Test::anywhere("reports_the_fields_of_the_wait_tracepoint", fields))
            .requires(Requirement::Tracefs),
        root(Test::anywhere("reports_the_devices", devices)),
        root(Test::anywhere("reports_a_change_of_stable_writes", stable_writes_change))
            .requires(Requirement::Program("losetup")),
        root(Test::guest("reports_every_method_in_a_guest", every_method))
            .requires(Requirement::Tracefs),
        root(Test::guest("reports_the_integrity_profiles", integrity_profiles))
            .requires(Requirement::PiDisk)
            .requires(Requirement::NvmePi),
    ]
}

/// The report as untyped JSON, so that the test uses its public names.
fn report() -> Result<Value> {
    let output = Agent::output(["doctor", "--format", "json"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "{}: {errors}", output.status);
    ensure!(errors.is_empty(), "{errors}");
    serde_json::from_slice(&output.stdout).context("doctor did not print JSON")
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Whether the report has the method as available.
fn available(report: &Value, name: &str) -> Option<bool> {
    let methods = report["methods"].as_array()?;
    methods.iter().find(|method| method["name"] == name)?["available"].as_bool()
}

fn kernel() -> Result<()> {
    let report = report()?;
    let release = read("/proc/sys/kernel/osrelease").context("no release")?;
    ensure!(report["kernel"] == release, "not {release}: {}", report["kernel"]);
    ensure!(report["arch"] == std::env::consts::ARCH, "{}", report["arch"]);
    let btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    ensure!(report["btf"]["available"] == btf, "{}", report["btf"]);
    // Brackets mark the active level.
    let lockdown = read("/sys/kernel/security/lockdown").and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    if let Some(lockdown) = lockdown {
        ensure!(report["lockdown"] == lockdown, "not {lockdown}: {}", report["lockdown"]);
    }
    ensure!(report["privileges"]["uid"] == 0, "{}", report["privileges"]);
    ensure!(report["privileges"]["missing"] == serde_json::json!([]), "{}", report["privileges"]);
    Ok(())
}

fn methods() -> Result<()> {
    let report = report()?;
    let kprobes = Path::new("/sys/bus/event_source/devices/kprobe/type").exists();
    ensure!(available(&report, "kprobe") == Some(kprobes), "{}", report["methods"]);
    for name in ["tracepoint", "raw_tracepoint"] {
        ensure!(available(&report, name) == Some(true), "{}", report["methods"]);
    }
    // An unavailable method has a reason and a remedy.
    let methods = report["methods"].as_array().context("no methods")?;
    for method in methods {
        let available = method["available"] == true;
        let explained = method["reason"].is_string() && method["remedy"].is_string();
        ensure!(available != explained, "{method}");
        let problem = report["problems"].as_array().context("no problems")?.iter();
        let problem = problem.filter(|problem| problem["what"] == method["reason"]).count();
        ensure!(problem == usize::from(!available), "{method}: {}", report["problems"]);
    }
    // A trace attaches the reported probes.
    let agent = Agent::start(["trace"])?;
    let attached = serde_json::to_value(&agent.started().context("no `start` line")?.probes)?;
    ensure!(report["probes"] == attached, "{} but {attached}", report["probes"]);
    agent.stop()?;
    Ok(())
}

fn fields() -> Result<()> {
    let event = format!("writeback/{}", host::wait_function());
    let format = read(Path::new(host::TRACING).join("events").join(&event).join("format"))
        .with_context(|| format!("no format of {event}"))?;
    // `field:ino_t ino;	offset:40;	size:8;	signed:0;`
    let mut offsets = BTreeMap::new();
    for line in format.lines().filter(|line| line.trim().starts_with("field:")) {
        let mut parts = line.trim().split(';').map(str::trim);
        let name = parts.next().and_then(|text| text.rsplit(' ').next()).unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default().to_owned();
        let offset = parts.next().and_then(|text| text.strip_prefix("offset:"));
        offsets.insert(name, offset.context("no offset")?.parse::<u64>()?);
    }

    let report = report()?;
    let tracepoint = &report["tracepoints"][0];
    ensure!(tracepoint["name"] == event.replace('/', ":"), "{tracepoint}");
    for name in ["name", "ino", "index"] {
        let offset = offsets.get(name).with_context(|| format!("no field {name}: {format}"))?;
        ensure!(tracepoint["fields"][name] == *offset, "{name} is at {offset}: {tracepoint}");
    }
    Ok(())
}

/// Every device of /sys/block, with its `stable_writes` and its integrity profile.
fn devices() -> Result<()> {
    let report = report()?;
    let reported = report["devices"].as_array().context("no devices")?;
    let mut count = 0;
    for entry in fs::read_dir("/sys/block")? {
        let path = entry?.path();
        // sysfs has an exclamation mark for a slash in a name.
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace('!', "/");
        let device = reported.iter().find(|device| device["device"] == name);
        let device = device.with_context(|| format!("{name} is not reported"))?;
        equals_sysfs(device, &path).with_context(|| format!("{name}: {device}"))?;
        count += 1;
    }
    ensure!(reported.len() == count, "{} devices instead of {count}", reported.len());
    Ok(())
}

fn equals_sysfs(device: &Value, path: &Path) -> Result<()> {
    let dev = read(path.join("dev")).context("no device number")?;
    ensure!(device["dev"] == dev, "sysfs has the number {dev}");
    let format = read(path.join("integrity/format")).filter(|it| !it.is_empty() && it != "none");
    let reported = device["integrity"]["format"].as_str().map(str::to_owned);
    ensure!(reported == format, "sysfs has the integrity format {format:?}");
    if let Some(flag) = read(path.join("queue/stable_writes")) {
        let checked = format.is_some_and(|format| format != "nop");
        let stable = flag == "1" || (checked && host::integrity_keeps_pages_stable());
        ensure!(device["stable_writes"] == stable, "sysfs has stable_writes {flag}");
    }
    Ok(())
}

fn stable_writes_change() -> Result<()> {
    let disk = Disk::loop_device(16)?;
    for (flag, stable) in [("1", true), ("0", false)] {
        disk.set_attribute("queue/stable_writes", flag)?;
        let report = report()?;
        let devices = report["devices"].as_array().context("no devices")?;
        let device = devices.iter().find(|device| device["device"] == disk.name);
        let device = device.with_context(|| format!("{} is not reported", disk.name))?;
        ensure!(device["stable_writes"] == stable, "stable_writes is {flag}: {device}");
    }
    Ok(())
}

/// Debian's kernels support all methods.
fn every_method() -> Result<()> {
    let listed = Path::new(host::TRACING).join("available_filter_functions");
    let listed = fs::read_to_string(&listed).context("no list of functions")?;
    let hooked = listed.lines().any(|line| line == host::wait_function());
    ensure!(hooked, "ftrace cannot hook {}: nothing to test", host::wait_function());
    let report = report()?;
    for name in ["fentry", "kprobe", "tracepoint", "raw_tracepoint"] {
        ensure!(available(&report, name) == Some(true), "{name}: {}", report["methods"]);
    }
    Ok(())
}

fn integrity_profiles() -> Result<()> {
    let report = report()?;
    let devices = report["devices"].as_array().context("no devices")?;
    for disk in [Disk::pi()?, Disk::nvme_pi()?] {
        let device = devices.iter().find(|device| device["device"] == disk.name);
        let integrity = &device.with_context(|| format!("no {}", disk.name))?["integrity"];
        ensure!(integrity["format"] == "T10-DIF-TYPE1-CRC", "{}: {integrity}", disk.name);
    }
    Ok(())
}
