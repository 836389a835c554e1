//! The metrics endpoint without a kernel: hostile clients, TLS and passwords.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod clients;
mod promtool;
mod web_config;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use stable_trace::metrics::{
    series::Build,
    server::{ClientLimits, Endpoint, EndpointConfig, SnapshotRequest},
    snapshot::{DeviceFs, ProcessTime, Snapshot, Stalls, UnstableCount},
    web_config::WebConfig,
};
use stable_trace_analysis::event::{Context, Grade, Group, Method, Probe};
use stable_trace_common::{
    backing::Backing,
    histogram::{Histogram, HistogramKey},
    process::ProcessKey,
    unstable::UnstableKey,
};
use tokio::sync::mpsc;

/// A client fails the test after this time.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// An endpoint over a simulated run: each snapshot has one more received event.
struct TestEndpoint {
    endpoint: Endpoint,
    snapshots: Arc<AtomicU64>,
}

impl TestEndpoint {
    fn start(limits: ClientLimits, web: WebConfig) -> Self {
        Self::with_snapshot_hook(limits, web, || {})
    }

    /// Calls `hook` within each snapshot.
    fn with_snapshot_hook(
        limits: ClientLimits,
        web: WebConfig,
        mut hook: impl FnMut() + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (snapshots, mut requests) = mpsc::channel::<SnapshotRequest>(1);
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            while let Some(request) = requests.blocking_recv() {
                let number = counter.fetch_add(1, Relaxed) + 1;
                hook();
                let _ = request.send(Ok(snapshot(number)));
            }
        });
        let text = str::to_owned;
        let build = Build { version: text("0"), revision: text("r"), kernel: text("6.12 \"<&") };
        let config = EndpointConfig { snapshots, devices: Box::new(Vec::new), build, web, limits };
        let endpoint = Endpoint::start(listener, config).unwrap();
        endpoint.set_ready();
        Self { endpoint, snapshots: count }
    }

    fn plain(limits: ClientLimits) -> Self {
        Self::start(limits, WebConfig::default())
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(CLIENT_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(CLIENT_TIMEOUT)).unwrap();
        stream
    }

    /// Sends bytes and returns the response up to the end of the connection.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The endpoint may close the connection before it has read everything.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }

    /// Head and body of a GET.
    fn get(&self, path: &str, headers: &str) -> (String, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.exchange(request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    /// Asserts that a scrape is answered.
    fn serves(&self) {
        let (head, body) = self.get("/metrics", "");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(body.contains("\nstable_trace_events_received_total "), "{body}");
    }

    fn snapshots(&self) -> u64 {
        self.snapshots.load(Relaxed)
    }
}

/// Reads to the end of the connection or to an error.
fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A snapshot with names that need escaping.
fn snapshot(number: u64) -> Snapshot {
    let special = "a\"b\\c\nd\u{fffd}{}=,é";
    let mut histogram = Histogram::EMPTY;
    for duration in [999, 1_000, 1_001, 5_000_000, 70_000_000_000] {
        histogram.record(duration);
    }
    let device_fs = DeviceFs { device: Some(special.to_owned()), fs: None };
    let probe = Probe {
        group: Group::WritebackWait,
        function: "sched:sched_switch".to_owned(),
        method: Method::Tracepoint,
        attached: false,
        reason: Some("because".to_owned()),
    };
    Snapshot {
        stalls: vec![Stalls {
            key: HistogramKey::OVERFLOW,
            context: Context::Sync,
            device_fs: device_fs.clone(),
            histogram,
        }],
        processes: vec![ProcessTime {
            key: ProcessKey { process: *b"a\"b\\c\nd.........", cgroup_id: 0, stack: 1 },
            name: Some(special.to_owned()),
            cgroup: Some(special.to_owned()),
            context: Context::WriteBegin,
            sum_ns: 1_500,
        }],
        unstable: vec![UnstableCount {
            key: UnstableKey { backing: Backing::NONE, context: 0, required: 0 },
            context: Context::WriteBegin,
            grade: Grade::Hole,
            device_fs,
            count: 2,
        }],
        probes: vec![probe],
        missed: BTreeMap::from([("f".to_owned(), 3)]),
        events_received: number,
        ..Snapshot::default()
    }
}

/// Runs a program with this standard input. Returns whether it succeeded, and its output.
fn run(command: &mut Command, input: &str) -> (bool, String) {
    use std::process::Stdio;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs it"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
