//! A recording in the trace-event format, which Perfetto and Chrome open: tasks as tracks, stalls as slices, and errors
//! as instants. The format is the "Trace Event Format" of the Chromium project, in its JSON object form.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use hashbrown::HashSet;
use serde::Serialize;

use crate::event::{Event, Line, Waiting, Workload, WorkloadState};

/// Threads whose names are written, at most. Tracks of others have numbers only.
const MAX_NAMES: usize = 1 << 20;

/// The process of the tracks that belong to no task. No task of user space has this id.
const OWN: u32 = 0;

/// A track that belongs to no task.
#[derive(Clone, Copy)]
enum OwnTrack {
    Integrity = 0,
    Workload = 1,
    Stream = 2,
}

/// Writes the lines of a recording as trace events, one by one.
pub struct TraceEvents<W> {
    out: W,
    /// The time of the first line in ns: times are counted from it, because a number of JSON is exact to 53 bits.
    began_ns: u64,
    last_ns: u64,
    is_empty: bool,
    named: HashSet<(u32, u32)>,
    /// Waits that have been told of and have not ended, by pid and tid, with their beginnings in ns.
    waiting: BTreeMap<(u32, u32), (u64, Waiting)>,
    /// Workloads that run, by profile, with their beginnings in ns.
    workloads: BTreeMap<String, u64>,
}

/// One trace event.
#[derive(Serialize)]
struct TraceEvent<'a, A> {
    name: &'a str,
    #[serde(rename = "cat")]
    category: &'a str,
    /// `X`: a slice; `i`: an instant; `M`: a name.
    #[serde(rename = "ph")]
    phase: char,
    /// In µs.
    #[serde(rename = "ts")]
    time: f64,
    /// In µs.
    #[serde(rename = "dur", skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    pid: u32,
    tid: u32,
    /// Of an instant. `g`: it concerns all tracks; `t`: its own.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    scope: Option<char>,
    args: A,
}

/// The name of a track.
#[derive(Serialize)]
struct TrackName<'a> {
    name: &'a str,
}

