//! Cost of an integrity failure in the programs: with its evidence, and in a burst, of which few have any.
//!
//! An emulated guest counts instructions, as for [`calls`](super::calls).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Deserializer, Value};

use super::numbers::number;
use super::table::Table;
use crate::lab::{Accel, Engine, GuestScript, Series};
use crate::progress;

const SCRIPT: &str = include_str!("failures.sh");

/// Failures with evidence: fewer than the programs take it of in a second.
const WITH_EVIDENCE: u32 = 24;

/// Failures of the burst.
const BURST: u32 = 400;

const LIMIT: Duration = Duration::from_mins(5);

pub(crate) fn bench(agent: &Path, series: Series, accel: Accel) -> Result<()> {
    progress::step(format!("failures: booting kernel {series}"));
    let engine = accel.engine()?.counting();
    let arguments = [WITH_EVIDENCE, BURST].map(|count| count.to_string());
    let script =
        GuestScript { series, engine, agent, script: SCRIPT, arguments: &arguments, limit: LIMIT };
    let costs = parse(&script.output()?)?;
    let unit = match engine {
        Engine::Counting => "instructions",
        Engine::Kvm | Engine::Tcg => "ns",
    };
    println!(
        "\nKernel {series} in a guest; direct writes of 4 KiB that the disk fails, one after the other; {unit} a\n\
         failure in the programs: {WITH_EVIDENCE} with evidence, and a burst of {BURST}\n"
    );
    println!("{}", table(&costs));
    Ok(())
}

/// What each program costs a failure, by program and kind.
type Costs = BTreeMap<String, BTreeMap<String, f64>>;

fn parse(output: &str) -> Result<Costs> {
    let mut costs = Costs::new();
    for line in output.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("failures"), Some(kind), Some(count), Some(rest)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let count: f64 = count.parse().with_context(|| format!("not a number: {count}"))?;
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let mut next = || values.next().and_then(Result::ok).context("bpftool printed no JSON");
        let (before, after) = (run_times(&next()?), run_times(&next()?));
        for (program, ns) in after {
            let ns = ns - before.get(&program).copied().unwrap_or(0.0);
            if ns > 0.0 {
                costs.entry(program).or_default().insert(kind.to_owned(), ns / count);
            }
        }
    }
    if costs.is_empty() {
        bail!("the guest measured nothing; its output:\n{output}");
    }
    Ok(costs)
}

/// The run time of each program of failures so far.
fn run_times(programs: &Value) -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    for program in programs.as_array().into_iter().flatten() {
        let name = program["name"].as_str().unwrap_or_default();
        if name.starts_with("integrity_") {
            *times.entry(name.to_owned()).or_default() +=
                program["run_time_ns"].as_f64().unwrap_or(0.0);
        }
    }
    times
}

fn table(costs: &Costs) -> Table {
    let mut table = Table::new(["program", "with evidence", "in a burst"]);
    for (program, kinds) in costs {
        let of = |kind: &str| kinds.get(kind).map_or("–".to_owned(), |cost| number(*cost, 0));
        table.row([program.clone(), of("evidence"), of("burst")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_what_a_failure_adds() {
        let program =
            |ns: u32| format!(r#"[{{"name":"integrity_a","run_time_ns":{ns}}},{{"name":"b"}}]"#);
        let output = format!("x\nfailures evidence 4 {} {}\n", program(10), program(50));
        let costs = parse(&output).unwrap();
        assert_eq!(costs["integrity_a"]["evidence"].to_bits(), 10.0_f64.to_bits());
        assert_eq!(costs.len(), 1);
        assert!(parse("failures evidence 4 [] []").is_err());
    }
}
