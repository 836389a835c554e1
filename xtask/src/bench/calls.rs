//! Cost of a call of the wait function that finds no writeback, for each attach method.
//!
//! A workload rewrites a cached page while nothing is under writeback. The kernel calls the wait function
//! once per write if pages must be stable, and never otherwise. The difference between the two, with
//! and without tracing, is the cost of the call. The rest is the cost of the other probes that a write
//! passes.
//!
//! An emulated guest counts instructions: its clock advances one nanosecond with each. The host's clock
//! is not used, since other processes on the host distort it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Deserializer, Value};

use super::agent::operations;
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::lab::{Accel, Engine, GuestScript, Series};
use crate::progress;

const SCRIPT: &str = include_str!("calls.sh");

/// The script's names of the methods; the first one is the baseline.
const METHODS: [&str; 4] = ["none", "fentry", "kprobe", "tracepoint"];

/// Duration of one run in guest time; a round has eight runs.
const RUN: Duration = Duration::from_millis(500);

/// Time limit of a round: an emulated agent takes seconds to start and to stop.
const ROUND: Duration = Duration::from_mins(3);

pub(crate) fn bench(agent: &Path, series: Series, accel: Accel, rounds: u32) -> Result<()> {
    progress::step(format!("calls: booting kernel {series}"));
    let engine = accel.engine()?.counting();
    let limit = ROUND * (rounds + 2);
    let arguments = [rounds.to_string(), format!("{}ms", RUN.as_millis())];
    let script =
        GuestScript { series, engine, agent, script: SCRIPT, arguments: &arguments, limit };
    let measured = Measured::parse(&script.output()?)?;
    let unit = match engine {
        Engine::Counting => "instructions",
        Engine::Kvm | Engine::Tcg => "ns",
    };
    println!(
        "\nKernel {series} in a guest; 512 bytes of one cached page rewritten by one thread, nothing under\n\
         writeback; {rounds} rounds of {} ms per run; {unit}, median (minimum to maximum)\n",
        RUN.as_millis()
    );
    println!("{}", measured.costs());
    println!("{}", measured.programs(unit));
    Ok(())
}

#[derive(Debug, Default)]
struct Measured {
    /// Cost of a write by method and by whether pages must be stable, one value per round.
    runs: BTreeMap<(String, bool), Vec<f64>>,
    /// Method, program, runs per write, cost per run.
    programs: Vec<(String, String, f64, f64)>,
}

impl Measured {
    fn parse(output: &str) -> Result<Self> {
        let mut measured = Self::default();
        for line in output.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("run"), Some(method), Some(rest)) => {
                    let (stable, wac) = rest.split_once(' ').unwrap_or_default();
                    let operations = operations(wac)
                        .with_context(|| format!("wac printed no final event: {line}"))?;
                    let cost = RUN.as_secs_f64() * 1e9 / operations;
                    let key = (method.to_owned(), stable == "1");
                    measured.runs.entry(key).or_default().push(cost);
                }
                (Some("programs"), Some(method), Some(rest)) => {
                    measured.add_programs(method, rest)?;
                }
                _ => {}
            }
        }
        if METHODS.iter().any(|method| measured.runs_of(method, true).is_empty()) {
            bail!("the guest did not measure every method; its output:\n{output}");
        }
        Ok(measured)
    }

    fn add_programs(&mut self, method: &str, rest: &str) -> Result<()> {
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let mut next = || values.next().and_then(Result::ok).context("bpftool printed no JSON");
        let (wac, programs) = (next()?, next()?);
        let writes = wac["operations"].as_f64().context("wac printed no final event")?;
        for program in programs.as_array().into_iter().flatten() {
            let value = |name: &str| program[name].as_f64().unwrap_or(0.0);
            let (runs, ns) = (value("run_cnt"), value("run_time_ns"));
            // Programs of other processes have not run.
            if runs > 0.0 {
                let name = program["name"].as_str().unwrap_or("?").to_owned();
                self.programs.push((method.to_owned(), name, runs / writes, ns / runs));
            }
        }
        Ok(())
    }

    fn runs_of(&self, method: &str, stable: bool) -> &[f64] {
        self.runs.get(&(method.to_owned(), stable)).map_or(&[], Vec::as_slice)
    }

    fn costs(&self) -> Table {
        let mut table = Table::new([
            "method",
            "write, stable pages",
            "write, no stable pages",
            "all probes of a write",
            "wait call",
            "wait call, % of an untraced write",
        ]);
        let untraced = Numbers::new(self.runs_of("none", true).iter().copied()).median();
        for method in METHODS {
            let (stable, unstable) = (self.runs_of(method, true), self.runs_of(method, false));
            let base = (self.runs_of("none", true), self.runs_of("none", false));
            // Compared within a round, since the load may differ in the next one.
            let rounds = || stable.iter().zip(unstable).zip(base.0.iter().zip(base.1));
            let all = Numbers::new(rounds().map(|((on, _), (off, _))| on - off));
            let call = Numbers::new(
                rounds().map(|((on, not), (off, off_not))| (on - not) - (off - off_not)),
            );
            let share = call.median() / untraced * 100.0;
            let [all, call, share] = if method == "none" {
                ["–", "–", "–"].map(str::to_owned)
            } else {
                [all.text(0), call.text(0), number(share, 1)]
            };
            let name = if method == "none" { "not traced" } else { method };
            table.row([
                name.to_owned(),
                Numbers::new(stable.iter().copied()).text(0),
                Numbers::new(unstable.iter().copied()).text(0),
                all,
                call,
                share,
            ]);
        }
        table
    }

    fn programs(&self, unit: &str) -> Table {
        let each = format!("{unit} per run");
        let mut table = Table::new(["method: program", "runs per write", &each]);
        for (method, name, runs, ns) in &self.programs {
            table.row([format!("{method}: {name}"), number(*runs, 2), number(*ns, 0)]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> String {
        let methods =
            [("none", 2_000_000), ("fentry", 1_000_000), ("kprobe", 500_000), ("tracepoint", 10)];
        let mut lines: Vec<_> = methods
            .iter()
            .flat_map(|(method, operations)| {
                [0, 1].map(|stable| {
                    let operations = operations / (stable + 1);
                    let wac = format!("{{\"state\":\"finished\",\"operations\":{operations}}}");
                    format!("run {method} {stable} {wac}")
                })
            })
            .collect();
        let programs = r#"[{"name":"a","run_cnt":20,"run_time_ns":100},{"name":"b"}]"#;
        lines.push(format!("programs fentry {{\"operations\":10}} {programs}"));
        lines.join("\n")
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "these are exact")]
    fn the_cost_of_the_call_is_the_difference_due_to_stable_pages() {
        let measured = Measured::parse(&output()).unwrap();
        assert_eq!(measured.runs_of("none", true), [500.0]);
        assert_eq!(measured.runs_of("fentry", false), [500.0]);
        let table = measured.costs().to_string();
        // fentry: (1000 - 500) - (500 - 250).
        let line = table.lines().find(|line| line.contains("fentry")).unwrap();
        assert!(line.contains("500 (500 to 500) |") && line.contains("250 (250 to 250)"), "{line}");
        assert!(line.trim_end().ends_with("50.0 |"), "{line}");
        assert_eq!(measured.programs, [("fentry".to_owned(), "a".to_owned(), 2.0, 5.0)]);
    }

    #[test]
    fn an_incomplete_measurement_is_an_error() {
        assert!(Measured::parse("run none 1 {\"state\":\"finished\",\"operations\":3}").is_err());
        assert!(Measured::parse("run none 1 nothing").is_err());
    }
}
