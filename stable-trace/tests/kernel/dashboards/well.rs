//! A busy and healthy system: everything has data, but for what shows faults.

use anyhow::{Result, ensure};
use stable_trace_dashboards::expressions::Durations;
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::prometheus::Prometheus;

use super::questions::{Questions, System};
use crate::bed::prometheus_server::free_port;
use crate::bed::{Agent, Disk, Fs, Need, PrometheusServer, Scratch, Test, eventually};

/// Enough for a rate over ten seconds everywhere.
const SCRAPES: f64 = 15.0;
const TIMES: Durations = Durations { rate_interval: 10, range: 10 };

pub fn test() -> Test {
    Test::native("dashboards::every_expression_has_data_while_wac_runs", while_wac_runs)
        .needs(Need::Root)
        .needs(Need::Agent)
        .needs(Need::Tracefs)
        .needs(Need::Program("losetup"))
        .needs(Need::Program("prometheus"))
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
    let prometheus = PrometheusServer::of(&[&address], 1)?;
    eventually(|| {
        let scrapes = prometheus.scrapes(&address)?;
        Ok((scrapes < SCRAPES).then(|| format!("{scrapes} scrapes of {SCRAPES}")))
    })?;

    let server = prometheus.api();
    Questions::now(server, System::Well, TIMES)?.all_have_answers()?;
    nothing_fires(server)
}

/// It alarms nobody; what its kernel cannot do is worth a warning.
fn nothing_fires(server: &Prometheus) -> Result<()> {
    let alerts = server.data("/api/v1/alerts")?;
    let critical: Vec<_> = elements(&alerts["alerts"])
        .iter()
        .filter(|alert| alert["labels"]["severity"] == "critical")
        .collect();
    ensure!(critical.is_empty(), "{critical:#?}");
    Ok(())
}
