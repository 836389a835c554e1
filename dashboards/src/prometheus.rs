//! A Prometheus server, asked through its HTTP API.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum PrometheusError {
    /// Nobody listens, or the connection broke.
    #[error("Prometheus at {address} does not answer: {source}; see that it runs")]
    Connection {
        /// Host and port.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something answered in another language.
    #[error("what answers at {address} is no Prometheus: {said}")]
    Garbled {
        /// Host and port.
        address: String,
        /// The beginning of what it said.
        said: String,
    },
    /// The server refused the question.
    #[error("Prometheus refuses `{question}`: {reason}")]
    Refused {
        /// Path and query.
        question: String,
        /// In its words.
        reason: String,
    },
}

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Prometheus {
    address: String,
}

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name and value of each label; the metric's name is `__name__`.
    pub labels: Vec<(String, String)>,
    /// Seconds since 1970, and the value then.
    pub points: Vec<(f64, f64)>,
}

/// How long an answer may take: an emulated machine is slow.
const LIMIT: Duration = Duration::from_mins(1);

impl Prometheus {
    /// The server at `HOST:PORT`.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// What an expression comes to now.
    ///
    /// # Errors
    /// If the server does not answer or refuses the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, PrometheusError> {
        let data = self.data(&format!("/api/v1/query?query={}", quoted(expression)))?;
        Ok(series(&data))
    }

    /// What an expression comes to between two times, each `step` seconds.
    ///
    /// # Errors
    /// See [`query`](Self::query).
    pub fn range(
        &self,
        expression: &str,
        start: f64,
        end: f64,
        step: f64,
    ) -> Result<Vec<Series>, PrometheusError> {
        let question = format!(
            "/api/v1/query_range?query={}&start={start:.3}&end={end:.3}&step={step:.3}",
            quoted(expression)
        );
        Ok(series(&self.data(&question)?))
    }

    /// The `data` of an API answer, such as that of `/api/v1/rules`.
    ///
    /// # Errors
    /// See [`query`](Self::query).
    pub fn data(&self, question: &str) -> Result<Value, PrometheusError> {
        let body = self.get(question)?;
        let mut answer: Value =
            serde_json::from_str(&body).map_err(|_| self.garbled(body.as_bytes()))?;
        if answer["status"] != "success" {
            let reason = answer["error"].as_str().unwrap_or("without a reason").to_owned();
            return Err(PrometheusError::Refused { question: question.to_owned(), reason });
        }
        Ok(answer["data"].take())
    }

    /// The body of any answer.
    ///
    /// # Errors
    /// If the server does not answer in HTTP.
    pub fn get(&self, path: &str) -> Result<String, PrometheusError> {
        let broken = |source| PrometheusError::Connection { address: self.address.clone(), source };
        let mut stream = TcpStream::connect(&self.address).map_err(broken)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(broken)?;
        // In this version of HTTP the answer comes whole and ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).map_err(broken)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(broken)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let body = end.and_then(|end| answer.get(end + 4..));
        body.map(|body| String::from_utf8_lossy(body).into_owned())
            .ok_or_else(|| self.garbled(&answer))
    }

    fn garbled(&self, said: &[u8]) -> PrometheusError {
        let said = String::from_utf8_lossy(said).chars().take(200).collect();
        PrometheusError::Garbled { address: self.address.clone(), said }
    }
}

/// Percent-encodes what stands in a URL's query.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

fn series(data: &Value) -> Vec<Series> {
    // A scalar comes as one bare point.
    if data["resultType"] == "scalar" {
        let points = point(&data["result"]).into_iter().collect();
        return vec![Series { labels: Vec::new(), points }];
    }
    let results = data["result"].as_array().map_or(&[][..], Vec::as_slice);
    results.iter().map(one).collect()
}

fn one(result: &Value) -> Series {
    let labels = result["metric"].as_object().into_iter().flatten();
    let labels = labels
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let many = result["values"].as_array().map_or(&[][..], Vec::as_slice);
    let points = many.iter().chain(result.get("value")).filter_map(point).collect();
    Series { labels, points }
}

/// `[1700000000.1, "0.5"]`.
fn point(value: &Value) -> Option<(f64, f64)> {
    let time = value.get(0)?.as_f64()?;
    let value = value.get(1)?.as_str()?.parse().ok()?;
    Some((time, value))
}

impl Series {
    /// The value of a label, empty if it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find_map(|(label, value)| (label == name).then_some(value.as_str()))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_every_shape_are_read() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"a": "b"}, "value": [1.5, "+Inf"]},
        ]});
        let read = series(&vector);
        assert_eq!((read.len(), read[0].label("a"), read[0].label("c")), (1, "b", ""));
        assert_eq!(read[0].points, [(1.5, f64::INFINITY)]);
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[1, "2"], [2, "NaN"]]},
        ]});
        assert_eq!(series(&matrix)[0].points.len(), 2);
        let scalar = json!({"resultType": "scalar", "result": [1, "3"]});
        assert_eq!(series(&scalar)[0].points, [(1.0, 3.0)]);
    }

    #[test]
    fn a_url_carries_an_expression() {
        assert_eq!(quoted(r#"a{b=~".+"}[5m]"#), "a%7Bb%3D~%22.%2B%22%7D%5B5m%5D");
    }
}
