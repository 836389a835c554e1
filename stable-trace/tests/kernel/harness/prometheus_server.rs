//! A Prometheus server for one test: it scrapes agents and evaluates the shipped rules.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use stable_trace_dashboards::prometheus::Prometheus;
use tempfile::TempDir;

use super::process::{KillOnDrop, kill_with_parent};
use super::wait_until;

const ALERTS: &str = include_str!("../../../../dashboards/alerts.yaml");
const RULES: &str = include_str!("../../../../dashboards/rules.yaml");

/// A running server. On drop, it is killed and its data removed.
#[derive(Debug)]
pub(crate) struct PrometheusServer {
    child: KillOnDrop,
    api: Prometheus,
    folder: TempDir,
}

impl PrometheusServer {
    /// Starts a server that scrapes each `HOST:PORT` as the job `stable-trace`, and evaluates each
    /// rule, every `interval` seconds. Returns once it is ready.
    pub(crate) fn of(targets: &[&str], interval: u32) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for Prometheus")?;
        let quoted: Vec<_> = targets.iter().map(|target| format!("'{target}'")).collect();
        let targets = quoted.join(", ");
        let configuration = format!(
            "global: {{scrape_interval: {interval}s, evaluation_interval: {interval}s}}\n\
             rule_files: [alerts.yaml, rules.yaml]\n\
             scrape_configs:\n  - job_name: stable-trace\n    static_configs: [{{targets: [{targets}]}}]\n"
        );
        let files = [
            ("prometheus.yml", configuration.as_str()),
            ("alerts.yaml", ALERTS),
            ("rules.yaml", RULES),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text)
                .with_context(|| format!("cannot write {name}"))?;
        }
        let address = free_address()?;
        let log = File::create(folder.path().join("log"))
            .context("cannot create the log of Prometheus")?;
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg("--log.level=warn")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        kill_with_parent(&mut command);
        let child = KillOnDrop(command.spawn().context("cannot start prometheus")?);
        let mut started = Self { child, api: Prometheus::at(&address), folder };
        wait_until(|| {
            let ended = started.child.try_wait()?;
            ensure!(ended.is_none(), "Prometheus ended: {}", started.log());
            let answer = started.api.get("/-/ready").unwrap_or_default();
            let ready = answer.contains("is Ready");
            Ok((!ready).then(|| format!("Prometheus answers `{}`", answer.trim())))
        })?;
        Ok(started)
    }

    pub(crate) const fn api(&self) -> &Prometheus {
        &self.api
    }

    /// How many scrapes of this target have succeeded.
    pub(crate) fn scrapes(&self, target: &str) -> Result<f64> {
        self.number(&format!("sum_over_time(up{{instance=\"{target}\"}}[10m])"))
    }

    /// Evaluates an expression that has at most one series; 0 if it has none.
    pub(crate) fn number(&self, expression: &str) -> Result<f64> {
        let answer = self.api.query(expression)?;
        ensure!(answer.len() < 2, "{expression} has {} series", answer.len());
        let point = answer.first().and_then(|series| series.points.first());
        Ok(point.map_or(0.0, |(_, value)| *value))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// An address of this machine with a port that no process listens on.
pub(crate) fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.to_string())
}
