//! What a call of the wait function that finds no writeback costs under each method.
//!
//! Measured as what rewriting a cached page takes while nothing is under writeback: the kernel asks
//! the wait function once for each write where pages must be stable, and not at all where they need
//! not be. The difference between the two, traced and not, is the call's; the rest is that of the
//! other probes that a write passes.
//!
//! An emulated guest counts instructions: its clock moves one nanosecond with each. Its time by the
//! host's clock is no measure, for another process on the host doubles it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Deserializer, Value};

use super::agent::operations;
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::lab::{Accel, Engine, Errand, Series};
use crate::progress;

const SCRIPT: &str = include_str!("calls.sh");

/// As the script knows them; the first one is what the others are compared with.
const METHODS: [&str; 4] = ["none", "fentry", "kprobe", "tracepoint"];

/// How long one run takes in the guest's time; there are eight a round.
const RUN: Duration = Duration::from_millis(500);

/// How long a round may take: an emulated agent takes seconds to start and to end.
const ROUND: Duration = Duration::from_mins(3);

pub fn bench(agent: &Path, series: Series, accel: Accel, rounds: u32) -> Result<()> {
    progress::step(format!("calls: booting kernel {series}"));
    let engine = accel.engine()?.counting();
    let limit = ROUND * (rounds + 2);
    let arguments = [rounds.to_string(), format!("{}ms", RUN.as_millis())];
    let errand = Errand { series, engine, agent, script: SCRIPT, arguments: &arguments, limit };
    let measured = Measured::parse(&errand.output()?)?;
    let unit = match engine {
        Engine::Counting => "instructions",
        Engine::Kvm | Engine::Tcg => "ns",
    };
    println!(
        "\nKernel {series} in a guest; 512 bytes of one cached page rewritten by one thread, nothing under\n\
         writeback; {rounds} rounds of {} ms a run; {unit}, median (least to greatest)\n",
        RUN.as_millis()
    );
    println!("{}", measured.costs());
    println!("{}", measured.programs(unit));
    Ok(())
}

/// What the script said.
#[derive(Debug, Default)]
struct Measured {
    /// Cost of a write by method and whether pages must be stable, in the order of the rounds.
    runs: BTreeMap<(String, bool), Vec<f64>>,
    /// By method: program, its runs a write, cost of a run.
    programs: Vec<(String, String, f64, f64)>,
}

impl Measured {
    fn parse(said: &str) -> Result<Self> {
        let mut measured = Self::default();
        for line in said.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("run"), Some(method), Some(rest)) => {
                    let (stable, wac) = rest.split_once(' ').unwrap_or_default();
                    let operations = operations(wac)
                        .with_context(|| format!("wac did not say how it ended: {line}"))?;
                    let cost = RUN.as_secs_f64() * 1e9 / operations;
                    let key = (method.to_owned(), stable == "1");
                    measured.runs.entry(key).or_default().push(cost);
                }
                (Some("programs"), Some(method), Some(rest)) => measured.add(method, rest)?,
                _ => {}
            }
        }
        if METHODS.iter().any(|method| measured.of(method, true).is_empty()) {
            bail!("the guest did not measure every method: it said\n{said}");
        }
        Ok(measured)
    }

    fn add(&mut self, method: &str, rest: &str) -> Result<()> {
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let mut next = || values.next().and_then(Result::ok).context("bpftool said nothing");
        let (wac, programs) = (next()?, next()?);
        let writes = wac["operations"].as_f64().context("wac did not say how it ended")?;
        for program in programs.as_array().into_iter().flatten() {
            let value = |name: &str| program[name].as_f64().unwrap_or(0.0);
            let (runs, ns) = (value("run_cnt"), value("run_time_ns"));
            // Others' programs have not run, or not with every write.
            if runs > 0.0 {
                let name = program["name"].as_str().unwrap_or("?").to_owned();
                self.programs.push((method.to_owned(), name, runs / writes, ns / runs));
            }
        }
        Ok(())
    }

    fn of(&self, method: &str, stable: bool) -> &[f64] {
        self.runs.get(&(method.to_owned(), stable)).map_or(&[], Vec::as_slice)
    }

    fn costs(&self) -> Table {
        let mut table = Table::new([
            "method",
            "a write, pages stable",
            "a write, pages not stable",
            "the probes of a write",
            "of that, the call's",
            "the call's in % of an untraced write",
        ]);
        let untraced = Numbers::new(self.of("none", true).iter().copied()).median();
        for method in METHODS {
            let (stable, unstable) = (self.of(method, true), self.of(method, false));
            let base = (self.of("none", true), self.of("none", false));
            // Within a round, for the machine is another one in the next.
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
        let each = format!("{unit} a run");
        let mut table = Table::new(["method: program", "runs a write", &each]);
        for (method, name, runs, ns) in &self.programs {
            table.row([format!("{method}: {name}"), number(*runs, 2), number(*ns, 0)]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> String {
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
    fn the_call_is_what_stable_pages_add_to_the_difference() {
        let measured = Measured::parse(&said()).unwrap();
        assert_eq!(measured.of("none", true), [500.0]);
        assert_eq!(measured.of("fentry", false), [500.0]);
        let table = measured.costs().to_string();
        // fentry: (1000 - 500) - (500 - 250).
        let line = table.lines().find(|line| line.contains("fentry")).unwrap();
        assert!(line.contains("500 (500 to 500) |") && line.contains("250 (250 to 250)"), "{line}");
        assert!(line.trim_end().ends_with("50.0 |"), "{line}");
        assert_eq!(measured.programs, [("fentry".to_owned(), "a".to_owned(), 2.0, 5.0)]);
    }

    #[test]
    fn half_a_measurement_is_none() {
        assert!(Measured::parse("run none 1 {\"state\":\"finished\",\"operations\":3}").is_err());
        assert!(Measured::parse("run none 1 nothing").is_err());
    }
}
