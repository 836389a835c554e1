//! Content negotiation between the two formats.

use super::exposition::ExpositionFormat;

/// The format for an `Accept` header: `OpenMetrics` if the client accepts its version 1.0.0 and does
/// not prefer the text format. All other clients get the text format, even if they do not accept it:
/// the `Content-Type` shows what it is.
pub(super) fn negotiate(accept: Option<&str>) -> ExpositionFormat {
    let mut open_metrics = 0;
    let mut text = 0;
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1_000, None);
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = thousandths(value),
                "version" => version = Some(value),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open_metrics = open_metrics.max(weight);
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => text = text.max(weight),
            _ => {}
        }
    }
    if open_metrics > 0 && open_metrics >= text {
        ExpositionFormat::OpenMetrics
    } else {
        ExpositionFormat::Text
    }
}

/// A quality value (RFC 9110, 12.4.2) in thousandths; 0 if it is invalid.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !digits(fraction) {
        return 0;
    }
    format!("{whole}{fraction:0<3}").parse().unwrap_or(0).min(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_of_real_scrapers_are_understood() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
             version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
             escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (Some(prometheus_2), ExpositionFormat::OpenMetrics),
            (Some(prometheus_3), ExpositionFormat::OpenMetrics),
            (
                Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                ExpositionFormat::OpenMetrics,
            ),
            (
                Some("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\""),
                ExpositionFormat::OpenMetrics,
            ),
            (Some("application/openmetrics-text"), ExpositionFormat::OpenMetrics),
            (Some("application/openmetrics-text;version=0.0.1"), ExpositionFormat::Text),
            (Some("application/openmetrics-text;q=0"), ExpositionFormat::Text),
            (Some("application/openmetrics-text;q=0.3,text/plain;q=0.31"), ExpositionFormat::Text),
            (
                Some("application/openmetrics-text;q=0.5,text/plain;q=0.5"),
                ExpositionFormat::OpenMetrics,
            ),
            (Some("text/html,*/*;q=0.8"), ExpositionFormat::Text),
            (Some("*/*"), ExpositionFormat::Text),
            (Some(""), ExpositionFormat::Text),
            (Some(";;q==,,=;"), ExpositionFormat::Text),
            (None, ExpositionFormat::Text),
        ] {
            assert_eq!(negotiate(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn quality_values_are_parsed_in_thousandths() {
        for (text, weight) in
            [("1", 1_000), ("1.000", 1_000), ("0.5", 500), ("0.05", 50), ("0", 0), ("1.5", 1_000)]
        {
            assert_eq!(thousandths(text), weight, "{text}");
        }
        for text in ["", "2", "-1", "0.1234", "0.x", "x", "."] {
            assert_eq!(thousandths(text), 0, "{text}");
        }
    }
}
