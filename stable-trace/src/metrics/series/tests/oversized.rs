//! A snapshot with more of everything than the limits allow.

use super::*;
use crate::metrics::snapshot::WaitingTask;

const CHECKS: [Check; 4] =
    [Check::Guard, Check::ApplicationTag, Check::ReferenceTag, Check::Unknown];

const SOURCES: [Source; 5] =
    [Source::Scsi, Source::Nvme, Source::Verify, Source::Block, Source::Filesystem];

/// 10,000 process names, hundreds of devices: more of everything than the limits allow.
pub(super) fn oversized(round: u32) -> Snapshot {
    let contexts = Context::ALL;
    let stalls = (0..300).flat_map(|number| {
        contexts
            .map(|context| stalls(number, context as u64 + 1, context, &count(round + number % 3)))
    });
    let processes = (0..10_000).flat_map(|number| {
        let name = format!("worker-{number}");
        contexts.map(|context| process(&name, context, u64::from(round * 1_000 + number)))
    });
    let unstable = (0..300).flat_map(|number| {
        [Grade::Violation, Grade::Hole, Grade::Harmless].into_iter().flat_map(move |grade| {
            [0_u32, 1].map(|context| UnstableCount {
                key: UnstableKey { backing: backing(number), context, required: grade as u32 },
                context: if context == 0 { Context::WriteBegin } else { Context::PageMkwrite },
                grade,
                device_fs: device_fs(number),
                count: u64::from(round),
            })
        })
    });
    let protection =
        Protection { format: "T10-DIF-TYPE1-CRC".to_owned(), tag_size: 0, interval_bytes: None };
    let devices = (0..500).map(|number| Device {
        device: format!("sd{number}"),
        dev: DeviceId::new(8, number),
        stable_writes: number % 2 == 0,
        integrity: (number % 3 == 0).then(|| protection.clone()),
        risk: None,
    });
    let integrity = (0..300).flat_map(|number| {
        [Operation::Read, Operation::Write].into_iter().flat_map(move |op| {
            CHECKS.into_iter().flat_map(move |check| {
                SOURCES.map(|source| IntegrityCount {
                    key: IntegrityKey {
                        dev: dev_t(8, number),
                        op: op as u32,
                        check: check as u32,
                        source: source as u32,
                    },
                    device: Some(format!("sd{number}")),
                    op,
                    check,
                    source,
                    count: u64::from(round),
                })
            })
        })
    });
    let probes = (0..200).map(|number| Probe {
        group: Group::WriteBegin,
        function: format!("function_{number}"),
        method: Method::Kprobe,
        attached: number % 2 == 0,
        reason: None,
    });
    let programs = (0..200).map(|number| Program {
        name: format!("program_{number}"),
        run_ns: u64::from(round),
        runs: u64::from(round),
    });
    let maps =
        (0..100).map(|number| MapFill { name: format!("MAP_{number}"), entries: 1, capacity: 2 });
    let errors: BTreeMap<_, _> =
        (0..134).map(|errno| (format!("E{errno}"), u64::from(round))).collect();
    let workload = ["a", "b", "c", "d", "e", "f", "g"].into_iter().flat_map(|profile| {
        ["write", "mmap"].map(|mode| {
            let counts = ModeCount {
                operations: u64::from(round),
                bytes: u64::from(round),
                errors: errors.clone(),
            };
            ((profile.to_owned(), mode.to_owned()), counts)
        })
    });
    Snapshot {
        waiting: waiting(round),
        uptime: Duration::from_secs(round.into()),
        stalls: stalls.collect(),
        mounted: (0..300).map(device_fs).collect(),
        processes: processes.collect(),
        unstable: unstable.collect(),
        integrity: integrity.collect(),
        verdicts: verdicts(round),
        proofs: proofs(round),
        devices: devices.collect(),
        missed: (0..200).map(|number| (format!("function_{number}"), u64::from(round))).collect(),
        probes: probes.collect(),
        events_received: u64::from(round),
        events_lost: u64::from(round),
        outputs_lost: Output::ALL.map(|output| (output, u64::from(round))).into(),
        stack_walks: u64::from(round),
        integrity_repeated: u64::from(round),
        evidence_skipped: u64::from(round),
        map_bytes: (0..200).map(|number| (format!("MAP_{number}"), 4096)).collect(),
        programs: programs.collect(),
        maps: maps.collect(),
        workload: workload.collect(),
        process: crate::metrics::process::ProcessMetrics::read(),
    }
}

fn waiting(round: u32) -> Vec<WaitingTask> {
    let on_device = |number| {
        Context::ALL.map(|context| WaitingTask {
            context,
            device_fs: device_fs(number),
            age_ns: u64::from(round),
        })
    };
    (0..300).flat_map(on_device).collect()
}

fn verdicts(round: u32) -> Vec<VerdictCount> {
    let of_disk = |number| {
        Cause::ALL.map(|cause| VerdictCount {
            device: Some(format!("sd{number}")),
            cause,
            count: u64::from(round),
        })
    };
    (0..300).flat_map(of_disk).collect()
}

fn proofs(round: u32) -> Vec<ProofCount> {
    let of_disk = |number| {
        ProofKind::ALL.iter().map(move |kind| ProofCount {
            device: Some(format!("sd{number}")),
            kind: *kind,
            count: u64::from(round),
        })
    };
    (0..300).flat_map(of_disk).collect()
}
