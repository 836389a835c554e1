//! A Prometheus of one test's own: it scrapes agents, and evaluates the rules.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use stable_trace_dashboards::prometheus::Prometheus;
use tempfile::TempDir;

use super::eventually;

/// As they are shipped.
const ALERTS: &str = include_str!("../../../../dashboards/alerts.yaml");
const RULES: &str = include_str!("../../../../dashboards/rules.yaml");

/// A running server. Dropped, it is killed and its data is gone.
#[derive(Debug)]
pub struct PrometheusServer {
    child: Child,
    api: Prometheus,
    folder: TempDir,
}

impl PrometheusServer {
    /// Starts one that scrapes each `HOST:PORT` as the job `stable-trace`, and evaluates each rule,
    /// every so many seconds; returns once it is ready.
    pub fn of(targets: &[&str], interval: u32) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for Prometheus")?;
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
            fs::write(folder.path().join(name), text).with_context(|| format!("no {name}"))?;
        }
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = File::create(folder.path().join("log")).context("no log of Prometheus")?;
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
        // SAFETY: between fork and exec the closure makes one system call: it takes no lock and
        // allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().context("cannot start prometheus")?;
        let mut started = Self { child, api: Prometheus::at(&address), folder };
        eventually(|| {
            let ended = started.child.try_wait()?;
            ensure!(ended.is_none(), "Prometheus ended: {}", started.log());
            let answer = started.api.get("/-/ready").unwrap_or_default();
            Ok((!answer.contains("is Ready")).then(|| format!("it says `{}`", answer.trim())))
        })?;
        Ok(started)
    }

    /// Where to ask.
    pub const fn api(&self) -> &Prometheus {
        &self.api
    }

    /// How often it has scraped this target, and had an answer.
    pub fn scrapes(&self, target: &str) -> Result<f64> {
        self.number(&format!("sum_over_time(up{{instance=\"{target}\"}}[10m])"))
    }

    /// What an expression with one answer comes to now; 0 if it has none.
    pub fn number(&self, expression: &str) -> Result<f64> {
        let answer = self.api.query(expression)?;
        ensure!(answer.len() < 2, "{expression} has {} answers", answer.len());
        let point = answer.first().and_then(|series| series.points.first());
        Ok(point.map_or(0.0, |(_, value)| *value))
    }

    /// What it complained of.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PrometheusServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}
