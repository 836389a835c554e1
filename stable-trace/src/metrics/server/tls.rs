//! Certificates and keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoClientAuth, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};

pub use tokio_rustls::TlsAcceptor as Acceptor;

/// Whether clients need certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No.
    None,
    /// No, but one that is given must be good.
    IfGiven,
    /// Yes.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Where everything is, and what is asked of clients.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// Whether clients need certificates.
    pub client_auth: ClientAuth,
    /// What those are verified against, as PEM.
    pub client_ca: Option<PathBuf>,
    /// The oldest version that is spoken; 1.2 if nothing is said.
    pub min: Option<Version>,
    /// The newest version that is spoken; 1.3 if nothing is said.
    pub max: Option<Version>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has not in it what it should.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Certificate and key do not go together, or the versions leave nothing.
    #[error("{0}")]
    Config(String),
}

/// Reads the files, and makes what takes connections with them.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn acceptor(files: &TlsFiles) -> Result<Acceptor, TlsError> {
    let certificates = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| file(&files.key, &format!("no private key: {}", plain(&error))))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = match (&files.client_ca, files.client_auth) {
        (None, _) | (_, ClientAuth::None) => Arc::new(NoClientAuth) as _,
        (Some(path), required) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path)? {
                roots.add(certificate).map_err(|error| file(path, &error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = if required == ClientAuth::IfGiven {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            verifier.build().map_err(|error| file(path, &error.to_string()))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(files.min, files.max))
        .map_err(|error| TlsError::Config(format!("min_version and max_version: {error}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| {
            file(&files.cert, &format!("not with {}: {error}", files.key.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Acceptor::from(Arc::new(config)))
}

fn versions(min: Option<Version>, max: Option<Version>) -> Vec<&'static SupportedProtocolVersion> {
    let (min, max) = (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13));
    let all = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
    let wanted = all.into_iter().filter(|(version, _)| (min..=max).contains(version));
    wanted.map(|(_, supported)| supported).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(path, &plain(&error)))?;
    if all.is_empty() {
        return Err(file(path, "there is no certificate in it (PEM)"));
    }
    Ok(all)
}

fn file(path: &Path, what: &str) -> TlsError {
    TlsError::File { path: path.to_owned(), what: what.to_owned() }
}

fn plain(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
