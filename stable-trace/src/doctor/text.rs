//! Formats the report as text.

use std::fmt::Write as _;

use stable_trace_analysis::event::{Device, Risk};

use super::report::{Availability, Problem, Report};
use crate::kernel::privileges::Capability;

/// The most devices without stable writes or PI that are listed by name.
const NAMED: usize = 12;

/// Formats the report for people.
pub(crate) fn to_text(report: &Report) -> String {
    let mut text = String::new();
    section(&mut text, "SYSTEM", &system(report));
    section(&mut text, "METHODS", &methods(report));
    section(&mut text, "TRACEPOINTS", &tracepoints(report));
    section(&mut text, "PROBES", &probes(report));
    section(&mut text, "DEVICES", &devices(&report.devices));
    if !report.problems.is_empty() {
        text.push_str("PROBLEMS\n");
    }
    for (index, Problem { what, cost, remedy }) in report.problems.iter().enumerate() {
        // Writing to a String does not fail.
        let _ =
            writeln!(text, "  {}. {what}\n     effect: {cost}\n     remedy: {remedy}", index + 1);
    }
    if !report.problems.is_empty() {
        text.push('\n');
    }
    text.push_str(if report.can_trace() {
        "Tracing can work.\n"
    } else {
        "Tracing cannot work: see the first problem.\n"
    });
    text
}

type Row = Vec<String>;

fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn system(report: &Report) -> Vec<Row> {
    let found = |name, found: &Availability| row([name, yes(found.available), &found.detail]);
    let missing: Vec<_> = Capability::ALL
        .into_iter()
        .filter(|capability| !report.privileges.held.contains(capability))
        .map(Capability::name)
        .collect();
    let capabilities = match missing.as_slice() {
        [] => "all capabilities that tracing uses".to_owned(),
        names => format!("without {}", names.join(", ")),
    };
    let privileges = format!("uid {}, {capabilities}", report.privileges.uid);
    vec![
        row(["kernel", "", &format!("{} {}", report.kernel, report.arch)]),
        row(["privileges", yes(report.privileges.missing.is_empty()), &privileges]),
        found("BTF", &report.btf),
        found("symbols", &report.symbols),
        found("tracefs", &report.tracefs),
        row(["lockdown", "", report.lockdown.name()]),
    ]
}

fn methods(report: &Report) -> Vec<Row> {
    let methods = report.methods.iter();
    methods
        .map(|method| {
            let reason = method.reason.as_deref().unwrap_or("tested");
            row([&method.name.replace('_', " "), yes(method.available), reason])
        })
        .collect()
}

fn tracepoints(report: &Report) -> Vec<Row> {
    let tracepoints = report.tracepoints.iter();
    tracepoints
        .map(|tracepoint| {
            let mut fields: Vec<_> = tracepoint.fields.iter().collect();
            fields.sort_by_key(|(_, offset)| **offset);
            let fields: Vec<_> =
                fields.iter().map(|(name, offset)| format!("{name} at {offset}")).collect();
            let detail = tracepoint.reason.clone().unwrap_or_else(|| fields.join(", "));
            row([&tracepoint.name, yes(tracepoint.reason.is_none()), &detail])
        })
        .collect()
}

fn probes(report: &Report) -> Vec<Row> {
    let probes = report.probes.iter();
    probes
        .map(|probe| {
            let reason = probe.reason.as_deref().unwrap_or("would attach");
            let (group, method) = (probe.group.name(), probe.method.name());
            row([group, method, &probe.function, yes(probe.attached), reason])
        })
        .collect()
}

/// One line for each device with stable writes or PI, and one line for the others together.
fn devices(devices: &[Device]) -> Vec<Row> {
    let (notable, plain): (Vec<_>, Vec<_>) = devices.iter().partition(|device| {
        device.stable_writes || device.integrity.is_some() || device.risk.is_some()
    });
    let mut rows: Vec<_> = notable
        .into_iter()
        .map(|device| {
            let stable = if device.stable_writes { "stable pages" } else { "no stable pages" };
            let integrity = device
                .integrity
                .as_ref()
                .map_or_else(|| without_protection(device.risk), |found| found.format.as_str());
            row([&device.device, &device.dev.to_string(), stable, integrity])
        })
        .collect();
    if !plain.is_empty() {
        let mut names: Vec<_> =
            plain.iter().take(NAMED).map(|device| device.device.as_str()).collect();
        if plain.len() > NAMED {
            names.push("…");
        }
        let which = if rows.is_empty() { "all devices" } else { "other devices" };
        rows.push(vec![format!("{which}, without stable pages or integrity: {}", names.join(" "))]);
    }
    rows
}

/// What a device without protection information rests on.
const fn without_protection(risk: Option<Risk>) -> &'static str {
    match risk {
        Some(Risk::Checksums) => "checksums of its own",
        Some(Risk::Mirrors) => "mirrors",
        Some(Risk::ProtectionInformation) | None => "no integrity",
    }
}

fn section(text: &mut String, title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        // The last cell of a row is not padded.
        let cells = rows.iter().filter(|row| column + 1 < row.len());
        cells.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, " {cell:width$} ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push('\n');
}
