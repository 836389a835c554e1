//! `cargo xtask dashboards`: writes the JSON files that Grafana imports, and draws them.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use stable_trace_dashboards::dashboards;
use stable_trace_dashboards::draw::{self, TimeRange};
use stable_trace_dashboards::prometheus::Prometheus;

use crate::workspace;

#[derive(Subcommand)]
pub(crate) enum DashboardsCommand {
    /// Generate `dashboards/*.json`.
    Write,
    /// Draw the dashboards with data of a Prometheus server: `dashboards/pictures/*.svg`.
    Draw(DrawArgs),
}

#[derive(Args)]
pub(crate) struct DrawArgs {
    /// Address of the Prometheus server.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9090")]
    prometheus: String,
    /// Time range of the pictures, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    range: u32,
    /// Value of `$__rate_interval` in seconds: at least four scrape intervals.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    rate_interval: u32,
}

pub(crate) fn dashboards(command: &DashboardsCommand) -> Result<()> {
    match command {
        DashboardsCommand::Write => write(),
        DashboardsCommand::Draw(args) => draw(args),
    }
}

fn write() -> Result<()> {
    let folder = workspace::root()?.join("dashboards");
    for dashboard in dashboards::all() {
        let path = folder.join(format!("{}.json", dashboard.name));
        fs::write(&path, dashboard.file_content())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn draw(args: &DrawArgs) -> Result<()> {
    let folder = workspace::root()?.join("dashboards/pictures");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let server = Prometheus::at(&args.prometheus);
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).context("the system clock is before 1970")?;
    let end = now.as_secs_f64();
    let rate_interval = args.rate_interval.into();
    let time_range = TimeRange { start: end - f64::from(args.range), end, rate_interval };
    for dashboard in dashboards::all() {
        let path = folder.join(format!("{}.svg", dashboard.name));
        let picture = draw::dashboard(&dashboard.json(), &server, time_range)?;
        fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
