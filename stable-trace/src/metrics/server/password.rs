//! Who may ask: names and bcrypt hashes of passwords.
//!
//! A hash takes some 50 ms to check by design, and whoever has none may try as often as he likes. So
//! hashes are checked on a thread of their own, one at a time, and a password that was right is known
//! by its digest from then on: scrapes do not wait for those who guess.

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bcrypt::HashParts;
use ring::digest::{SHA256, digest};

/// What an unknown name's password is checked against, so that time does not tell who is known: a
/// hash of 60 characters with a cost of 10, as `htpasswd -B` makes them.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuKm1sCbvQOYkRTEKpWkBoYwVt0WUB0Ry";

/// bcrypt looks at no more of a password (Go's refuses longer ones).
const LONGEST: usize = 72;

/// Names and hashes.
#[derive(Clone)]
pub struct Passwords {
    hashes: Arc<BTreeMap<String, String>>,
    /// Digests of names, hashes and passwords that were right: as many as there are users.
    right: Arc<Mutex<HashSet<[u8; 32]>>>,
}

impl Passwords {
    /// Takes the hashes by name.
    ///
    /// # Errors
    /// Whose hash is none, on one line.
    pub fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, hash) in &hashes {
            if HashParts::from_str(hash).is_err() {
                return Err(format!(
                    "what {name:?} has is no bcrypt hash: make one with `htpasswd -nBC 10 {name}`"
                ));
            }
        }
        Ok(Self { hashes: Arc::new(hashes), right: Arc::default() })
    }

    /// Whether the value of an `Authorization` header has a name and its password (RFC 7617).
    pub async fn admit(&self, authorization: Option<&[u8]>) -> bool {
        let Some((name, password)) = authorization.and_then(credentials) else { return false };
        let known = self.hashes.get(&name);
        let hash = known.map_or(NOBODY, String::as_str).to_owned();
        let digest = fingerprint(&name, &hash, &password);
        if self.right.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return true;
        }
        let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if right && known.is_some() {
            self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
            return true;
        }
        false
    }
}

/// Name and password of a header's value.
fn credentials(value: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = plain.split_once(':')?;
    let fits = password.len() <= LONGEST && !password.contains('\0');
    fits.then(|| (name.to_owned(), password.to_owned()))
}

fn fingerprint(name: &str, hash: &str, password: &str) -> [u8; 32] {
    // Neither names nor hashes nor passwords have a NUL in them here.
    let text = format!("{name}\0{hash}\0{password}");
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_rfc_says() {
        // RFC 7617, section 2.
        let read = credentials(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(read, Some(("Aladdin".to_owned(), "open sesame".to_owned())));
        let read = credentials(b"bAsIc YTpiOmM=");
        assert_eq!(read, Some(("a".to_owned(), "b:c".to_owned())), "a colon of the password's own");
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
    fn nobodys_hash_is_one() {
        assert!(HashParts::from_str(NOBODY).is_ok_and(|parts| parts.get_cost() == 10));
        assert_eq!(bcrypt::verify("", NOBODY).ok(), Some(false));
    }
}