impl<W: Write> TraceEvents<W> {
    /// Begins the file.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        Ok(Self {
            out,
            began_ns: 0,
            last_ns: 0,
            is_empty: true,
            named: HashSet::new(),
            waiting: BTreeMap::new(),
            workloads: BTreeMap::new(),
        })
    }

    /// Writes the next line.
    pub fn line(&mut self, line: &Line) -> io::Result<()> {
        let at = line.instant_ns();
        if self.is_empty {
            self.began_ns = at;
            self.name("process_name", OWN, 0, "stable-trace")?;
            self.name("thread_name", OWN, OwnTrack::Integrity as u32, "integrity errors")?;
            self.name("thread_name", OWN, OwnTrack::Workload as u32, "workload")?;
            self.name("thread_name", OWN, OwnTrack::Stream as u32, "stream")?;
        }
        self.last_ns = self.last_ns.max(at);
        match &line.event {
            Event::Stall(stall) => {
                let process = stall.process.as_ref().unwrap_or(&stall.comm);
                self.name_task(stall.pid, stall.tid, process, &stall.comm)?;
                let track = (stall.pid, stall.tid);
                let span = (at.saturating_sub(stall.duration_ns), at);
                self.slice(&stall.function, stall.context.name(), span, track, stall)
            }
            Event::Waiting(waiting) => {
                let task = (waiting.pid, waiting.tid);
                if waiting.ended {
                    // Its stall is a line of its own.
                    self.waiting.remove(&task);
                } else {
                    let begin = at.saturating_sub(waiting.age_ns);
                    self.waiting.insert(task, (begin, waiting.clone()));
                }
                Ok(())
            }
            Event::UnstableWrite(write) => {
                let process = write.process.as_ref().unwrap_or(&write.comm);
                self.name_task(write.pid, write.tid, process, &write.comm)?;
                let name = format!("unstable write: {}", write.grade.name());
                self.instant(&name, "unstable_write", at, ('t', write.pid, write.tid), write)
            }
            Event::Integrity(error) => {
                let name = format!("integrity error: {} {}", error.op.name(), error.check.name());
                let track = ('g', OWN, OwnTrack::Integrity as u32);
                self.instant(&name, "integrity", at, track, error)
            }
            Event::Verdict(verdict) => {
                let name = format!("verdict: {}", verdict.cause.name());
                let track = ('t', OWN, OwnTrack::Integrity as u32);
                self.instant(&name, "verdict", at, track, verdict)
            }
            Event::Workload(workload) => self.workload(workload, at),
            Event::Lost(lost) => {
                self.instant("lost", "lost", at, ('t', OWN, OwnTrack::Stream as u32), lost)
            }
            Event::Summary(summary) => {
                self.waiting.clear();
                for waiting in &summary.waiting {
                    self.wait_in_progress(at.saturating_sub(waiting.age_ns), at, waiting)?;
                }
                self.instant("end", "summary", at, ('t', OWN, OwnTrack::Stream as u32), summary)
            }
            Event::Start(start) => {
                self.instant("start", "start", at, ('t', OWN, OwnTrack::Stream as u32), start)
            }
        }
    }

    /// Ends the file. What has not ended in the recording lasts until its end.
    pub fn finish(mut self) -> io::Result<W> {
        let last = self.last_ns;
        for (begin, waiting) in std::mem::take(&mut self.waiting).into_values() {
            self.wait_in_progress(begin, last, &waiting)?;
        }
        let track = (OWN, OwnTrack::Workload as u32);
        for (profile, begin) in std::mem::take(&mut self.workloads) {
            self.slice(&wac(&profile), "workload", (begin, last), track, ())?;
        }
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn workload(&mut self, workload: &Workload, at: u64) -> io::Result<()> {
        match workload.state {
            WorkloadState::Finished => {
                let begin = self.workloads.remove(&workload.profile).unwrap_or(at);
                let track = (OWN, OwnTrack::Workload as u32);
                self.slice(&wac(&workload.profile), "workload", (begin, at), track, workload)
            }
            WorkloadState::Started | WorkloadState::Progress => {
                self.workloads.entry(workload.profile.clone()).or_insert(at);
                Ok(())
            }
        }
    }

    fn wait_in_progress(&mut self, begin: u64, end: u64, waiting: &Waiting) -> io::Result<()> {
        let process = waiting.process.as_ref().unwrap_or(&waiting.comm);
        self.name_task(waiting.pid, waiting.tid, process, &waiting.comm)?;
        let name = format!("{} (not ended)", waiting.function);
        let track = (waiting.pid, waiting.tid);
        self.slice(&name, waiting.context.name(), (begin, end), track, waiting)
    }

    /// Names the tracks of a task when it is first seen.
    fn name_task(&mut self, pid: u32, tid: u32, process: &str, thread: &str) -> io::Result<()> {
        if self.named.len() >= MAX_NAMES {
            return Ok(());
        }
        if self.named.insert((pid, 0)) {
            self.name("process_name", pid, pid, process)?;
        }
        if self.named.insert((pid, tid)) {
            self.name("thread_name", pid, tid, thread)?;
        }
        Ok(())
    }

    fn name(&mut self, kind: &str, pid: u32, tid: u32, name: &str) -> io::Result<()> {
        let (category, phase, args) = ("__metadata", 'M', TrackName { name });
        let (time, duration, scope) = (0.0, None, None);
        let event =
            TraceEvent { name: kind, category, phase, time, duration, pid, tid, scope, args };
        self.write(&event)
    }

    /// A slice from one time to another, in ns, on the track of a thread.
    fn slice(
        &mut self,
        name: &str,
        category: &str,
        (begin, end): (u64, u64),
        (pid, tid): (u32, u32),
        args: impl Serialize,
    ) -> io::Result<()> {
        let duration = Some(micros(end.saturating_sub(begin.max(self.began_ns))));
        let time = micros(begin.saturating_sub(self.began_ns));
        let (phase, scope) = ('X', None);
        self.write(&TraceEvent { name, category, phase, time, duration, pid, tid, scope, args })
    }

    fn instant(
        &mut self,
        name: &str,
        category: &str,
        at: u64,
        (scope, pid, tid): (char, u32, u32),
        args: impl Serialize,
    ) -> io::Result<()> {
        let time = micros(at.saturating_sub(self.began_ns));
        let (phase, duration, scope) = ('i', None, Some(scope));
        self.write(&TraceEvent { name, category, phase, time, duration, pid, tid, scope, args })
    }

    fn write(&mut self, event: &TraceEvent<'_, impl Serialize>) -> io::Result<()> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.write_all(b",\n")?;
        }
        serde_json::to_writer(&mut self.out, event).map_err(io::Error::from)
    }
}

