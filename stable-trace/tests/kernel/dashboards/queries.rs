//! Queries to Prometheus and the answers that a test expects.

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

use crate::harness::wait_until;

/// The system that the agents trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Without faults: expressions that show faults may be empty, each with a reason.
    Healthy,
    /// With every fault that a panel shows: no expression may be empty, and few may be 0.
    Failing,
}

/// Panels that are empty on a healthy system, with the reason; [`absence_reason`] has the reasons by
/// metric.
const EMPTY_WHEN_HEALTHY: [(&str, &str); 2] = [
    ("Agents down", "every agent answers"),
    ("Groups without a probe", "every group has a probe on this kernel"),
];

/// Panels that show 0 on a failing system, with the reason.
const ZERO_WHEN_FAILING: [(&str, &str); 7] = [
    ("Lines that an output lacks", "every output here is a pipe or a file that takes its lines"),
    ("Integrity errors reported again", "no device here is stacked on one that checks"),
    ("Integrity errors without evidence", "a slow machine has few failures a second"),
    ("Stack walks", "the stacks are known after a while"),
    ("Groups without a probe", "it lists the groups with 0 probes"),
    ("Violations", "every file system here keeps the required stable pages"),
    ("Missed runs", "the kernel skips no run that it counts"),
];

/// The value of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Empty,
    /// All of its series are 0.
    Zero,
    NonZero,
}

impl System {
    fn excuses(self, expression: &str, place: &str) -> bool {
        let panel = |(title, _why): &(&str, &str)| place == *title;
        self == Self::Healthy
            && (absence_reason(expression).is_some() || EMPTY_WHEN_HEALTHY.iter().any(panel))
    }
}

/// The value of a panel with one number, over a range of seconds; 0 if it is empty.
pub(crate) fn panel_value(server: &Prometheus, panel: &str, range: u64) -> Result<f64> {
    let mut queries = dashboards::all().into_iter().flat_map(|board| of_dashboard(&board.json()));
    let query = queries.find(|query| query.element == panel);
    let query = query.with_context(|| format!("no panel is called {panel}"))?;
    let times = Durations { rate_interval: range, range };
    let answer = server.query(&interpolated(&query.expression, times))?;
    Ok(answer.iter().flat_map(|series| &series.points).map(|(_, value)| value).sum())
}

/// The queries of all dashboards and rules at one time.
pub(crate) struct Queries<'a> {
    server: &'a Prometheus,
    system: System,
    /// The evaluation time, in seconds since 1970.
    time: f64,
    times: Durations,
}

impl<'a> Queries<'a> {
    pub(crate) fn now(server: &'a Prometheus, system: System, times: Durations) -> Result<Self> {
        let answer = server.query("time()")?;
        let point = answer.first().and_then(|series| series.points.first());
        let (time, _) = point.context("Prometheus returns no time")?;
        Ok(Self { server, system, time: *time, times })
    }

    /// Every expression has data, every metric is documented, and every rule is healthy.
    pub(crate) fn all_have_answers(&self) -> Result<()> {
        self.every_expression_has_data()?;
        self.every_metric_is_documented()?;
        self.every_rule_is_healthy()
    }

    fn every_expression_has_data(&self) -> Result<()> {
        let (mut evaluated, mut excused) = (0, Vec::new());
        let mut unexpected = Vec::new();
        for query in dashboards::all().iter().flat_map(|board| of_dashboard(&board.json())) {
            evaluated += 1;
            let answer = self.answer(&query)?;
            let excuse = match (answer, self.system) {
                (Answer::NonZero, _) | (Answer::Zero, System::Healthy) => continue,
                (Answer::Empty, _) => self.system.excuses(&query.expression, &query.element),
                (Answer::Zero, System::Failing) => {
                    ZERO_WHEN_FAILING.iter().any(|(title, _why)| query.element == *title)
                }
            };
            if excuse {
                excused.push(query.element);
            } else {
                unexpected.push((answer, query));
            }
        }
        eprintln!("dashboards: {evaluated} expressions; empty or 0 with a reason: {excused:?}");
        ensure!(evaluated > 80, "only {evaluated} expressions were found");
        ensure!(unexpected.is_empty(), "of {evaluated} expressions: {unexpected:#?}");
        Ok(())
    }

    fn answer(&self, query: &DashboardExpression) -> Result<Answer> {
        let expression = interpolated(&query.expression, self.times);
        let series = self.server.query_range(&expression, self.time, self.time, 1.0)?;
        let points = series.iter().flat_map(|series| &series.points);
        let mut values = points.map(|(_, value)| *value).filter(|value| !value.is_nan()).peekable();
        if values.peek().is_none() {
            return Ok(Answer::Empty);
        }
        Ok(if values.all(|value| value.abs() < f64::EPSILON) {
            Answer::Zero
        } else {
            Answer::NonZero
        })
    }

    /// The scraped metrics are exactly the documented ones.
    fn every_metric_is_documented(&self) -> Result<()> {
        let names = self.server.data("/api/v1/label/__name__/values")?;
        let names: BTreeSet<_> = elements(&names).iter().filter_map(Value::as_str).collect();
        // Prometheus's own series and those of the rules. An agent maps the kernel's buffers, so
        // its address space is not documented.
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
        ensure!(unknown.is_empty(), "without documentation: {unknown:?}");
        let may_be_absent =
            |metric: &Metric| self.system == System::Healthy && metric.absence_reason.is_some();
        let absent: Vec<_> = METRICS
            .iter()
            .filter(|metric| !may_be_absent(metric))
            .filter(|metric| !names.iter().any(|name| metric.occurs_in(name)))
            .map(|metric| metric.name)
            .collect();
        ensure!(absent.is_empty(), "documented, but not served: {absent:?}");
        Ok(())
    }

    /// No rule has an error, and each recording rule has a series or a reason for none.
    fn every_rule_is_healthy(&self) -> Result<()> {
        let rules = self.evaluated_rules()?;
        eprintln!("dashboards: {} rules", rules.len());
        ensure!(rules.len() > 20, "only {} rules were loaded", rules.len());
        for rule in rules {
            ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
            let text = |key: &str| rule[key].as_str().unwrap_or_default();
            let (name, expression) = (text("name"), text("query"));
            if rule["type"] == "recording" && !self.system.excuses(expression, name) {
                let recorded = self.server.query(name)?;
                ensure!(!recorded.is_empty(), "{name} has no series: {expression}");
            }
        }
        Ok(())
    }

    /// The rules, once each was evaluated.
    fn evaluated_rules(&self) -> Result<Vec<Value>> {
        let mut rules = Vec::new();
        wait_until(|| {
            let data = self.server.data("/api/v1/rules")?;
            let groups = elements(&data["groups"]).iter();
            rules = groups.flat_map(|group| elements(&group["rules"])).cloned().collect();
            let unknown = rules.iter().find(|rule| rule["health"] == "unknown");
            Ok(unknown.map(|rule| format!("{} was not evaluated", rule["name"])))
        })?;
        Ok(rules)
    }
}
