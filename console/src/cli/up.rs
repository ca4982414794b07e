//! `pipectl up`: attach to the daemon that runs, or start the sibling `pipelined run` and wait until it is well.
//!
//! Quitting `pipectl` never stops the daemon: it runs in a session of its own, with its output in `<data>/log`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipectl_shared::rpc::Hello;
use serde_json::Value;

use super::app::App;
use super::{Verdict, down, status};
use crate::client::{Candidate, Client, ClientError};
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};

/// How long a start may take unless `--timeout` says otherwise.
const START: Duration = Duration::from_secs(60);

/// The log of a daemon's own output is begun anew beyond this; the one before is kept as `.1`.
const LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Lines of the log that are told when a start fails.
const LOG_LINES: usize = 20;

/// Attach to the daemon that runs, or start one and wait until it is healthy
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration for `pipelined run`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder for `pipelined run`
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// One key of the configuration for `pipelined run`, such as source.users.enabled=false
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Drain a daemon that runs with another version or configuration, and start anew
    #[arg(long)]
    restart: bool,
}

/// Begin a session of its own and become another program (internal)
#[derive(Debug, clap::Args)]
pub(super) struct SessionArgs {
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let candidates = app
        .places
        .candidates(app.globals.socket.as_deref(), args.data.as_deref());
    let deadline = Deadline::after(app.timeout(START));
    match app.connect_to(&candidates, deadline.slice(Duration::from_secs(5))) {
        Ok((client, candidate)) => running(app, args, client, &candidate, &candidates, deadline),
        Err(ClientError::Absent(_)) => start(app, args, &candidates, deadline),
        Err(other) => Err(other.into()),
    }
}

/// A daemon answers: the same version and configuration is attached to, another one is refused or restarted.
fn running(
    app: &App,
    args: &Args,
    mut client: Client,
    candidate: &Candidate,
    candidates: &[Candidate],
    deadline: Deadline,
) -> Verdict {
    let hello = client.hello().clone();
    let difference = difference(app, args, &hello)?;
    if let Some(difference) = difference {
        let message = format!("attach to pipelined pid {}: {difference}", hello.pid);
        if systemd_owns(candidate) {
            return Err(Failure::new(Exit::Refused, message)
                .hint("a systemd unit owns it: change its configuration, then `systemctl restart pipelined`"));
        }
        if !args.restart {
            return Err(Failure::new(Exit::Refused, message)
                .hint("`pipectl up --restart` drains it and starts anew; `pipectl status` looks at what runs"));
        }
        app.may_change("up --restart")?;
        app.note(&format!("{message}; draining it"));
        down::drain(app, client, candidate, false, deadline)?;
        return start(app, args, candidates, deadline);
    }
    if systemd_owns(candidate) {
        app.note("it runs as a systemd unit: `systemctl status pipelined`");
    }
    app.note(&format!(
        "attached to pipelined {}, pid {}, at {}",
        hello.version,
        hello.pid,
        candidate.path.display()
    ));
    app.screen
        .show(&status::document(&status::get(&mut client)?)?)?;
    Ok(Exit::Ok)
}

/// What differs between the daemon that runs and the one that would be started; `None` = nothing that can be known.
fn difference(app: &App, args: &Args, hello: &Hello) -> Result<Option<String>, Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    if hello.version != ours {
        return Ok(Some(format!(
            "version {} runs, this is {ours}",
            hello.version
        )));
    }
    // Without any word about the configuration there is nothing to compare with.
    let said_nothing =
        args.config.is_none() && args.set.is_empty() && !Path::new("pipeline.toml").exists();
    if said_nothing {
        return Ok(None);
    }
    match wanted_hash(app, args)? {
        Some(wanted) if wanted != hello.config_hash => Ok(Some(format!(
            "configuration {} runs, {wanted} is wanted",
            hello.config_hash
        ))),
        Some(_) => Ok(None),
        None => {
            app.note(
                "pipectl: the configuration that runs could not be compared with the one given",
            );
            Ok(None)
        }
    }
}

/// The hash of the configuration that was given, by `pipelined check`; its faults are told and end the matter.
fn wanted_hash(app: &App, args: &Args) -> Result<Option<String>, Failure> {
    let Some(program) = daemon_program() else {
        return Ok(None);
    };
    let check = |json: bool| {
        let mut command = Command::new(&program);
        command
            .arg("check")
            .args(configuration(args))
            .stdin(Stdio::null());
        if json {
            command.args(["-o", "json"]);
        }
        command.output().map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("run {} check: {error}", program.display()),
            )
        })
    };
    let output = check(true)?;
    if output.status.code() == Some(i32::from(Exit::Usage.code())) {
        let told = check(false)?;
        for line in [told.stdout, told.stderr]
            .iter()
            .flat_map(|part| part.split(|byte| *byte == b'\n'))
        {
            if !line.is_empty() {
                app.screen.note(&String::from_utf8_lossy(line));
            }
        }
        return Err(Failure::new(
            Exit::Usage,
            "check the configuration: it has faults",
        ));
    }
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    Ok(answer.and_then(|answer| Some(answer.get("config_hash")?.as_str()?.to_owned())))
}

