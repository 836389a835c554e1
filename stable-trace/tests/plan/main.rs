//! The plan on what real kernels have, saved by `cargo xtask fixtures`: no kernel is needed, and one
//! that moves something shows as a difference here.

mod attaching;
mod offsets;
mod properties;

use stable_trace::probes::facts::Facts;

/// The facts of one kernel.
#[allow(clippy::panic, clippy::unwrap_used, reason = "a test without its facts fails")]
fn facts(kernel: &str) -> Facts {
    let text = match kernel {
        "5.10" => include_str!("../fixtures/kernel-5.10.json"),
        "6.1" => include_str!("../fixtures/kernel-6.1.json"),
        "6.12" => include_str!("../fixtures/kernel-6.12.json"),
        "7.3" => include_str!("../fixtures/kernel-7.3.json"),
        "6.18" => include_str!("../fixtures/native-6.18.json"),
        _ => panic!("there are no facts of kernel {kernel}"),
    };
    serde_json::from_str(text).unwrap()
}

/// Every kernel whose facts are saved: the laboratory's, and one without kprobes that refuses
/// fentry.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];

#[test]
fn every_kernel_is_what_its_name_says() {
    for kernel in KERNELS {
        let release = facts(kernel).release;
        let rest = release.strip_prefix(kernel).unwrap_or_default();
        assert!(rest.starts_with('.'), "{release} is saved as {kernel}");
    }
}

#[test]
fn facts_are_saved_as_the_agent_writes_them_with_keys_in_order() {
    for kernel in KERNELS {
        let facts = facts(kernel);
        // Nothing in the file is unknown to the plan, or it would be lost here.
        let value = serde_json::to_value(&facts).unwrap();
        let again: Facts = serde_json::from_value(value).unwrap();
        assert_eq!(again, facts);
        assert!(!facts.functions.is_empty() && !facts.members.is_empty(), "{kernel}");
    }
}
