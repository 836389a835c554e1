//! Every expression of every dashboard and rule, asked of a real Prometheus that scrapes a real
//! agent.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::Value;
use stable_trace_dashboards::asked::{self, Asked, Times, filled_in, list};
use stable_trace_dashboards::boards;
use stable_trace_dashboards::metric::{METRICS, Metric, why_empty};
use stable_trace_dashboards::prometheus::Prometheus;

use crate::bed::prometheus_server::free_port;
use crate::bed::{Agent, Disk, Fs, Need, PrometheusServer, Scratch, Test, eventually};

/// Enough for a rate over ten seconds everywhere.
const SCRAPES: u32 = 15;
const TIMES: Times = Times { rate_interval: 10, range: 10 };

/// Panels that show what is wrong, and nothing where nothing is; the reasons by their metrics are in
/// [`why_empty`].
const EMPTY_WHEN_ALL_IS_WELL: [(&str, &str); 2] = [
    ("Agents down", "every agent answers"),
    ("Groups without a probe", "every group has a probe on this kernel"),
];

pub fn tests() -> Vec<Test> {
    vec![
        Test::native("dashboards::every_expression_has_data_while_wac_runs", while_wac_runs)
            .needs(Need::Root)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::Program("losetup"))
            .needs(Need::Program("prometheus")),
    ]
}

fn while_wac_runs() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::looped(64)?, true)?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let path = scratch.path().to_string_lossy();
    let _agent = Agent::start([
        "wac",
        "--profile=c",
        "--threads=16",
        "--duration=1h",
        "--path",
        &path,
        "--listen",
        &address,
    ])?;
    let prometheus = PrometheusServer::of(&address)?;
    prometheus.await_scrapes(SCRAPES)?;

    let server = prometheus.api();
    let healthy = |asked: &Asked| {
        let panel = |(place, why): &(&str, &'static str)| (asked.place == *place).then_some(*why);
        why_empty(&asked.expression).or_else(|| EMPTY_WHEN_ALL_IS_WELL.iter().find_map(panel))
    };
    every_expression_has_data(server, healthy)?;
    every_metric_is_known(server)?;
    every_rule_is_well(server)?;
    nothing_fires(server)
}

/// Of each expression that may be empty, `excuse` gives the reason.
fn every_expression_has_data(
    server: &Prometheus,
    excuse: impl Fn(&Asked) -> Option<&'static str>,
) -> Result<()> {
    let mut asked = 0;
    let mut without = Vec::new();
    for question in boards::all().iter().flat_map(|board| asked::of_board(&board.json())) {
        asked += 1;
        let series = server.query(&filled_in(&question.expression, TIMES))?;
        let has_data = series.iter().flat_map(|series| &series.points).any(|(_, v)| !v.is_nan());
        if !has_data && excuse(&question).is_none() {
            without.push(question);
        }
    }
    ensure!(asked > 80, "only {asked} expressions were found");
    ensure!(without.is_empty(), "of {asked} expressions these have no data: {without:#?}");
    Ok(())
}

/// What is scraped is what is documented, and all of it.
fn every_metric_is_known(server: &Prometheus) -> Result<()> {
    let names = server.data("/api/v1/label/__name__/values")?;
    let names: BTreeSet<_> = list(&names).iter().filter_map(Value::as_str).collect();
    // Prometheus's own, and what the rules made; the address space says nothing of an agent that
    // maps the kernel's buffers.
    let not_ours = |name: &&str| {
        name.contains(':')
            || name.starts_with("ALERTS")
            || name.starts_with("scrape_")
            || *name == "process_virtual_memory_bytes"
    };
    let unknown: Vec<_> =
        names.iter().filter(|name| !not_ours(name) && Metric::of_series(name).is_none()).collect();
    ensure!(unknown.is_empty(), "nobody documents {unknown:?}");
    let absent: Vec<_> = METRICS
        .iter()
        .filter(|metric| metric.absent.is_none() && !names.iter().any(|name| metric.is_in(name)))
        .map(|metric| metric.name)
        .collect();
    ensure!(absent.is_empty(), "nobody serves {absent:?}");
    Ok(())
}

/// No rule has an error; each recording rule has made a series, unless a healthy system has none.
fn every_rule_is_well(server: &Prometheus) -> Result<()> {
    let mut rules = Vec::new();
    // Each is evaluated once a second, and may not have been yet.
    eventually(|| {
        let data = server.data("/api/v1/rules")?;
        rules =
            list(&data["groups"]).iter().flat_map(|group| list(&group["rules"])).cloned().collect();
        let unknown = rules.iter().find(|rule| rule["health"] == "unknown");
        Ok(unknown.map(|rule| format!("{} was not evaluated", rule["name"])))
    })?;
    ensure!(rules.len() > 20, "only {} rules were loaded", rules.len());
    for rule in rules {
        ensure!(rule["health"] == "ok", "{}: {}", rule["name"], rule["lastError"]);
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        if rule["type"] == "recording" && why_empty(&text("query")).is_none() {
            let made = server.query(&text("name"))?;
            ensure!(!made.is_empty(), "{} made nothing of {}", rule["name"], rule["query"]);
        }
    }
    Ok(())
}

/// A busy and healthy system alarms nobody; what its kernel cannot do is worth a warning.
fn nothing_fires(server: &Prometheus) -> Result<()> {
    let alerts = server.data("/api/v1/alerts")?;
    let critical: Vec<_> = list(&alerts["alerts"])
        .iter()
        .filter(|alert| alert["labels"]["severity"] == "critical")
        .collect();
    ensure!(critical.is_empty(), "{critical:#?}");
    Ok(())
}
