//! TLS and passwords, tested with curl.

use std::{fs, path::Path, process::Command};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use stable_trace::metrics::{server::ClientLimits, web_config::WebConfig};

use super::{TestEndpoint, run};

/// The hash of `test` in the guide "Securing Prometheus API and UI endpoints using basic auth".
const HASH: &str = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay";

fn endpoint(folder: &Path, config: &str) -> TestEndpoint {
    let path = folder.join("web.yml");
    fs::write(&path, config).unwrap();
    let web = WebConfig::load(&path).unwrap_or_else(|error| panic!("{error}"));
    TestEndpoint::start(ClientLimits::default(), web)
}

/// Returns whether curl succeeded, and its output.
fn curl(endpoint: &TestEndpoint, scheme: &str, options: &[&str]) -> (bool, String) {
    let url = format!("{scheme}://localhost:{}/metrics", endpoint.address().port());
    let mut command = Command::new("curl");
    command.args(["-sS", "-i", "--max-time", "30", "--noproxy", "*", "-4"]);
    run(command.args(options).arg(url), "")
}

/// Writes the certificates of an authority, a server and a client to the folder as PEM files.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, subject) in [("server", "localhost"), ("client", "prometheus")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
        // With the default name, which is the authority's, it would look self-signed.
        params.distinguished_name.push(DnType::CommonName, subject);
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn a_password_is_required_and_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = endpoint(folder.path(), &format!("basic_auth_users:\n  admin: {HASH}\n"));
    for (user, status) in [
        (None, "401"),
        (Some("admin:wrong"), "401"),
        (Some("nobody:test"), "401"),
        (Some("admin:test"), "200"),
        // By now the endpoint has cached a digest, which must match only this password.
        (Some("admin:test"), "200"),
        (Some("admin:tes"), "401"),
        (Some("admin:test2"), "401"),
        (Some("Admin:test"), "401"),
    ] {
        let options: Vec<_> = user.into_iter().flat_map(|user| ["-u", user]).collect();
        let (_, answer) = curl(&endpoint, "http", &options);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{user:?}: {answer}");
        if status == "401" {
            assert!(answer.contains("www-authenticate: Basic"), "{answer}");
            assert!(!answer.contains("stable_trace_"), "{answer}");
        }
    }
    for path in ["/", "/status", "/-/healthy", "/-/ready"] {
        assert!(endpoint.get(path, "").0.starts_with("HTTP/1.1 401 "), "{path}");
    }
}

#[test]
fn only_tls_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let config = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n\
                  http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=9\n";
    let endpoint = endpoint(folder.path(), config);
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let (success, answer) = curl(&endpoint, "https", &["--cacert", ca]);
    assert!(success && answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=9\r\n"), "{answer}");
    let (success, answer) = curl(&endpoint, "https", &["--cacert", ca, "--tls-max", "1.2"]);
    assert!(success, "{answer}");
    // curl does not trust the authority by default.
    assert!(!curl(&endpoint, "https", &[]).0);
    let (success, answer) = curl(&endpoint, "http", &[]);
    assert!(!success && !answer.contains("stable_trace_"), "{answer}");
}

#[test]
fn a_client_certificate_is_required() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let config = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
                  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
                  min_version: TLS13\n";
    let endpoint = endpoint(folder.path(), config);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let known = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let (success, answer) = curl(&endpoint, "https", &known);
    assert!(success && answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!curl(&endpoint, "https", &known[..2]).1.contains("HTTP/1.1 200 "));
    let old: Vec<_> = known.into_iter().chain(["--tls-max", "1.2"]).collect();
    assert!(!curl(&endpoint, "https", &old).0);
}