/// The name of a workload.
fn wac(profile: &str) -> String {
    format!("wac {profile}")
}

/// A time of a run in µs.
#[expect(clippy::cast_precision_loss, reason = "exact for 104 days")]
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const START: &str = r#""monotonic_ns":1000000,"type":"start","version":"0","kernel":"6.18","arch":"x86_64","hostname":"h","probes":[],"devices":[]"#;

    /// The events of a recording of these lines, without those that name tracks.
    fn events(lines: &[&str]) -> Vec<Value> {
        let mut trace = TraceEvents::new(Vec::new()).unwrap();
        for (seq, fields) in (1..).zip(lines) {
            let text = format!(r#"{{"seq":{seq},"time":"2026-11-30T00:00:00Z",{fields}}}"#);
            trace.line(&serde_json::from_str(&text).unwrap()).unwrap();
        }
        let mut file: Value = serde_json::from_slice(&trace.finish().unwrap()).unwrap();
        let Value::Array(events) = file["traceEvents"].take() else { panic!("{file}") };
        events.into_iter().filter(|event| event["ph"] != "M").collect()
    }

    fn stall(end_ns: u64, duration_ns: u64) -> String {
        format!(
            r#""monotonic_ns":{end_ns},"type":"stall","context":"sync","function":"f","duration_ns":{duration_ns},"pid":7,"tid":8,"comm":"t\"1","device":"sda","index":3"#
        )
    }

    #[test]
    fn a_stall_is_a_slice_of_its_thread() {
        let events = events(&[START, &stall(5_001_500, 2_000_250)]);
        let slice = &events[1];
        assert_eq!((&slice["ph"], &slice["name"]), (&"X".into(), &"f".into()));
        assert_eq!((&slice["pid"], &slice["tid"]), (&7.into(), &8.into()));
        assert_eq!((&slice["ts"], &slice["dur"]), (&2001.25.into(), &2000.25.into()));
        assert_eq!(slice["args"]["device"], "sda");
    }

    #[test]
    fn a_stall_that_began_before_the_recording_begins_with_it() {
        let events = events(&[START, &stall(1_500_000, 900_000)]);
        assert_eq!((&events[1]["ts"], &events[1]["dur"]), (&0.0.into(), &500.0.into()));
    }

    #[test]
    fn a_wait_that_does_not_end_lasts_until_the_end() {
        let waiting = |ended: bool, age_ns: u64| {
            format!(
                r#""monotonic_ns":9000000,"type":"waiting","context":"sync","function":"f","age_ns":{age_ns},"ended":{ended},"pid":7,"tid":8,"comm":"t","index":3"#
            )
        };
        let told = waiting(false, 2_000_000);
        let lost = r#""monotonic_ns":11000000,"type":"lost","count":1,"since_seq":1"#;
        let open = events(&[START, &told, lost]);
        let slice = open.last().unwrap();
        assert_eq!((&slice["ts"], &slice["dur"]), (&6000.0.into(), &4000.0.into()));
        let over = events(&[START, &told, &waiting(true, 2_000_000), lost]);
        assert!(over.iter().all(|event| event["ph"] != "X"), "{over:?}");
    }

    #[test]
    fn every_line_of_a_recording_is_there() {
        let recorded = include_str!("../../tests/fixtures/recordings/format-1.jsonl");
        let mut trace = TraceEvents::new(Vec::new()).unwrap();
        let mut kinds = BTreeMap::new();
        for line in crate::recording::Reader::new(recorded.as_bytes()) {
            let line = line.unwrap();
            trace.line(&line).unwrap();
            *kinds.entry(line.event.kind()).or_insert(0) += 1;
        }
        let file: Value = serde_json::from_slice(&trace.finish().unwrap()).unwrap();
        let events = file["traceEvents"].as_array().unwrap();
        let of = |phase: &str, category: &str| {
            let is = |event: &&Value| event["ph"] == phase && event["cat"] == category;
            events.iter().filter(is).count()
        };
        let slices = events.iter().filter(|event| event["ph"] == "X").count();
        assert_eq!(slices, kinds["stall"] + of("X", "workload"));
        assert!(of("X", "workload") > 0, "the recording has a workload");
        assert_eq!(of("i", "start") + of("i", "summary"), 2);
        let pids: HashSet<_> = events.iter().map(|event| event["pid"].as_u64()).collect();
        let named = of("M", "__metadata");
        assert!(named > pids.len(), "{named} names of {} processes", pids.len());
    }
}
