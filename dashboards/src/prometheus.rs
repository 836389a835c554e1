//! A client of Prometheus' HTTP API.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use crate::json::{elements, text};

/// The failure of a request.
#[derive(Debug, Error)]
pub enum PrometheusError {
    /// No connection, or the connection broke.
    #[error("cannot query Prometheus at {address}; check that it runs")]
    Connection {
        /// Host and port.
        address: String,
        /// The error of the socket.
        #[source]
        source: io::Error,
    },
    /// The response is not one of Prometheus' API.
    #[error(
        "the server at {address} is not Prometheus; check the address. It responded `{response}`"
    )]
    UnexpectedResponse {
        /// Host and port.
        address: String,
        /// The beginning of the response.
        response: String,
    },
    /// Prometheus returned an error.
    #[error("Prometheus rejects the request `{request}`: {reason}")]
    Rejected {
        /// Path and query.
        request: String,
        /// Prometheus' error message.
        reason: String,
    },
}

/// A Prometheus server.
#[derive(Clone, Debug)]
pub struct Prometheus {
    address: String,
}

/// One series of a query's result.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name and value of each label, with the metric's name as `__name__`.
    pub labels: Vec<(String, String)>,
    /// Times in seconds since 1970, and values.
    pub points: Vec<(f64, f64)>,
}

/// Long enough for an emulated machine.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

impl Prometheus {
    /// The server at `HOST:PORT`.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Evaluates an expression at the current time.
    ///
    /// # Errors
    /// If the server does not respond or rejects the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, PrometheusError> {
        let data = self.data(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        Ok(series(&data))
    }

    /// Evaluates an expression every `step` seconds between two times.
    ///
    /// # Errors
    /// See [`query`](Self::query).
    pub fn query_range(
        &self,
        expression: &str,
        start: f64,
        end: f64,
        step: f64,
    ) -> Result<Vec<Series>, PrometheusError> {
        let path = format!(
            "/api/v1/query_range?query={}&start={start:.3}&end={end:.3}&step={step:.3}",
            percent_encoded(expression)
        );
        Ok(series(&self.data(&path)?))
    }

    /// Requests a path of the API such as `/api/v1/rules` and returns the `data` of the response.
    ///
    /// # Errors
    /// See [`query`](Self::query).
    pub fn data(&self, path: &str) -> Result<Value, PrometheusError> {
        let body = self.get(path)?;
        let mut response: Value =
            serde_json::from_str(&body).map_err(|_| self.unexpected(body.as_bytes()))?;
        if response["status"] != "success" {
            let reason = response["error"].as_str().unwrap_or("no reason given").to_owned();
            return Err(PrometheusError::Rejected { request: path.to_owned(), reason });
        }
        Ok(response["data"].take())
    }

    /// Requests any path and returns the body of the response.
    ///
    /// # Errors
    /// If the server does not respond in HTTP.
    pub fn get(&self, path: &str) -> Result<String, PrometheusError> {
        let broken = |source| PrometheusError::Connection { address: self.address.clone(), source };
        let mut stream = TcpStream::connect(&self.address).map_err(broken)?;
        stream.set_read_timeout(Some(READ_TIMEOUT)).map_err(broken)?;
        // With HTTP/1.0 the response is not chunked, and the server closes the connection after it.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).map_err(broken)?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).map_err(broken)?;
        let head_end = response.windows(4).position(|window| window == b"\r\n\r\n");
        let body = head_end.and_then(|end| response.get(end + 4..));
        body.map(|body| String::from_utf8_lossy(body).into_owned())
            .ok_or_else(|| self.unexpected(&response))
    }

    fn unexpected(&self, response: &[u8]) -> PrometheusError {
        let response = String::from_utf8_lossy(response).chars().take(200).collect();
        PrometheusError::UnexpectedResponse { address: self.address.clone(), response }
    }
}

/// Percent-encodes a value in the query of a URL.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn series(data: &Value) -> Vec<Series> {
    // The result of a scalar is one point.
    if data["resultType"] == "scalar" {
        let points = point(&data["result"]).into_iter().collect();
        return vec![Series { labels: Vec::new(), points }];
    }
    elements(&data["result"]).iter().map(one_series).collect()
}

fn one_series(result: &Value) -> Series {
    let labels = result["metric"].as_object().into_iter().flatten();
    let labels = labels.map(|(name, value)| (name.clone(), text(value).to_owned())).collect();
    let points =
        elements(&result["values"]).iter().chain(result.get("value")).filter_map(point).collect();
    Series { labels, points }
}

/// Parses a point such as `[1700000000.1, "0.5"]`.
fn point(value: &Value) -> Option<(f64, f64)> {
    let time = value.get(0)?.as_f64()?;
    let value = value.get(1)?.as_str()?.parse().ok()?;
    Some((time, value))
}

impl Series {
    /// The value of a label; empty without the label.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find_map(|(label, value)| (label == name).then_some(value.as_str()))
            .unwrap_or_default()
    }

    /// The last value; NaN without points.
    pub(crate) fn last_value(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors_matrices_and_scalars_are_parsed() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"a": "b"}, "value": [1.5, "+Inf"]},
        ]});
        let parsed = series(&vector);
        assert_eq!((parsed.len(), parsed[0].label("a"), parsed[0].label("c")), (1, "b", ""));
        assert_eq!(parsed[0].points, [(1.5, f64::INFINITY)]);
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "2"], [2, "NaN"]]},
        ]});
        assert_eq!(series(&matrix)[0].points.len(), 2);
        let scalar = json!({"resultType": "scalar", "result": [1, "3"]});
        assert_eq!(series(&scalar)[0].points, [(1.0, 3.0)]);
    }

    #[test]
    fn expressions_are_percent_encoded() {
        assert_eq!(percent_encoded(r#"a{b=~".+"}[5m]"#), "a%7Bb%3D~%22.%2B%22%7D%5B5m%5D");
    }
}
