//! Formats values by Grafana's units.

/// Formats a value with its unit: `1.5 ms`, `12 %`, `3.4 K ops/s`.
pub(super) fn format_value(value: f64, unit: &str) -> String {
    match unit {
        "s" => scaled(value, &[(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")]),
        "bytes" => bytes(value, ""),
        "Bps" => bytes(value, "/s"),
        "percentunit" => format!("{} %", digits(value * 100.0)),
        "ops" => format!("{} ops/s", thousands(value)),
        "cps" => format!("{} c/s", thousands(value)),
        _ => thousands(value),
    }
}

fn bytes(value: f64, suffix: &str) -> String {
    let steps = [(1.0, "B"), (1024.0, "KiB"), (1_048_576.0, "MiB"), (1_073_741_824.0, "GiB")];
    format!("{}{suffix}", scaled(value, &steps))
}

fn thousands(value: f64) -> String {
    scaled(value, &[(1.0, ""), (1e3, "K"), (1e6, "M"), (1e9, "G")])
}

/// Divides by the largest step that the value reaches, or else by the smallest step.
fn scaled(value: f64, steps: &[(f64, &str)]) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let fits = |(step, _): &&(f64, &str)| value.abs() >= *step * 0.9995;
    let (step, name) =
        steps.iter().rev().find(fits).or(steps.first()).copied().unwrap_or((1.0, ""));
    format!("{} {name}", digits(value / step)).trim_end().to_owned()
}

/// Three significant digits, without trailing zeros.
fn digits(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_formatted_by_unit() {
        for (value, unit, expected) in [
            (0.0015, "s", "1.5 ms"),
            (64.0, "s", "64 s"),
            (2e-10, "s", "0.2 ns"),
            (0.0, "s", "0"),
            (31_047_680.0, "bytes", "29.6 MiB"),
            (0.123, "percentunit", "12.3 %"),
            (12_345.0, "ops", "12.3 K ops/s"),
            (7.0, "short", "7"),
        ] {
            assert_eq!(format_value(value, unit), expected);
        }
    }
}
