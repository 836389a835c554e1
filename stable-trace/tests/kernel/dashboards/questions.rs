//! What is asked of a Prometheus, and what must come back.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stable_trace_dashboards::dashboards;
use stable_trace_dashboards::expressions::{
    DashboardExpression, Durations, interpolated, of_dashboard,
};
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::metric::{METRICS, Metric, absence_reason};
use stable_trace_dashboards::prometheus::Prometheus;

use crate::bed::eventually;

/// The system that the agents trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// All is well: what shows faults may be empty, and has its reason.
    Well,
    /// Everything fails that a panel has an eye on: nothing may be empty, and little may be 0.
    Failing,
}

/// Panels that show what is wrong, and nothing where nothing is; the reasons by their metrics are in
/// [`absence_reason`].
const EMPTY_WHEN_ALL_IS_WELL: [(&str, &str); 2] = [
    ("Agents down", "every agent answers"),
    ("Groups without a probe", "every group has a probe on this kernel"),
];

/// Panels that show 0 though all the rest fails.
const ZERO_ALL_THE_SAME: [(&str, &str); 3] = [
    ("Groups without a probe", "what it shows is which groups have none, of 0 probes each"),
    ("Violations", "no file system here breaks the stable pages that it is asked for"),
    ("Missed runs", "the kernel skips no run that it counts"),
];

/// What an expression came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    /// All of its series are 0.
    Zero,
    Something,
}

impl System {
    fn excuses(self, expression: &str, place: &str) -> bool {
        let panel = |(title, _why): &(&str, &str)| place == *title;
        self == Self::Well
            && (absence_reason(expression).is_some() || EMPTY_WHEN_ALL_IS_WELL.iter().any(panel))
    }
}

/// What a panel with one number shows at the end of so many seconds; 0 if it has none.
pub fn shown(server: &Prometheus, panel: &str, range: u64) -> Result<f64> {
    let mut questions = dashboards::all().into_iter().flat_map(|one| of_dashboard(&one.json()));
    let question = questions.find(|question| question.element == panel);
    let question = question.with_context(|| format!("no panel is called {panel}"))?;
    let times = Durations { rate_interval: range, range };
    let answer = server.query(&interpolated(&question.expression, times))?;
    Ok(answer.iter().flat_map(|series| &series.points).map(|(_, value)| value).sum())
}

/// All of it, of one system.
pub struct Questions<'a> {
    server: &'a Prometheus,
    system: System,
    /// The moment that expressions are asked about, in seconds since 1970.
    moment: f64,
    times: Durations,
}

impl<'a> Questions<'a> {
    /// About this moment.
    pub fn now(server: &'a Prometheus, system: System, times: Durations) -> Result<Self> {
        let answer = server.query("time()")?;
        let point = answer.first().and_then(|series| series.points.first());
        let (moment, _) = point.context("Prometheus does not know the time")?;
        Ok(Self { server, system, moment: *moment, times })
    }

    /// Every expression has a number, every metric is known, and every rule is well.
    pub fn all_have_answers(&self) -> Result<()> {
        self.every_expression_has_data()?;
        self.every_metric_is_known()?;
        self.every_rule_is_well()
    }

    fn every_expression_has_data(&self) -> Result<()> {
        let (mut asked, mut excused) = (0, Vec::new());
        let mut unexpected = Vec::new();
        for question in dashboards::all().iter().flat_map(|one| of_dashboard(&one.json())) {
            asked += 1;
            let answer = self.answer(&question)?;
            let excuse = match (answer, self.system) {
                (Answer::Something, _) | (Answer::Zero, System::Well) => continue,
                (Answer::Nothing, _) => {
                    self.system.excuses(&question.expression, &question.element)
                }
                (Answer::Zero, System::Failing) => {
                    ZERO_ALL_THE_SAME.iter().any(|(title, _why)| question.element == *title)
                }
            };
            if excuse {
                excused.push(question.element);
            } else {
                unexpected.push((answer, question));
            }
        }
        eprintln!("dashboards: {asked} expressions, with a reason nothing or 0: {excused:?}");
        ensure!(asked > 80, "only {asked} expressions were found");
        ensure!(unexpected.is_empty(), "of {asked} expressions: {unexpected:#?}");
        Ok(())
    }

    fn answer(&self, question: &DashboardExpression) -> Result<Answer> {
        let expression = interpolated(&question.expression, self.times);
        let series = self.server.query_range(&expression, self.moment, self.moment, 1.0)?;
        let points = series.iter().flat_map(|series| &series.points);
        let mut values = points.map(|(_, value)| *value).filter(|value| !value.is_nan()).peekable();
        if values.peek().is_none() {
            return Ok(Answer::Nothing);
        }
        Ok(if values.all(|value| value.abs() < f64::EPSILON) {
            Answer::Zero
        } else {
            Answer::Something
        })
    }

    /// What is scraped is what is documented, and all of it.
    fn every_metric_is_known(&self) -> Result<()> {
        let names = self.server.data("/api/v1/label/__name__/values")?;
        let names: BTreeSet<_> = elements(&names).iter().filter_map(Value::as_str).collect();
        // Prometheus's own, and what the rules made; the address space says nothing of an agent that
        // maps the kernel's buffers.
        let not_ours = |name: &&str| {
            name.contains(':')
                || name.starts_with("ALERTS")
                || name.starts_with("scrape_")
                || *name == "process_virtual_memory_bytes"
        };
        let unknown: Vec<_> = names
            .iter()
            .filter(|name| !not_ours(name) && Metric::of_series(name).is_none())
            .collect();
        ensure!(unknown.is_empty(), "nobody documents {unknown:?}");
        let may_be_absent =
            |metric: &Metric| self.system == System::Well && metric.absence_reason.is_some();
        let absent: Vec<_> = METRICS
            .iter()
            .filter(|metric| !may_be_absent(metric))
            .filter(|metric| !names.iter().any(|name| metric.occurs_in(name)))
            .map(|metric| metric.name)
            .collect();
        ensure!(absent.is_empty(), "nobody serves {absent:?}");
        Ok(())
    }

    /// No rule has an error; each recording rule has made a series, unless it has its reason.
    fn every_rule_is_well(&self) -> Result<()> {
        let rules = self.evaluated_rules()?;
        eprintln!("dashboards: {} rules", rules.len());
        ensure!(rules.len() > 20, "only {} rules were loaded", rules.len());
        for rule in rules {
            ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
            let text = |key: &str| rule[key].as_str().unwrap_or_default();
            let (name, expression) = (text("name"), text("query"));
            if rule["type"] == "recording" && !self.system.excuses(expression, name) {
                let made = self.server.query(name)?;
                ensure!(!made.is_empty(), "{name} made nothing of {expression}");
            }
        }
        Ok(())
    }

    /// Each is evaluated as often as agents are scraped, and may not have been yet.
    fn evaluated_rules(&self) -> Result<Vec<Value>> {
        let mut rules = Vec::new();
        eventually(|| {
            let data = self.server.data("/api/v1/rules")?;
            let groups = elements(&data["groups"]).iter();
            rules = groups.flat_map(|group| elements(&group["rules"])).cloned().collect();
            let unknown = rules.iter().find(|rule| rule["health"] == "unknown");
            Ok(unknown.map(|rule| format!("{} was not evaluated", rule["name"])))
        })?;
        Ok(rules)
    }
}
