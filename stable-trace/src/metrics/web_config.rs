//! `--web-config`: TLS, passwords and headers, in the file format that Prometheus exporters share
//! (`docs/web-configuration.md` of `prometheus/exporter-toolkit`).
//!
//! What that format has and we have not is refused, not passed over: whoever asks for a protection
//! must have it, or be told.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::server::{
    password::Passwords,
    tls::{self, ClientAuth, TlsError, TlsFiles, Version},
};

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It cannot be read.
    #[error("--web-config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It is not of the format.
    #[error("--web-config {}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and what, on one line.
        what: String,
    },
    /// Something in it does not go together, or is not to be had here.
    #[error("--web-config {}: {key}: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Certificate and key are no good.
    #[error("--web-config {}: tls_server_config: {source}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with which file.
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
    /// Go has passed over it since 1.17.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    /// Ours is HTTP/1.1 only, which every client of HTTP/2 falls back to.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

/// The headers that the format allows.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// What the endpoint asks of clients, and adds to its answers.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// Encryption; none for plain HTTP.
    pub tls: Option<tls::Acceptor>,
    /// Who may ask; none for everybody.
    pub passwords: Option<Passwords>,
    /// Added to every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl WebConfig {
    /// Reads the file, and the files that it names, relative to its own folder.
    ///
    /// # Errors
    /// [`WebConfigError`], in one line with what to do.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| WebConfigError::Read { path: path.to_owned(), source })?;
        let value = |key, what| WebConfigError::Value { path: path.to_owned(), key, what };
        let file =
            parse(&text).map_err(|what| WebConfigError::Format { path: path.to_owned(), what })?;
        let tls = match file.tls_server_config {
            None => None,
            Some(tls) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                let files = files(&tls, folder).map_err(|(key, what)| value(key, what))?;
                let acceptor = tls::acceptor(&files)
                    .map_err(|source| WebConfigError::Tls { path: path.to_owned(), source })?;
                Some(acceptor)
            }
        };
        let passwords = match file.basic_auth_users {
            users if users.is_empty() => None,
            users => Some(Passwords::new(users).map_err(|what| value("basic_auth_users", what))?),
        };
        let headers = headers(&file.http_server_config.headers)
            .map_err(|what| value("http_server_config.headers", what))?;
        Ok(Self { tls, passwords, headers })
    }
}

/// The file's text; what is wrong with it on one line, with its place.
fn parse(text: &str) -> Result<File, String> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |location| {
            format!("line {}, column {}: ", location.line(), location.column())
        });
        let message = error.without_snippet().to_string();
        let first = message.lines().next().unwrap_or_default().trim();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        format!("{place}{first}")
    })
}

fn files(tls: &Tls, folder: &Path) -> Result<TlsFiles, (&'static str, String)> {
    let needed = |file: &Option<PathBuf>, key| match file {
        Some(file) => Ok(folder.join(file)),
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
                    "{other:?} is not to be had: give NoClientCert, VerifyClientCertIfGiven or \
                     RequireAndVerifyClientCert"
                ),
            ));
        }
    };
    let version = |text: &Option<String>, key| match text.as_deref() {
        None => Ok(None),
        Some("TLS12") => Ok(Some(Version::Tls12)),
        Some("TLS13") => Ok(Some(Version::Tls13)),
        Some(other) => Err((key, format!("{other:?} is not to be had: give TLS12 or TLS13"))),
    };
    let client_ca = tls.client_ca_file.as_ref().map(|file| folder.join(file));
    match (client_auth, &client_ca) {
        (ClientAuth::None, Some(_)) => Err((
            "tls_server_config.client_ca_file",
            "has no effect without client_auth_type: RequireAndVerifyClientCert".to_owned(),
        )),
        (ClientAuth::IfGiven | ClientAuth::Required, None) => Err((
            "tls_server_config.client_ca_file",
            "is missing: client certificates are verified against it".to_owned(),
        )),
        _ => Ok(TlsFiles {
            cert: needed(&tls.cert_file, "tls_server_config.cert_file")?,
            key: needed(&tls.key_file, "tls_server_config.key_file")?,
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
            format!("{name:?} cannot be set: the format has {}", HEADERS.join(", "))
        })?;
        let name = HeaderName::from_bytes(known.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| format!("the value of {known} is none that a header can have"))?;
        Ok((name, value))
    };
    given.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        fs::write(&path, text).unwrap();
        let Err(error) = WebConfig::load(&path) else { panic!("{text:?} was taken") };
        let prefix = format!("--web-config {}: ", path.display());
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        let mut source = std::error::Error::source(&error);
        let mut chain = text.strip_prefix(&prefix).unwrap_or(&text).to_owned();
        while let Some(cause) = source {
            if !chain.contains(&cause.to_string()) {
                chain = format!("{chain}: {cause}");
            }
            source = cause.source();
        }
        chain
    }

    #[test]
    fn an_empty_file_asks_nothing_of_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        for text in ["", "# nothing\n", "{}", "basic_auth_users: {}\n"] {
            fs::write(&path, text).unwrap();
            let config = WebConfig::load(&path).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(
                config.tls.is_none() && config.passwords.is_none() && config.headers.is_empty()
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let text = "basic_auth_users: {}\ntls_server_config:\n  cert_fil: x\n";
        let complaint = complaint(text);
        assert!(complaint.contains("cert_fil"), "{complaint}");
        assert!(complaint.contains("line 3"), "{complaint}");
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for (text, words) in [
            ("- a list\n", "line 1"),
            ("tls_server_config: {cert_file: a}\n", "key_file: is missing"),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: Any}\n",
                "\"Any\" is not to be had",
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
            let complaint = complaint(text);
            assert!(complaint.contains(words), "{text:?}: {complaint}");
            assert!(!complaint.contains("secret"), "{complaint}");
        }
    }
}
