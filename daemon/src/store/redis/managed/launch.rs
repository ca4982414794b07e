//! Finding the server that already runs, and starting one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::error::ManagedError;
use super::files::Files;
use super::probe::{self, Server, Who};
use super::process::{Process, Way};
use super::{Managed, Result, Settings, binary, config};

/// Between two looks at something that takes a moment.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The server of this folder if one lives. `None`: start one. Fails when a stranger's server stands in its place, or
/// when ours lives and cannot be spoken to.
pub(super) async fn find_running(
    settings: &Settings,
    files: &Files,
) -> Result<Option<(PathBuf, Server)>> {
    let mut deadline = Instant::now() + settings.answer_within;
    loop {
        let lives = files.is_alive()?;
        // It listens where it was told to when it was started, which another environment may have named otherwise.
        let recorded = files.read("socket").map(PathBuf::from).filter(|_| lives);
        let socket = recorded.unwrap_or_else(|| settings.socket.clone());
        let why = match (probe::ask(&socket).await, lives) {
            (Who::Server(server), _) => {
                return own(files, server, &socket, lives).map(|s| Some((socket, s)));
            }
            (Who::Nobody, false) => return Ok(None),
            (Who::Silent(why), false) => return Err(ManagedError::Foreign { socket, why }),
            (Who::Nobody, true) => "nobody listens there".to_owned(),
            (Who::Silent(why), true) => why,
        };
        if Instant::now() >= deadline {
            let pid = files.pid();
            // Its socket file was deleted: nobody can ever speak to it again, so it is of no use to anybody.
            let is_cut_off = !socket.exists() && pid.is_some();
            if !is_cut_off {
                return Err(ManagedError::Stuck { pid, socket, why });
            }
            Process::Other.end(Way::Term, files, &socket).await;
            deadline = Instant::now() + settings.answer_within;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ours, if it holds our lock and is either the one we noted or, where a crash came before the note, the lock's holder.
fn own(files: &Files, server: Server, socket: &Path, lives: bool) -> Result<Server> {
    let noted = files.read("run_id");
    if lives
        && (noted.as_ref() == Some(&server.run_id)
            || server.pid.is_some_and(|pid| files.is_ours(pid)))
    {
        return Ok(server);
    }
    let why = match noted {
        _ if !lives => "no server of this folder lives".to_owned(),
        Some(noted) => format!(
            "its run id is {}, ours is {}",
            server.run_id,
            crate::logging::clean(&noted)
        ),
        None => format!("its run id is {}, and none is noted", server.run_id),
    };
    Err(ManagedError::Foreign {
        socket: socket.to_owned(),
        why,
    })
}

/// Starts the server and waits for its first answer; returns which program it is. If this is dropped half way, the
/// server runs on and `process` holds it.
pub(super) async fn launch(managed: &Managed, process: &mut Process) -> Result<PathBuf> {
    let Managed {
        settings,
        files,
        socket,
        ..
    } = managed;
    let binary = match &settings.binary {
        Some(binary) => binary.clone(),
        None => binary::find(settings.search_path.as_deref()).ok_or(ManagedError::NotFound)?,
    };
    let alive = wait_for_lock(settings, files, socket).await?;
    if let Who::Server(_) | Who::Silent(_) = probe::ask(socket).await {
        let why = "it listens there although no server of this folder lives".to_owned();
        return Err(ManagedError::Foreign {
            socket: socket.clone(),
            why,
        });
    }
    let configuration = files.path("redis.conf");
    files.rotate_log();
    let log_start = files.log_length();
    let words = files.first_words()?;
    // From here until it is written again, the lock alone says who our server is.
    files.remove("run_id")?;
    files.write("socket", &format!("{}\n", socket.display()))?;
    files.write("redis.conf", &config::render(settings, socket))?;
    let child = Command::new(&binary)
        .arg(&configuration)
        .current_dir(&settings.folder)
        // Secrets of the daemon's environment are not its business; TZ makes its log agree with ours.
        .env_clear()
        .envs(
            ["PATH", "TZ", "LANG"]
                .into_iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .stdin(Stdio::from(alive))
        .stdout(Stdio::from(
            words
                .try_clone()
                .map_err(ManagedError::io("share", &files.path("start.log")))?,
        ))
        .stderr(Stdio::from(words))
        // A Ctrl-C on the terminal goes to a whole group: the server must outlive the drain.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(ManagedError::io("start", &binary))?;
    *process = Process::Child(child);
    let server = first_answer(managed, process, &binary, log_start).await?;
    managed.remember(&server.run_id);
    Ok(binary)
}

/// A server that was killed may leave a child that is still rewriting the append-only file and holds the lock for a
/// moment longer: two must never write one folder.
async fn wait_for_lock(settings: &Settings, files: &Files, socket: &Path) -> Result<std::fs::File> {
    let deadline = Instant::now() + settings.answer_within;
    loop {
        if let Some(lock) = files.lock()? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            let why = "it or a child of it still holds the folder".to_owned();
            return Err(ManagedError::Stuck {
                pid: files.pid(),
                socket: socket.to_owned(),
                why,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn first_answer(
    managed: &Managed,
    process: &mut Process,
    binary: &Path,
    log_start: u64,
) -> Result<Server> {
    let Managed {
        settings,
        files,
        socket,
        ..
    } = managed;
    let pid = match process {
        Process::Child(child) => child.id(),
        Process::Other => None,
    };
    let deadline = Instant::now() + settings.answer_within;
    loop {
        let who = tokio::select! {
            how = process.ended(files) => {
                let last_words = files.last_words(log_start);
                return Err(ManagedError::Exited { binary: binary.to_owned(), how, last_words });
            }
            who = probe::ask(socket) => who,
        };
        match who {
            Who::Server(server) if server.pid == pid => return Ok(server),
            Who::Server(_) | Who::Silent(_) | Who::Nobody => {}
        }
        if Instant::now() >= deadline {
            process.end(Way::Kill, files, socket).await;
            process.ended(files).await;
            return Err(ManagedError::NoAnswer {
                binary: binary.to_owned(),
                socket: socket.clone(),
                within_s: settings.answer_within.as_secs(),
                last_words: files.last_words(log_start),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
