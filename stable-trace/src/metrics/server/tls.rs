//! Loads certificates and keys into a TLS acceptor.

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

pub(in crate::metrics) use tokio_rustls::TlsAcceptor as Acceptor;

/// Whether clients must present certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::metrics) enum ClientAuth {
    None,
    /// Not required, but verified if presented.
    IfGiven,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::metrics) enum Version {
    Tls12,
    Tls13,
}

/// The TLS settings of a web configuration. All files are PEM.
#[derive(Clone, Debug)]
pub(in crate::metrics) struct TlsSettings {
    /// The certificate and its chain.
    pub(in crate::metrics) cert: PathBuf,
    pub(in crate::metrics) key: PathBuf,
    pub(in crate::metrics) client_auth: ClientAuth,
    /// The authorities that client certificates are verified against.
    pub(in crate::metrics) client_ca: Option<PathBuf>,
    /// Default: 1.2.
    pub(in crate::metrics) min: Option<Version>,
    /// Default: 1.3.
    pub(in crate::metrics) max: Option<Version>,
}

/// Why the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has the wrong content.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The versions exclude each other.
    #[error("{0}")]
    Config(String),
}

/// Loads the files and builds an acceptor of TLS connections.
pub(in crate::metrics) fn acceptor(settings: &TlsSettings) -> Result<Acceptor, TlsError> {
    let certificates = certificates(&settings.cert)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| {
        file(&settings.key, &format!("contains no private key: {}", pem_error(&error)))
    })?;
    let provider = Arc::new(ring::default_provider());
    let verifier = match (&settings.client_ca, settings.client_auth) {
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
        .with_protocol_versions(&versions(settings.min, settings.max))
        .map_err(|error| TlsError::Config(format!("min_version and max_version: {error}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| {
            file(&settings.cert, &format!("does not match {}: {error}", settings.key.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Acceptor::from(Arc::new(config)))
}

fn versions(min: Option<Version>, max: Option<Version>) -> Vec<&'static SupportedProtocolVersion> {
    let (min, max) = (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13));
    let all = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
    let enabled = all.into_iter().filter(|(version, _)| (min..=max).contains(version));
    enabled.map(|(_, supported)| supported).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(path, &pem_error(&error)))?;
    if all.is_empty() {
        return Err(file(path, "contains no PEM certificate"));
    }
    Ok(all)
}

fn file(path: &Path, reason: &str) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_owned() }
}

fn pem_error(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
