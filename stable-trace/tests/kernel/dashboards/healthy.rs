//! On a busy and healthy system every expression has data, except those that show faults.

use anyhow::{Result, ensure};
use stable_trace_dashboards::expressions::Durations;
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::prometheus::Prometheus;

use super::queries::{Queries, System};
use crate::harness::prometheus_server::free_address;
use crate::harness::{Agent, Disk, Fs, PrometheusServer, Requirement, Scratch, Test, wait_until};

/// Enough scrapes for a rate over ten seconds of every series.
const SCRAPES: f64 = 15.0;
const TIMES: Durations = Durations { rate_interval: 10, range: 10 };

pub(crate) fn test() -> Test {
    Test::native("every_expression_has_data_while_wac_runs", while_wac_runs)
        .requires_traced_loop_device()
        .requires(Requirement::Program("prometheus"))
}

fn while_wac_runs() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let address = free_address()?;
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
    let prometheus = PrometheusServer::of(&[&address], 1)?;
    wait_until(|| {
        let scrapes = prometheus.scrapes(&address)?;
        Ok((scrapes < SCRAPES).then(|| format!("{scrapes} scrapes of {SCRAPES}")))
    })?;

    let server = prometheus.api();
    Queries::now(server, System::Healthy, TIMES)?.all_have_answers()?;
    no_critical_alert_fires(server)
}

/// Warnings are allowed: the kernel may lack a feature.
fn no_critical_alert_fires(server: &Prometheus) -> Result<()> {
    let alerts = server.data("/api/v1/alerts")?;
    let critical: Vec<_> = elements(&alerts["alerts"])
        .iter()
        .filter(|alert| alert["labels"]["severity"] == "critical")
        .collect();
    ensure!(critical.is_empty(), "{critical:#?}");
    Ok(())
}
