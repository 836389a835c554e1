//! Chromium without a window.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Seen;

/// A phone's width, and a desk's.
pub const WIDTHS: [u32; 2] = [360, 1280];

/// What the reader's system asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark letters.
    Light,
    /// Light letters.
    Dark,
}

/// The program.
pub struct Browser {
    program: PathBuf,
}

/// Frames the page at each width, unfolds it, and writes down what there is.
const PROBE: &str = r#"<!doctype html><meta charset="utf-8"><title>probe</title><body><script>
const widths = WIDTHS, frames = [];
function look(frame, width) {
  const page = frame.contentDocument, root = page.documentElement;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const values = {};
  for (const node of page.querySelectorAll("[data-name]"))
    (values[node.dataset.name] ??= []).push(Number(node.dataset.value));
  const sized = node => { const box = node.getBoundingClientRect(); return box.width > 50 && box.height > 50; };
  return {
    width, values,
    reaches: Math.max(root.scrollWidth, page.body.scrollWidth),
    background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    pictures: [...page.querySelectorAll("svg")].filter(sized).length,
    foreign: page.querySelectorAll("script, img, b b, h1 b").length,
    title: page.title,
    verdicts: [...page.querySelectorAll(".verdict")].map(node =>
      [Number(node.dataset.integritySeq), node.dataset.cause, Number(node.dataset.confidence)]),
    evidence: [...page.querySelectorAll(".evidence li")].map(node => node.textContent),
  };
}
let waiting = widths.length;
widths.forEach((width, index) => {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:3000px;border:0;display:block`;
  frame.onload = () => {
    frames[index] = look(frame, width);
    if (--waiting == 0) {
      const out = document.createElement("pre");
      out.id = "seen";
      out.dataset.json = btoa(unescape(encodeURIComponent(JSON.stringify({ frames }))));
      document.body.append(out);
    }
  };
  frame.src = "page.html";
  document.body.append(frame);
});
</script></body>"#;

impl Browser {
    /// The one that is installed.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
        places.find(|program| program.is_file()).map(|program| Self { program })
    }

    /// Looks at `page.html` in `folder`.
    pub fn look(&self, folder: &Path, page: &Path, scheme: Scheme) -> Result<Seen> {
        ensure!(page == folder.join("page.html"), "the probe frames page.html");
        let probe = folder.join("probe.html");
        fs::write(&probe, PROBE.replace("WIDTHS", &format!("{WIDTHS:?}")))?;
        let mut command = self.command(folder, scheme);
        // A page reads another one's elements only if both are of one origin, which files are not.
        command.args(["--allow-file-access-from-files", "--dump-dom"]);
        command.args(["--virtual-time-budget=20000", "--window-size=1400,900"]);
        let output = finish(command.arg(url(&probe)))?;
        let dom = String::from_utf8_lossy(&output.stdout);
        let coded = dom
            .split_once("data-json=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(coded, _)| coded)
            .with_context(|| format!("the probe found nothing: {dom}"))?;
        serde_json::from_slice(&decoded(coded)?).context("what the probe found is not as it was")
    }

    /// The size in bytes of a picture of a page.
    pub fn screenshot(&self, folder: &Path, page: &Path) -> Result<u64> {
        let picture = folder.join("picture.png");
        let mut command = self.command(folder, Scheme::Light);
        command.arg("--window-size=1280,1600").arg("--hide-scrollbars");
        command.arg(format!("--screenshot={}", picture.display())).arg(url(page));
        finish(&mut command)?;
        Ok(fs::metadata(&picture).context("there is no picture")?.len())
    }

    fn command(&self, folder: &Path, scheme: Scheme) -> Command {
        let mut command = Command::new(&self.program);
        // Its sandbox wants a user that is not root, and a place in /dev/shm.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-extensions", "--enable-logging=stderr"]);
        command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        if scheme == Scheme::Dark {
            // 0 is dark: third_party/blink/public/mojom/css/preferred_color_scheme.mojom.
            command.arg("--blink-settings=preferredColorScheme=0");
        } else {
            command.arg("--blink-settings=preferredColorScheme=1");
        }
        command.env("HOME", folder);
        command
    }
}

/// Runs it to its end; what pages say on the console is an error.
fn finish(command: &mut Command) -> Result<Output> {
    let output = command.output().context("cannot start chromium")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "chromium failed ({}): {said}", output.status);
    if let Some(line) = said.lines().find(|line| line.contains("CONSOLE")) {
        bail!("the page speaks on the console: {line}");
    }
    Ok(output)
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Base 64 (RFC 4648, 4): the DOM comes as HTML, whose escapes it has none of.
fn decoded(text: &str) -> Result<Vec<u8>> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut kept, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = LETTERS.iter().position(|known| *known == letter).context("not base 64")?;
        kept = (kept << 6) | u32::try_from(six)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((kept >> bits) & 0xff)?);
        }
    }
    Ok(bytes)
}
