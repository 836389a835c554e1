//! The label `comm` of a process.

/// The names of kernel threads that come in numbers, as `prefix` and what the label is.
const NUMBERED: [(&str, &str); 5] = [
    // `kworker/CPU:ID`, `kworker/uPOOL:ID` (create_worker, kernel/workqueue.c, 5.10 to 7.3).
    ("kworker/", "kworker"),
    // `iou-wrk-PID` and `iou-sqp-PID` (io_uring/io-wq.c and sqpoll.c, 5.12 to 7.3).
    ("iou-wrk-", "iou-wrk"),
    ("iou-sqp-", "iou-sqp"),
    // One a memory node (mm/vmscan.c and mm/compaction.c).
    ("kswapd", "kswapd"),
    ("kcompactd", "kcompactd"),
];

/// The label of a process: its name, without the number at the end of a kernel worker's or an `io_uring`
/// worker's, of which there is no end.
pub(super) fn process_label(name: &str) -> &str {
    let numbered = NUMBERED.iter().find(|(prefix, _)| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == 'u'))
    });
    numbered.map_or(name, |(_, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_workers_are_no_part_of_the_label() {
        for (name, label) in [
            ("kworker/0:1", "kworker"),
            ("kworker/1:2H", "kworker"),
            ("kworker/u8:3", "kworker"),
            ("kworker/R-xfs", "kworker/R-xfs"),
            ("iou-wrk-4711", "iou-wrk"),
            ("iou-sqp-4711", "iou-sqp"),
            ("kswapd0", "kswapd"),
            ("kcompactd1", "kcompactd"),
            ("kswapdaemon", "kswapdaemon"),
            ("postgres", "postgres"),
            ("worker-007", "worker-007"),
            ("", ""),
        ] {
            assert_eq!(process_label(name), label, "{name}");
        }
    }
}
