use std::collections::BTreeMap;

use prometheus::TextEncoder;
use proptest::prelude::*;
use stable_trace_common::histogram::{BOUNDED_BUCKETS, Histogram, upper_bound_ns};

use super::*;
use crate::metrics::family::Family;

fn gauge(labels: &[(&str, &str)], number: f64) -> MetricFamily {
    let mut family = Family::gauge("m", "Help.");
    family.value(labels, number);
    family.done().unwrap()
}

fn of(durations: &[u64]) -> MetricFamily {
    let mut histogram = Histogram::EMPTY;
    for &duration in durations {
        histogram.record(duration);
    }
    let mut family = Family::histogram("h_seconds", "Help.");
    family.buckets(&[("device", "sda")], &histogram);
    family.done().unwrap()
}

/// The cumulative counts by `le`.
fn buckets(text: &str) -> Vec<(String, u64)> {
    let lines =
        text.lines().filter_map(|line| line.strip_prefix("h_seconds_bucket{device=\"sda\",le=\""));
    lines
        .map(|line| {
            let (bound, count) = line.split_once("\"} ").unwrap();
            (bound.to_owned(), count.parse().unwrap())
        })
        .collect()
}

#[test]
fn the_text_format_is_as_specified() {
    let text = encode(&[of(&[1_000, 1_001, 70_000_000_000])], ExpositionFormat::Text);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# HELP h_seconds Help."));
    assert_eq!(lines.next(), Some("# TYPE h_seconds histogram"));
    assert_eq!(lines.next(), Some("h_seconds_bucket{device=\"sda\",le=\"1e-06\"} 1"));
    assert_eq!(lines.next(), Some("h_seconds_bucket{device=\"sda\",le=\"2e-06\"} 2"));
    assert_eq!(lines.nth(24), Some("h_seconds_bucket{device=\"sda\",le=\"67.108864\"} 2"));
    assert_eq!(lines.next(), Some("h_seconds_bucket{device=\"sda\",le=\"+Inf\"} 3"));
    assert_eq!(lines.next(), Some("h_seconds_sum{device=\"sda\"} 70.000002001"));
    assert_eq!(lines.next(), Some("h_seconds_count{device=\"sda\"} 3"));
    assert_eq!(lines.next(), None);
}

#[test]
fn openmetrics_omits_total_from_the_family_name_and_ends_with_eof() {
    let mut family = Family::counter("c_seconds_total", "A \"quoted\" help.");
    family.value(&[], 3.0);
    let families = [family.done().unwrap()];
    assert_eq!(
        encode(&families, ExpositionFormat::OpenMetrics),
        "# HELP c_seconds A \\\"quoted\\\" help.\n# TYPE c_seconds counter\n\
         # UNIT c_seconds seconds\nc_seconds_total 3\n# EOF\n"
    );
    assert_eq!(
        encode(&families, ExpositionFormat::Text),
        "# HELP c_seconds_total A \"quoted\" help.\n# TYPE c_seconds_total counter\n\
         c_seconds_total 3\n"
    );
}

/// A stall exactly as long as a bound is in its bucket; one nanosecond more is in the next.
#[test]
fn every_bound_is_inclusive() {
    for index in 0..BOUNDED_BUCKETS {
        let bound = upper_bound_ns(index).unwrap();
        let counts = buckets(&encode(&[of(&[bound, bound + 1])], ExpositionFormat::Text));
        assert_eq!(counts.len(), BOUNDED_BUCKETS + 1);
        for (position, (le, count)) in counts.iter().enumerate() {
            let expected = u64::from(position >= index) + u64::from(position > index);
            assert_eq!(*count, expected, "{bound} ns: le={le}");
        }
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let seconds = bound as f64 / 1e9;
        assert_eq!(counts[index].0.parse::<f64>().unwrap().to_bits(), seconds.to_bits());
    }
}

/// Samples by name and labels, with numbers as numbers.
fn samples(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, number) = line.rsplit_once(' ').unwrap();
            let series = match series.split_once("le=\"") {
                Some((before, bound)) => {
                    let bound: f64 = bound.trim_end_matches("\"}").parse().unwrap();
                    format!("{before}{}", bound.to_bits())
                }
                None => series.to_owned(),
            };
            (series, number.parse::<f64>().unwrap().to_bits())
        })
        .collect()
}

#[test]
fn the_encoder_of_the_prometheus_crate_agrees() {
    let families = [of(&[5, 77_000, 1 << 40]), gauge(&[("a", "b\\\"\n"), ("c", "")], 1.5e-9)];
    let theirs = TextEncoder::new().encode_to_string(&families).unwrap();
    assert_eq!(samples(&encode(&families, ExpositionFormat::Text)), samples(&theirs));
}

/// Parses an escaped label value by the rules of the format: `\\`, `\"` and `\n`.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next().unwrap() {
                'n' => '\n',
                other => other,
            },
            other => other,
        });
    }
    plain
}

proptest! {
    /// A sample with any label value is one line, and the value is parsed back unchanged.
    #[test]
    fn any_label_value_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let name = String::from_utf8_lossy(&bytes).into_owned();
        for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
            let text = encode(&[gauge(&[("comm", &name)], 1.0)], format);
            let sample = text.split('\n').find(|line| line.starts_with("m{")).unwrap();
            let value = sample.strip_prefix("m{comm=\"").unwrap().strip_suffix("\"} 1").unwrap();
            prop_assert_eq!(unescape(value), name.as_str());
        }
    }
}
