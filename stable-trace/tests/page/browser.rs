//! Headless Chromium.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Rendered;

/// The widths of a phone and of a desktop, in pixels.
pub(crate) const WIDTHS: [u32; 2] = [360, 1280];

/// The preferred color scheme of the user's system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

pub(crate) struct Browser {
    program: PathBuf,
}

/// A page that frames the report at each width, opens its details, and records its contents as
/// JSON.
const PROBE: &str = r#"<!doctype html><meta charset="utf-8"><title>probe</title><body><script>
const widths = WIDTHS, frames = [];
function inspect(frame, width) {
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
    frames[index] = inspect(frame, width);
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
    /// Finds the program on PATH.
    pub(crate) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut candidates = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
        candidates.find(|program| program.is_file()).map(|program| Self { program })
    }

    /// Renders `page.html` in `folder` and returns its contents.
    pub(crate) fn inspect(&self, folder: &Path, page: &Path, scheme: Scheme) -> Result<Rendered> {
        ensure!(page == folder.join("page.html"), "the probe frames page.html");
        let probe = folder.join("probe.html");
        fs::write(&probe, PROBE.replace("WIDTHS", &format!("{WIDTHS:?}")))?;
        let mut command = self.command(folder, scheme);
        // The probe reads the elements of the report, and files are not of the same origin.
        command.args(["--allow-file-access-from-files", "--dump-dom"]);
        command.args(["--virtual-time-budget=20000", "--window-size=1400,900"]);
        let output = finish(command.arg(url(&probe)))?;
        let dom = String::from_utf8_lossy(&output.stdout);
        let coded = dom
            .split_once("data-json=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(coded, _)| coded)
            .with_context(|| format!("the probe has recorded nothing: {dom}"))?;
        serde_json::from_slice(&decoded(coded)?).context("the probe's JSON is invalid")
    }

    /// Takes a screenshot of a page. Returns its size in bytes.
    pub(crate) fn screenshot(&self, folder: &Path, page: &Path) -> Result<u64> {
        let picture = folder.join("screenshot.png");
        let mut command = self.command(folder, Scheme::Light);
        command.arg("--window-size=1280,1600").arg("--hide-scrollbars");
        command.arg(format!("--screenshot={}", picture.display())).arg(url(page));
        finish(&mut command)?;
        Ok(fs::metadata(&picture).context("chromium wrote no screenshot")?.len())
    }

    fn command(&self, folder: &Path, scheme: Scheme) -> Command {
        let mut command = Command::new(&self.program);
        // The sandbox needs a user other than root, and space in /dev/shm.
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

/// Runs the browser to its end. A console message of a page is an error.
fn finish(command: &mut Command) -> Result<Output> {
    let output = command.output().context("cannot start chromium")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "chromium failed ({}): {errors}", output.status);
    if let Some(line) = errors.lines().find(|line| line.contains("CONSOLE")) {
        bail!("the page wrote to the console: {line}");
    }
    Ok(output)
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Decodes base64 (RFC 4648, section 4), which HTML does not escape.
fn decoded(text: &str) -> Result<Vec<u8>> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let six = LETTERS.iter().position(|known| *known == letter).context("not base 64")?;
        buffer = (buffer << 6) | u32::try_from(six)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff)?);
        }
    }
    Ok(bytes)
}
