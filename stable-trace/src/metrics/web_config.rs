//! `--web-config`: TLS, passwords and headers, in the file format that Prometheus exporters share
//! (`docs/web-configuration.md` of `prometheus/exporter-toolkit`).
//!
//! A setting of that format that is not supported is refused, not ignored: the operator may rely on
//! the protection.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::server::{
    password::Passwords,
    tls::{self, ClientAuth, TlsError, TlsSettings, Version},
};

/// Why a web configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read.
    #[error("--web-config {}: cannot read the file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// The file is not valid YAML, or has an unknown key.
    #[error("--web-config {}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Position and problem, on one line.
        reason: String,
    },
    /// A value is invalid or not supported.
    #[error("--web-config {}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key in the file.
        key: &'static str,
        /// The problem and the remedy.
        reason: String,
    },
    /// Certificate, key or versions cannot be used.
    #[error("--web-config {}: tls_server_config", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// The problem and the file that has it.
        #[source]
        source: TlsError,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Http,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_ca_file: Option<PathBuf>,
    min_version: Option<String>,
    max_version: Option<String>,
    /// Ignored by Go since 1.17.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    /// Ignored: the endpoint serves HTTP/1.1 only, which every HTTP/2 client falls back to.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

/// The response headers that the format allows.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// TLS, passwords and headers of the endpoint. The default is plain HTTP for all clients.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// `None` for plain HTTP.
    pub(crate) tls: Option<tls::Acceptor>,
    /// `None` where no authentication is required.
    pub(super) passwords: Option<Passwords>,
    /// Added to every response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl WebConfig {
    /// Loads the file, and the files that it names, relative to its own directory.
    ///
    /// # Errors
    /// A file cannot be read, or a value is invalid or not supported.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| WebConfigError::Read { path: path.to_owned(), source })?;
        let value = |key, reason| WebConfigError::Value { path: path.to_owned(), key, reason };
        let file = parse(&text)
            .map_err(|reason| WebConfigError::Format { path: path.to_owned(), reason })?;
        let tls = match file.tls_server_config {
            None => None,
            Some(tls) => {
                let directory = path.parent().unwrap_or(Path::new("."));
                let settings =
                    tls_settings(&tls, directory).map_err(|(key, reason)| value(key, reason))?;
                let acceptor = tls::acceptor(&settings)
                    .map_err(|source| WebConfigError::Tls { path: path.to_owned(), source })?;
                Some(acceptor)
            }
        };
        let passwords = match file.basic_auth_users {
            users if users.is_empty() => None,
            users => {
                Some(Passwords::new(users).map_err(|reason| value("basic_auth_users", reason))?)
            }
        };
        let headers = headers(&file.http_server_config.headers)
            .map_err(|reason| value("http_server_config.headers", reason))?;
        Ok(Self { tls, passwords, headers })
    }
}

/// Parses the file. An error is one line with its position.
fn parse(text: &str) -> Result<File, String> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let position = error.location().map_or_else(String::new, |location| {
            format!("line {}, column {}: ", location.line(), location.column())
        });
        let message = error.without_snippet().to_string();
        let first = message.lines().next().unwrap_or_default().trim();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        format!("{position}{first}")
    })
}

fn tls_settings(tls: &Tls, directory: &Path) -> Result<TlsSettings, (&'static str, String)> {
    let required = |file: &Option<PathBuf>, key| match file {
        Some(file) => Ok(directory.join(file)),
        None => Err((key, "is missing: TLS needs a certificate and its key".to_owned())),
    };
    let client_auth = match tls.client_auth_type.as_deref() {
        None | Some("NoClientCert") => ClientAuth::None,
        Some("VerifyClientCertIfGiven") => ClientAuth::IfGiven,
        Some("RequireAndVerifyClientCert") => ClientAuth::Required,
        Some(other) => {
            return Err((
                "tls_server_config.client_auth_type",
                format!(
                    "{other:?} is not supported; give NoClientCert, VerifyClientCertIfGiven or \
                     RequireAndVerifyClientCert"
                ),
            ));
        }
    };
    let version = |text: &Option<String>, key| match text.as_deref() {
        None => Ok(None),
        Some("TLS12") => Ok(Some(Version::Tls12)),
        Some("TLS13") => Ok(Some(Version::Tls13)),
        Some(other) => Err((key, format!("{other:?} is not supported; give TLS12 or TLS13"))),
    };
    let client_ca = tls.client_ca_file.as_ref().map(|file| directory.join(file));
    match (client_auth, &client_ca) {
        (ClientAuth::None, Some(_)) => Err((
            "tls_server_config.client_ca_file",
            "has no effect without client_auth_type: RequireAndVerifyClientCert".to_owned(),
        )),
        (ClientAuth::IfGiven | ClientAuth::Required, None) => Err((
            "tls_server_config.client_ca_file",
            "is missing: client certificates are verified against it".to_owned(),
        )),
        _ => Ok(TlsSettings {
            cert: required(&tls.cert_file, "tls_server_config.cert_file")?,
            key: required(&tls.key_file, "tls_server_config.key_file")?,
            client_auth,
            client_ca,
            min: version(&tls.min_version, "tls_server_config.min_version")?,
            max: version(&tls.max_version, "tls_server_config.max_version")?,
        }),
    }
}

fn headers(given: &BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let header = |(name, value): (&String, &String)| {
        let known = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name));
        let known = known.ok_or_else(|| {
            format!("{name:?} cannot be set; the format allows {}", HEADERS.join(", "))
        })?;
        let name = HeaderName::from_bytes(known.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("{known} has a value that is invalid in a header"))?;
        Ok((name, value))
    };
    given.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use stable_trace_analysis::error_chain::ErrorChain;

    use super::*;

    fn error_of(text: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(&path, text).unwrap();
        let Err(error) = WebConfig::load(&path) else { panic!("{text:?} was accepted") };
        assert!(!error.to_string().contains('\n'), "{error}");
        let text = ErrorChain(&error).to_string();
        text.strip_prefix(&format!("--web-config {}: ", path.display())).unwrap_or(&text).to_owned()
    }

    #[test]
    fn an_empty_file_requires_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        for text in ["", "# nothing\n", "{}", "basic_auth_users: {}\n"] {
            fs::write(&path, text).unwrap();
            let config = WebConfig::load(&path).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(
                config.tls.is_none() && config.passwords.is_none() && config.headers.is_empty()
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_position() {
        let text = "basic_auth_users: {}\ntls_server_config:\n  cert_fil: x\n";
        let error = error_of(text);
        assert!(error.contains("cert_fil"), "{error}");
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn unsupported_settings_are_refused() {
        for (text, words) in [
            ("- a list\n", "line 1"),
            ("tls_server_config: {cert_file: a}\n", "key_file: is missing"),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: Any}\n",
                "\"Any\" is not supported",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n",
                "min_version: \"TLS10\"",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n",
                "client_ca_file: has no effect",
            ),
            ("tls_server_config: {cert_file: a, key_file: b}\n", "No such file"),
            ("basic_auth_users: {joe: secret}\n", "joe"),
            ("http_server_config: {headers: {Server: me}}\n", "\"Server\" cannot be set"),
            ("http_server_config: {headers: {X-Frame-Options: \"a\\nb\"}}\n", "X-Frame-Options"),
            ("basic_auth_users: {a: b\n", "line"),
            ("basic_auth_users: {a: b, a: c}\n", "line 1"),
        ] {
            let error = error_of(text);
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
