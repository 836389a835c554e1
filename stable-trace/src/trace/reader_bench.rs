//! How many lines a second one CPU makes of records: `cargo xtask bench reader`.

use std::{fs::File, os::unix::fs::MetadataExt as _, time::Duration};

use bytes::Bytes;
use rustix::{
    fs::{major, minor},
    time::{ClockId, clock_gettime},
};
use stable_trace_analysis::{correlate::verdict::Limits, event::Output, sink::json::JsonSink};
use stable_trace_common::{
    backing::{BY_DEV, Backing},
    record::{STALL, StallRecord},
};

use super::{
    clock,
    emitter::Emitter,
    outputs::{Destination, Outputs, Stream},
    tracer::{TraceConfig, Tracer},
};
use crate::{enrich::decode::stall_bytes, probes::load::Settings};

/// Stalls of one measurement.
const RECORDS: u64 = 2_000_000;

/// Records between two looks at the outputs: some as many as one batch of the ring has.
const BATCH: u64 = 1_500;

/// Prints the CPU time of all threads for one line, in ns.
#[tokio::test]
#[ignore = "a benchmark, which needs root: cargo xtask bench reader"]
async fn cpu_time_of_a_line() {
    let config = TraceConfig {
        settings: Settings::of_everybody(1 << 20, u64::MAX),
        method: None,
        devices: Vec::new(),
        btf: None,
        evidence: None,
        stuck_after: Duration::MAX,
    };
    let mut tracer = Tracer::attach(config).unwrap();
    let null = File::options().write(true).open("/dev/null").unwrap();
    let json = Stream::new(null, "/dev/null".to_owned(), |text| Box::new(JsonSink::new(text)));
    let written = json.written();
    let destination = Destination { output: Output::File, sink: Box::new(json), written };
    let mut emitter = Emitter::new(Outputs::start(vec![destination]).unwrap(), Limits::default());

    // A file of a mounted file system, which this process has open.
    let file = tempfile::tempfile().unwrap().metadata().unwrap();
    let dev = major(file.dev()) << 20 | minor(file.dev());
    let like = stall(dev, file.ino());
    let before = cpu_time();
    for number in 0..RECORDS {
        let end_ns = clock::monotonic().ns();
        let record = StallRecord { end_ns, duration_ns: number, index: number % 16, ..like };
        tracer.receive(Bytes::from(stall_bytes(&record)), &mut emitter);
        if number % BATCH == 0 {
            emitter.flush();
            while emitter.outputs().are_behind() {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
    emitter.outputs().finish();
    let spent = cpu_time().checked_sub(before).unwrap();
    assert_eq!(emitter.counts()["stall"], RECORDS);
    println!("ns a line: {}", spent.as_nanos() / u128::from(RECORDS));
}

/// A stall of this process.
fn stall(dev: u32, ino: u64) -> StallRecord {
    let mut comm = [0; 16];
    comm[..6].copy_from_slice(b"wac-17");
    StallRecord {
        kind: STALL,
        size: StallRecord::SIZE,
        end_ns: 0,
        duration_ns: 0,
        ino,
        index: 0,
        cgroup_id: 1,
        stack: 0,
        pid: std::process::id(),
        tid: std::process::id(),
        comm,
        process: comm,
        backing: Backing { kind: BY_DEV, dev, ..Backing::NONE },
        subvolume: 0,
        padding: 0,
    }
}

/// CPU time of all threads so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}