fn configuration(args: &Args) -> Vec<OsString> {
    let mut made = Vec::new();
    if let Some(config) = &args.config {
        made.extend(["--config".into(), config.clone().into_os_string()]);
    }
    for set in &args.set {
        made.extend(["--set".into(), set.into()]);
    }
    made
}

fn start(app: &App, args: &Args, candidates: &[Candidate], deadline: Deadline) -> Verdict {
    app.may_change("up")?;
    let Some(program) = daemon_program() else {
        return Err(Failure::new(
            Exit::Failed,
            "start pipelined: it is neither beside pipectl nor in PATH",
        )
        .hint("build it: `cargo build --release`, or install it"));
    };
    // Faults of the file are told at once and not dug out of a log.
    if args.config.is_some() || !args.set.is_empty() {
        wanted_hash(app, args)?;
    }
    let Some((data, _)) = app.places.data_folder(args.data.as_deref()) else {
        return Err(Failure::new(
            Exit::Failed,
            "start pipelined: no data folder, because HOME is not set",
        )
        .hint("name one with --data DIR or PIPELINED_DATA"));
    };
    let log = log_file(&data);
    let (file, from) = open_log(&log).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("open the log {}: {error}", log.display()),
        )
    })?;
    let mut child = spawn(app, args, &program, file)?;
    let pid = child.id();
    app.debug(&format!(
        "started {} run, pid {pid}, its output goes to {}",
        program.display(),
        log.display()
    ));

    let healthy = status::wait_healthy(app, candidates, deadline, |client| {
        if let Some(client) = client
            && client.hello().pid == pid
        {
            return Ok(true);
        }
        match child.try_wait() {
            Ok(Some(exit)) => {
                tell_log(app, &log, from);
                Err(Failure::new(
                    Exit::Failed,
                    format!("start pipelined: it ended at once ({exit})"),
                )
                .hint(format!("its output is in {}", log.display())))
            }
            Ok(None) => Ok(false),
            Err(error) => Err(Failure::new(
                Exit::Failed,
                format!("watch pipelined start: {error}"),
            )),
        }
    });
    let status = match healthy {
        Ok(status) => status,
        Err(failure) if failure.exit == Exit::TimedOut => {
            tell_log(app, &log, from);
            let message = failure.message.unwrap_or_default();
            return Err(Failure::new(Exit::TimedOut, format!("start pipelined (pid {pid}): {message}"))
                .hint("it goes on starting: see `pipectl status --wait-healthy`, or stop it with `pipectl down`"));
        }
        Err(failure) => return Err(failure),
    };
    app.note(&format!(
        "started pipelined {}, pid {pid}, log {}",
        status.daemon.version,
        log.display()
    ));
    app.screen.show(&status::document(&status)?)?;
    Ok(Exit::Ok)
}

fn spawn(app: &App, args: &Args, program: &Path, log: File) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Exit::Failed,
            format!("start {}: {error}", program.display()),
        )
    };
    let ours = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(ours);
    // Through ourselves, because only the new process can begin its session, and then it becomes the daemon.
    command
        .args(["x-session", "--"])
        .arg(program)
        .arg("run")
        .args(configuration(args));
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    if let Some(socket) = &app.globals.socket {
        command.arg("--socket").arg(socket);
    }
    let second = log.try_clone().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .spawn()
        .map_err(failed)
}

/// Becomes the leader of a new session, so that no terminal's end reaches the daemon, and then the daemon itself.
pub(super) fn session(args: &SessionArgs) -> Verdict {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::new(Exit::Usage, "x-session: no program"));
    };
    // Refused only to the leader of a process group, which then has no terminal to lose either.
    let _ = rustix::process::setsid();
    let error = Command::new(program).args(rest).exec();
    Err(Failure::new(
        Exit::Failed,
        format!("start {}: {error}", Path::new(program).display()),
    ))
}

/// The `pipelined` beside this program, else the one in PATH.
pub(super) fn daemon_program() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .map(|ours| ours.with_file_name("pipelined"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("pipelined"));
    beside
        .into_iter()
        .chain(in_path)
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Where the output of a daemon that `up` started goes.
pub(super) fn log_file(data: &Path) -> PathBuf {
    data.join("log/pipelined.out")
}

/// Opens the log for appending; returns its length, where the new daemon's words begin.
fn open_log(path: &Path) -> std::io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("out.1"))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let from = file.metadata()?.len();
    Ok((file, from))
}

fn tell_log(app: &App, path: &Path, from: u64) {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        // Its end only: a daemon can fail at length.
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(64 * 1024))))?;
        let mut tail = Vec::new();
        file.take(64 * 1024).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        app.screen.note(line);
    }
}

/// Whether the socket is the system's and its systemd unit runs.
fn systemd_owns(candidate: &Candidate) -> bool {
    candidate.path.starts_with("/run/pipelined")
        && Command::new("systemctl")
            .args(["is-active", "--quiet", "pipelined"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}
