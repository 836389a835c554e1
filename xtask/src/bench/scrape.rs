//! Duration of a scrape with the maximum number of series, and memory after many scrapes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::agent::{Agent, workload};
use super::numbers::{Numbers, number};
use super::table::Table;
use crate::progress;
use crate::scratch::Scratch;

/// File systems, each with stalls of three contexts: enough to reach the limit of stall series.
const FILE_SYSTEMS: usize = 18;

/// Duration of the workload on each.
const RUN: Duration = Duration::from_millis(500);

/// Total number of scrapes.
const SCRAPES: usize = 10_000;

/// Scrapes before the first memory sample, for allocations that happen once.
const WARM_UP: usize = 500;

pub(crate) fn bench(agent: &Path) -> Result<()> {
    let tracing = Agent::with_metrics(agent)?;
    let mut client = Client::connect(&tracing)?;
    let mut all = Vec::new();
    for number in 0..FILE_SYSTEMS {
        progress::step(format!("scrape: stalls on file system {} of {FILE_SYSTEMS}", number + 1));
        let scratch = Scratch::ext4()?;
        workload(agent, &scratch.mount_point(), "c", RUN)?;
        all.push(scratch);
    }
    let series = client.scrape()?.lines().filter(|line| !line.starts_with('#')).count();
    let idle = repeat(&mut client, &tracing, SCRAPES)?;

    progress::step("scrape: during a flood of stalls");
    let scratch = all.last().context("no file system")?.mount_point();
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| workload(agent, &scratch, "a", Duration::from_secs(10)));
        let mut times = Vec::new();
        while !flood.is_finished() {
            times.push(timed(&mut client)?);
        }
        flood.join().ok().context("the workload's thread panicked")??;
        anyhow::Ok(Numbers::new(times))
    })?;
    tracing.stop()?;

    println!(
        "\n{series} series, {SCRAPES} scrapes of one connection, stalls in {FILE_SYSTEMS} file systems\n"
    );
    let mut table = Table::new(["scrape, ms", "median", "p90", "minimum", "maximum"]);
    for (what, times) in [("no other load", &idle.times), ("with wac a, 64 threads", &flood)] {
        let (minimum, maximum) = times.spread();
        let [median, p90, minimum, maximum] =
            [times.median(), times.p90(), minimum, maximum].map(|time| number(time, 2));
        table.row([what.to_owned(), median, p90, minimum, maximum]);
    }
    println!("{table}");
    println!(
        "Resident memory after {WARM_UP} scrapes: {} KiB; after {SCRAPES}: {} KiB",
        idle.memory[0], idle.memory[1]
    );
    Ok(())
}

/// Durations in milliseconds, and resident memory in KiB after the warm-up and at the end.
struct Repeated {
    times: Numbers,
    memory: [u64; 2],
}

fn repeat(client: &mut Client, tracing: &Agent, scrapes: usize) -> Result<Repeated> {
    let mut times = Vec::new();
    let mut first = 0;
    for scrape in 0..scrapes {
        if scrape == WARM_UP {
            first = tracing.resident()?;
        }
        if scrape % 1_000 == 0 {
            progress::step(format!("scrape: {scrape} of {scrapes}"));
        }
        times.push(timed(client)?);
    }
    Ok(Repeated { times: Numbers::new(times), memory: [first, tracing.resident()?] })
}

fn timed(client: &mut Client) -> Result<f64> {
    let started = Instant::now();
    client.scrape()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// A client that keeps its connection open, as Prometheus does.
struct Client {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Client {
    fn connect(tracing: &Agent) -> Result<Self> {
        let url = tracing
            .metrics
            .as_deref()
            .context("the agent's `start` event has no URL of metrics")?;
        let (address, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .with_context(|| format!("not a URL: {url}"))?;
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {url}"))?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        Ok(Self { stream: BufReader::new(stream), request })
    }

    fn scrape(&mut self) -> Result<String> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let mut length = None;
        let mut first = String::new();
        self.stream.read_line(&mut first)?;
        if !first.starts_with("HTTP/1.1 200 ") {
            bail!("the scrape failed: `{}`", first.trim());
        }
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().ok();
            }
        }
        let mut page = vec![0; length.context("the response has no content-length")?];
        self.stream.read_exact(&mut page)?;
        Ok(String::from_utf8(page)?)
    }
}
