//! The agent as a service: what it tells the manager, and the unit that packages install.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Agent, Requirement, Scrape, Test, program, wait_until};

/// What the manager waits at most, in the test.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The exposure of the unit, at most, of 10.
const EXPOSURE: f64 = 3.0;

pub(crate) fn tests() -> Vec<Test> {
    let tool = Requirement::Program("systemd-analyze");
    vec![
        Test::anywhere("a_manager_hears_how_the_run_goes", notifications).requires_all([
            Requirement::Root,
            Requirement::Agent,
            Requirement::Tracefs,
        ]),
        Test::anywhere("a_socket_of_the_manager_serves_metrics", inherited_socket)
            .requires_all([Requirement::Root, Requirement::Agent, Requirement::Tracefs])
            .requires(Requirement::Program("bash")),
        Test::anywhere("a_reload_reads_the_web_configuration", reload)
            .requires_all([Requirement::Root, Requirement::Agent, Requirement::Tracefs])
            .requires_all([Requirement::Program("setsid"), Requirement::Program("mkfifo")]),
        Test::native("the_unit_is_sound", unit_is_sound).requires(tool),
        Test::native("the_unit_exposes_little", unit_exposes_little).requires(tool),
        Test::native("the_unit_has_the_documented_capabilities", unit_has_capabilities),
    ]
}

/// A service has no controlling terminal: `setsid` gives it up.
fn reload() -> Result<()> {
    let manager = Manager::new()?;
    let web = manager.path.with_file_name("web.yml");
    let frames =
        |value: &str| format!("http_server_config:\n  headers:\n    X-Frame-Options: {value}\n");
    fs::write(&web, frames("deny"))?;
    let agent = Agent::start_program(
        Path::new("setsid"),
        [
            "env",
            &format!("NOTIFY_SOCKET={}", manager.path.display()),
            Agent::program().to_str().context("the agent's path is not UTF-8")?,
            "trace",
            "--listen=127.0.0.1:0",
            "--web-config",
            web.to_str().context("the path is not UTF-8")?,
        ],
    )?;
    let url = agent.started().and_then(|start| start.metrics.clone()).context("no URL")?;
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    ensure!(frame_options(&address)? == "deny", "{}", frame_options(&address)?);

    fs::write(&web, frames("sameorigin"))?;
    agent.signal(Signal::HUP)?;
    let options_are = |value: &str| {
        wait_until(|| {
            let found = frame_options(&address)?;
            Ok((found != value).then(|| format!("X-Frame-Options is {found}, not {value}")))
        })
    };
    options_are("sameorigin")?;
    // A file that is refused changes nothing. The write to the FIFO returns when the agent has opened it.
    fs::remove_file(&web)?;
    program::run("mkfifo", &[&web.display().to_string()])?;
    agent.signal(Signal::HUP)?;
    fs::write(&web, "tls_server_config: {cert_file: missing.pem, key_file: missing.pem}\n")?;
    options_are("sameorigin")?;
    // The next one is read after it.
    fs::remove_file(&web)?;
    fs::write(&web, frames("deny"))?;
    agent.signal(Signal::HUP)?;
    options_are("deny")?;
    let recording = agent.stop()?;
    let errors = &recording.errors;
    ensure!(recording.status.success(), "{}: {errors}", recording.status);
    ensure!(
        errors.contains("the web configuration stays as it was") && errors.contains("missing.pem"),
        "{errors}"
    );
    Ok(())
}

/// The header `X-Frame-Options` of a response.
fn frame_options(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let value = response.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("X-Frame-Options").then(|| value.to_owned())
    });
    value.with_context(|| format!("no header: {response}"))
}

