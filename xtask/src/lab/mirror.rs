//! The Debian mirror of the host's apt configuration. No other mirror is used.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::series::Suite;

/// Code names and suite names of the Debian archive.
const DEBIAN: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// One source of binary packages in the host's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    /// The path of a key, or the key itself, unchanged.
    signed_by: Option<String>,
}

/// The host's mirrors of the Debian archive and of its security archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    archive: Source,
    security: Option<Source>,
}

impl Mirror {
    /// Reads the host's apt configuration; `etc` is `/etc/apt`.
    pub(crate) fn of_host(etc: &Path) -> Result<Self> {
        let mut sources = Vec::new();
        let list = etc.join("sources.list");
        if list.exists() {
            sources.extend(one_line(&read(&list)?));
        }
        let parts = etc.join("sources.list.d");
        let mut paths: Vec<_> = match fs::read_dir(&parts) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(one_line(&read(&path)?)),
                Some("sources") => sources.extend(deb822(&read(&path)?)),
                _ => {}
            }
        }
        Self::among(sources, etc)
    }

    fn among(sources: Vec<Source>, etc: &Path) -> Result<Self> {
        let mut debian = sources.into_iter().filter(Source::is_debian);
        let (security, archive): (Vec<_>, Vec<_>) = debian.by_ref().partition(Source::is_security);
        let Some(archive) = archive.into_iter().next() else {
            bail!(
                "apt's sources in {} contain no mirror of Debian, whose kernels the guests run: run this on Debian, or add a Debian source",
                etc.display()
            );
        };
        Ok(Self { archive, security: security.into_iter().next() })
    }

    /// The text of a source file for `suites` in apt's deb822 format. Suites of the security archive are
    /// left out if the host has no mirror of it.
    pub(crate) fn sources(&self, suites: &[Suite]) -> String {
        let mut text = String::new();
        for suite in suites {
            let source = match suite {
                Suite::Archive(_) => &self.archive,
                Suite::Security(_) => match &self.security {
                    Some(source) => source,
                    None => continue,
                },
            };
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "Types: deb\nURIs: {}", source.uri);
            let _ = writeln!(text, "Suites: {}\nComponents: main", suite.name());
            text.push_str("Architectures: amd64\n");
            if let Some(key) = &source.signed_by {
                let _ = writeln!(text, "Signed-By: {key}");
            }
            text.push('\n');
        }
        text
    }
}

impl Source {
    fn is_debian(&self) -> bool {
        self.suites.iter().any(|suite| {
            let name = suite.split(['-', '/']).next().unwrap_or_default();
            DEBIAN.contains(&name)
        })
    }

    fn is_security(&self) -> bool {
        // `bullseye-security`; up to Debian 10 `buster/updates`.
        self.suites.iter().all(|suite| suite.contains("-security") || suite.contains('/'))
    }
}

/// Parses `deb` lines of apt's older format: `deb [option=value …] URI SUITE COMPONENT…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(source_of_line).collect()
}

fn source_of_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.to_owned();
    let suite = words.next()?.to_owned();
    if !words.any(|component| component == "main") {
        return None;
    }
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(str::to_owned);
    Some(Source { uri, suites: vec![suite], signed_by })
}

/// Parses the stanzas of apt's deb822 format.
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source_of_stanza(&std::mem::take(&mut stanza)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of_stanza(stanza: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| {
        stanza.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    };
    let words = |name: &str| field(name).unwrap_or_default().split_whitespace();
    if field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"))
        || !words("types").any(|word| word == "deb")
        || !words("components").any(|word| word == "main")
    {
        return None;
    }
    Some(Source {
        uri: words("uris").next()?.to_owned(),
        suites: words("suites").map(str::to_owned).collect(),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb deb-src
# a comment in a stanza
URIs: http://mirror.example/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
";

    fn mirror(sources: Vec<Source>) -> Result<Mirror> {
        Mirror::among(sources, Path::new("/etc/apt"))
    }

    #[test]
    fn stanzas_are_parsed_with_their_keys() {
        let mirror = mirror(deb822(STANZAS)).unwrap();
        assert_eq!(mirror.archive.uri, "http://mirror.example/debian");
        assert!(mirror.archive.signed_by.as_ref().unwrap().ends_with("\n .\n abc"));
        assert_eq!(mirror.security.unwrap().uri, "http://security.example/debian-security");
    }

    #[test]
    fn lines_of_other_archives_are_ignored() {
        let text = "\
# deb http://comment.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64] http://vendor.example/apt nodistro main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
";
        let mirror = mirror(one_line(text)).unwrap();
        assert_eq!(mirror.archive.uri, "http://mirror.example/debian");
        assert_eq!(mirror.archive.signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!(mirror.security.unwrap().signed_by, None);
    }

    #[test]
    fn a_host_without_a_debian_mirror_is_an_error() {
        let sources = one_line("deb http://mirror.example/ubuntu noble main\n");
        let error = mirror(sources).unwrap_err().to_string();
        assert!(error.contains("no mirror of Debian"), "{error}");
    }

    #[test]
    fn each_suite_is_listed_with_its_own_mirror() {
        let mirror = mirror(deb822(STANZAS)).unwrap();
        let suites = [Suite::Archive("bullseye"), Suite::Security("bullseye-security")];
        let text = mirror.sources(&suites);
        let back = deb822(&text);
        assert_eq!(back.len(), 2);
        assert_eq!(back[0].suites, ["bullseye"]);
        assert_eq!(back[0].signed_by, mirror.archive.signed_by);
        assert_eq!(back[1].uri, "http://security.example/debian-security");
        assert!(!text.contains("rusted"), "signatures are always checked");
    }
}
