//! The plan for saved facts of real kernels. No running kernel is needed: `cargo xtask fixtures`
//! saves the facts, and a change in a kernel shows as a failing test.

mod attaching;
mod offsets;
mod properties;

use stable_trace::probes::facts::Facts;

#[allow(clippy::panic, clippy::unwrap_used, reason = "a test without its facts fails")]
fn facts(kernel: &str) -> Facts {
    let text = match kernel {
        "5.10" => include_str!("../fixtures/kernel-5.10.json"),
        "6.1" => include_str!("../fixtures/kernel-6.1.json"),
        "6.12" => include_str!("../fixtures/kernel-6.12.json"),
        "7.3" => include_str!("../fixtures/kernel-7.3.json"),
        "6.18" => include_str!("../fixtures/native-6.18.json"),
        _ => panic!("no facts are saved of kernel {kernel}"),
    };
    serde_json::from_str(text).unwrap()
}

/// The kernels whose facts are saved: the laboratory's, and 6.18, which has no kprobes and refuses
/// fentry.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];

#[test]
fn facts_are_of_the_kernel_in_their_file_name() {
    for kernel in KERNELS {
        let release = facts(kernel).release;
        let rest = release.strip_prefix(kernel).unwrap_or_default();
        assert!(rest.starts_with('.'), "{release} is saved as {kernel}");
    }
}

#[test]
fn facts_survive_a_round_trip_through_json() {
    for kernel in KERNELS {
        let facts = facts(kernel);
        // A key that `Facts` does not know would be lost here.
        let value = serde_json::to_value(&facts).unwrap();
        let again: Facts = serde_json::from_value(value).unwrap();
        assert_eq!(again, facts);
        assert!(!facts.functions.is_empty() && !facts.members.is_empty(), "{kernel}");
    }
}