/// A service manager's socket.
struct Manager {
    _folder: TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).context("cannot bind a socket")?;
        Ok(Self { _folder: folder, path, socket })
    }

    /// The next message, if one comes in this time.
    fn next(&self, timeout: Duration) -> Result<Option<String>> {
        self.socket.set_read_timeout(Some(timeout))?;
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(size) => Ok(Some(String::from_utf8_lossy(&bytes[..size]).into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads messages until one has this line, and returns it.
    fn await_line(&self, line: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(message) = self.next(left.max(Duration::from_millis(1)))? else {
                bail!("the manager did not hear {line} within {} s", timeout.as_secs());
            };
            if message.lines().any(|found| found == line) {
                return Ok(message);
            }
        }
    }

    fn discard_all(&self) -> Result<()> {
        while self.next(Duration::from_millis(1))?.is_some() {}
        Ok(())
    }
}

fn notifications() -> Result<()> {
    let manager = Manager::new()?;
    let program = Agent::program();
    let agent = Agent::start_program(
        Path::new("env"),
        [
            &format!("NOTIFY_SOCKET={}", manager.path.display()),
            &format!("WATCHDOG_USEC={}", WATCHDOG.as_micros()),
            program.to_str().context("the agent's path is not UTF-8")?,
            "trace",
        ],
    )?;
    let started = manager.next(WATCHDOG)?.context("the manager did not hear of the start")?;
    ensure!(started.starts_with("READY=1\nSTATUS="), "{started:?} came first");
    let probes = &agent.started().context("no `start` line")?.probes;
    let attached = probes.iter().filter(|probe| probe.attached).count();
    let status = format!("{attached} of {} probes attached, ", probes.len());
    ensure!(started.contains(&status), "{started:?} is without {status:?}");

    // Never later than it waits, and with time to spare.
    for _ in 0..3 {
        manager.await_line("WATCHDOG=1", WATCHDOG)?;
    }
    // An agent that does not read the ring says nothing.
    agent.signal(Signal::STOP)?;
    manager.discard_all()?;
    let while_stopped = manager.next(2 * WATCHDOG)?;
    ensure!(while_stopped.is_none(), "a stopped agent says {while_stopped:?}");
    agent.signal(Signal::CONT)?;
    manager.await_line("WATCHDOG=1", WATCHDOG)?;
    // The status is updated.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let message = manager.next(WATCHDOG)?.context("the manager hears nothing")?;
        if message.starts_with("STATUS=") {
            ensure!(message.contains(&status) && message.contains("lost"), "{message:?}");
            break;
        }
        ensure!(Instant::now() < deadline, "no status within 30 s");
    }

    agent.signal(Signal::TERM)?;
    manager.await_line("STOPPING=1", WATCHDOG)?;
    let recording = agent.wait()?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    Ok(())
}

/// The agent serves metrics on a socket that it has as descriptor 3.
fn inherited_socket() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // The shell that becomes the agent shall have it.
    fcntl_setfd(&listener, FdFlags::empty())?;
    // What the harness appends, among it `--listen=off`, goes to the shell.
    let script = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} trace --format=json",
        listener.as_raw_fd(),
        Agent::program().display()
    );
    let agent = Agent::start_program(Path::new("bash"), ["-c", &script])?;
    drop(listener);
    let url = agent.started().and_then(|start| start.metrics.clone());
    ensure!(url == Some(format!("http://{address}/metrics")), "{url:?}, not {address}");
    ensure!(Scrape::of(&agent)?.sum("stable_trace_build_info", &[]) > 0.0, "no metrics");
    let recording = agent.stop()?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    ensure!(!recording.errors.contains("warning"), "{}", recording.errors);
    Ok(())
}

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/stable-trace.service")
}

/// `systemd-analyze verify` of service and socket, with the path of the agent that was built in place of
/// the installed one.
fn unit_is_sound() -> Result<()> {
    let installed = "/usr/bin/stable-trace";
    let text = fs::read_to_string(unit())?;
    ensure!(text.contains(&format!("ExecStart={installed} ")), "it does not start {installed}");
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("stable-trace.service");
    let built = Agent::program();
    fs::write(&copy, text.replace(installed, &built.to_string_lossy()))?;
    let socket = copy.with_extension("socket");
    fs::copy(unit().with_extension("socket"), &socket)?;
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).args([&copy, &socket]).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
    Ok(())
}

/// `systemd-analyze security`, whose last line is `→ Overall exposure level for UNIT: 2.5 OK 🙂`.
fn unit_exposes_little() -> Result<()> {
    let path = unit();
    let words = ["security", "--offline=true", "--no-pager"];
    let table =
        program::run("systemd-analyze", &[words.as_slice(), &[&path.to_string_lossy()]].concat())?;
    let overall = table.lines().find_map(|line| line.split_once("service: "));
    let score = overall.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    let score = score.with_context(|| format!("no overall level: {table}"))?;
    println!("exposure {score}");
    ensure!(score < EXPOSURE, "the exposure is {score}: {table}");
    Ok(())
}

/// The unit gives what docs/security.md lists, and no more.
fn unit_has_capabilities() -> Result<()> {
    let text = fs::read_to_string(unit())?;
    let documented = "CAP_BPF CAP_PERFMON CAP_SYSLOG CAP_DAC_READ_SEARCH CAP_SYS_PTRACE";
    for setting in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let line = format!("{setting}={documented}");
        ensure!(text.lines().any(|found| found == line), "the unit has no line {line}");
    }
    let page = fs::read_to_string(unit().with_file_name("../../docs/security.md"))?;
    let missing = documented.split(' ').find(|name| !page.contains(&format!("`{name}`")));
    ensure!(missing.is_none(), "docs/security.md does not list {missing:?}");
    Ok(())
}
