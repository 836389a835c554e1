//! Basic authentication with bcrypt hashes.
//!
//! A bcrypt check takes some 50 ms by design, and the number of attempts is not limited. So checks run
//! on a thread of their own, one at a time, and the digest of a correct password is remembered: scrapes
//! do not wait for clients that guess passwords.

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::HashParts;
use ring::digest::{SHA256, digest};

/// The hash that the password of an unknown user is checked against, so that the response time does
/// not reveal which users exist: 60 characters with a cost of 10, as made by `htpasswd -B`.
const UNKNOWN_USER: &str = "$2b$10$abcdefghijklmnopqrstuuKm1sCbvQOYkRTEKpWkBoYwVt0WUB0Ry";

/// bcrypt ignores bytes beyond this length (Go's implementation refuses them).
const MAX_PASSWORD_LEN: usize = 72;

/// User names with bcrypt hashes.
#[derive(Clone)]
pub(in crate::metrics) struct Passwords {
    /// By user name.
    hashes: Arc<BTreeMap<String, String>>,
    /// Digests of name, hash and password that were verified: at most one a user.
    verified: Arc<Mutex<HashSet<[u8; 32]>>>,
}

impl Passwords {
    /// Fails with a message on one line if a hash is invalid.
    pub(in crate::metrics) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, hash) in &hashes {
            if HashParts::from_str(hash).is_err() {
                return Err(format!(
                    "{name:?} has no bcrypt hash; make one with `htpasswd -nBC 10 {name}`"
                ));
            }
        }
        Ok(Self { hashes: Arc::new(hashes), verified: Arc::default() })
    }

    /// Whether the value of an `Authorization` header has the name and password of a user (RFC 7617).
    pub(super) async fn verify(&self, authorization: Option<&[u8]>) -> bool {
        let Some((name, password)) = authorization.and_then(credentials) else { return false };
        let known = self.hashes.get(&name);
        let hash = known.map_or(UNKNOWN_USER, String::as_str).to_owned();
        let digest = fingerprint(&name, &hash, &password);
        if self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return true;
        }
        let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if right && known.is_some() {
            self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
            return true;
        }
        false
    }
}

/// Parses user name and password from the value of an `Authorization` header.
fn credentials(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    let valid = password.len() <= MAX_PASSWORD_LEN && !password.contains('\0');
    valid.then(|| (name.to_owned(), password.to_owned()))
}

fn fingerprint(name: &str, hash: &str, password: &str) -> [u8; 32] {
    // NUL separates: neither names nor hashes nor passwords contain it.
    let text = format!("{name}\0{hash}\0{password}");
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization_headers_are_parsed_as_in_the_rfc() {
        // RFC 7617, section 2.
        let read = credentials(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(read, Some(("Aladdin".to_owned(), "open sesame".to_owned())));
        let read = credentials(b"bAsIc YTpiOmM=");
        assert_eq!(read, Some(("a".to_owned(), "b:c".to_owned())), "the password contains a colon");
        for bad in [
            &b"Basic"[..],
            b"Basic !!!",
            b"Bearer YTpi",
            b"Basic YQ==",
            b"\xff\xfe",
            b"Basic YQA6YgA=",
        ] {
            assert_eq!(credentials(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_hash_of_unknown_users_is_valid() {
        assert!(HashParts::from_str(UNKNOWN_USER).is_ok_and(|parts| parts.get_cost() == 10));
        assert_eq!(bcrypt::verify("", UNKNOWN_USER).ok(), Some(false));
    }
}
