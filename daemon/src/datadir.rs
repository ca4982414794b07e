//! The data folder: who holds it, the instance id kept in it, its subfolders, and where sockets go. Which paths come into
//! question is `shared::places`' business; this room creates and checks them. It binds nothing: `doors/socket` does, and
//! `store/redis/managed` lets Redis do it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pipectl_shared::places::{self, Candidate, Env};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rustix::fs::{Access, FlockOperation, OFlags, access, flock};

/// Letters and digits of an instance id.
const INSTANCE_LENGTH: usize = 6;

/// Why the data folder or a socket's folder cannot be used. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Neither flag nor environment says where.
    #[error(
        "no data folder: neither --data, PIPELINED_DATA, XDG_STATE_HOME nor HOME is set; give --data DIR"
    )]
    Nowhere,
    /// Another daemon runs on it.
    #[error(
        "data folder {} is in use by the daemon with pid {}; stop it (pipectl down), or give this one its own --data \
         and --socket",
        folder.display(), pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// As the holder wrote it; `None` when it has not yet.
        pid: Option<u32>,
    },
    /// The folder is not fit to be trusted.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Verb phrase.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No socket path can be used.
    #[error("no folder for the socket can be used ({tried}); give --socket PATH")]
    NoSocketFolder {
        /// Each path with its fault.
        tried: String,
    },
}

type Result<T> = std::result::Result<T, DataError>;

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DataError + 'a {
    move |source| DataError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The environment of this process.
pub fn environment() -> Env {
    Env::read(rustix::process::getuid().as_raw(), |name| {
        std::env::var_os(name)
    })
}

/// An open data folder. While this value lives no other daemon can open the folder; the system frees it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    // Held for its lock. Never handed to a child: Rust opens files close-on-exec.
    _lock: File,
}

impl DataDir {
    /// Resolves, creates (mode 0700), checks and locks the folder. An existing folder keeps its mode, but one into which
    /// others can write is refused.
    pub fn open(flag: Option<&Path>, env: &Env) -> Result<Self> {
        let path = places::data_folder(flag, env).ok_or(DataError::Nowhere)?;
        let path = std::path::absolute(&path).map_err(io("resolve data folder", &path))?;
        create_folder(&path)?;
        check_own_folder(&path, env.uid)?;
        let lock = take_lock(&path)?;
        let instance = instance(&path)?;
        Ok(Self {
            path,
            instance,
            _lock: lock,
        })
    }

    /// The folder, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id kept in the folder: `[a-z0-9]{6}`, first part of consumer names unless the configuration says another.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// `<data>/<name>`, created with mode 0700 where it is missing: `log`, `redis`, `history`, `plans`.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        create_folder(&path)?;
        Ok(path)
    }
}

/// The path at which the control socket is to be bound: the first whose folder exists or can be created and can be
/// written. Whether somebody listens there already is for the one who binds to find out.
pub fn control_socket(flag: Option<&Path>, env: &Env, data: &Path) -> Result<PathBuf> {
    usable(&places::control_sockets(flag, env, Some(data)), env.uid)
}

/// The path for a socket `<folder>/<name>.sock`, under a runtime folder where that would be too long.
pub fn socket_in(folder: &Path, name: &str, env: &Env) -> Result<PathBuf> {
    usable(&places::socket_in(folder, name, env), env.uid)
}

fn usable(candidates: &[Candidate], uid: u32) -> Result<PathBuf> {
    let mut tried = Vec::new();
    for candidate in candidates {
        match prepare(candidate, uid) {
            Ok(path) => return Ok(path),
            Err(fault) if candidate.is_explicit => return Err(fault),
            Err(fault) => tried.push(fault.to_string()),
        }
    }
    Err(DataError::NoSocketFolder {
        tried: tried.join("; "),
    })
}

fn prepare(candidate: &Candidate, uid: u32) -> Result<PathBuf> {
    let path =
        std::path::absolute(&candidate.path).map_err(io("resolve socket path", &candidate.path))?;
    let length = path.as_os_str().len();
    if length > places::SOCKET_PATH_BYTES_KERNEL {
        let why = format!(
            "the path is {length} bytes long, sockets take at most {}; choose a shorter one",
            places::SOCKET_PATH_BYTES_KERNEL
        );
        return Err(DataError::Unfit { path, why });
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    create_folder(folder)?;
    if candidate.is_in_tmp {
        check_private_folder(folder, uid)?;
    } else if !candidate.is_explicit {
        check_own_folder(folder, uid)?;
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|fault| io("write into folder", folder)(fault.into()))?;
    Ok(path)
}

/// Creates a folder with mode 0700, and those above it with the usual mode.
fn create_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above).map_err(io("create folder", above))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(fault) if fault.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(io("create folder", path)(fault))
        }
        // Made by another process in between: the checks that follow look at what it is.
        _ => Ok(()),
    }
}

/// Refuses a folder that another user could tamper with: theirs, or one that everybody may write to.
fn check_own_folder(path: &Path, uid: u32) -> Result<()> {
    // Follows a link on purpose: a data folder that is a link to a larger disk is common.
    let found = std::fs::metadata(path).map_err(io("look at folder", path))?;
    let unfit = |why: String| {
        Err(DataError::Unfit {
            path: path.to_owned(),
            why,
        })
    };
    if !found.is_dir() {
        return unfit("is no folder; choose another path".to_owned());
    }
    if found.uid() != uid && found.uid() != 0 {
        return unfit(format!(
            "belongs to uid {}, not to this user ({uid}); choose another folder",
            found.uid()
        ));
    }
    if found.mode() & 0o002 != 0 {
        let mode = found.mode() & 0o7777;
        return unfit(format!(
            "can be written by everybody (mode {mode:04o}); choose another folder or chmod o-w it"
        ));
    }
    Ok(())
}

/// Stricter, for a folder under `/tmp`: no link, ours, and closed to all others.
fn check_private_folder(path: &Path, uid: u32) -> Result<()> {
    let found = std::fs::symlink_metadata(path).map_err(io("look at folder", path))?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let why = format!(
        "is not a private folder of this user (uid {}, mode {:04o}): somebody else may have made it; remove it",
        found.uid(),
        found.mode() & 0o7777
    );
    Err(DataError::Unfit {
        path: path.to_owned(),
        why,
    })
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A link planted here must not make us truncate what it points to.
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0))
        .open(path)
}

fn take_lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut file = open_file(&path).map_err(io("open lock", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Bounded: the file may be anybody's by now; a pid has at most ten digits.
            let _ = file.take(16).read_to_string(&mut text);
            return Err(DataError::Locked {
                folder: folder.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(fault) => return Err(io("lock", &path)(fault.into())),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(io("write pid into lock", &path))?;
    Ok(file)
}

fn instance(folder: &Path) -> Result<String> {
    let path = folder.join("instance");
    match std::fs::read(&path) {
        Ok(bytes) => parse_instance(&bytes).ok_or_else(|| DataError::Unfit {
            path: path.clone(),
            why: format!(
                "is to hold {INSTANCE_LENGTH} of a-z and 0-9, but holds something else; delete it to get a new id (what \
                 the old one held is then claimed after its idle time)"
            ),
        }),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
            let id = random_id().map_err(io("draw an instance id for", &path))?;
            write_whole(&path, format!("{id}\n").as_bytes()).map_err(io("write", &path))?;
            Ok(id)
        }
        Err(fault) => Err(io("read", &path)(fault)),
    }
}

fn parse_instance(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\n');
    let is_id = text.len() == INSTANCE_LENGTH
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    is_id.then(|| text.to_owned())
}

/// 36^6 ids are two billion: two of a hundred daemons meet with a chance of one in 400,000.
fn random_id() -> std::io::Result<String> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(INSTANCE_LENGTH);
    while id.len() < INSTANCE_LENGTH {
        let mut bytes = [0u8; 16];
        OsRng
            .try_fill_bytes(&mut bytes)
            .map_err(std::io::Error::other)?;
        // 252 = 7 * 36: bytes above it would favour the first letters.
        let fair = bytes
            .iter()
            .filter(|byte| **byte < 252)
            .map(|byte| char::from(LETTERS[usize::from(*byte) % 36]));
        id.extend(fair.take(INSTANCE_LENGTH - id.len()));
    }
    Ok(id)
}

/// Writes a small file so that after a crash either the old or the new content is there, whole.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Of a crash, or planted: never written through.
    match std::fs::remove_file(&beside) {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn env() -> Env {
        Env {
            uid: rustix::process::getuid().as_raw(),
            ..Env::default()
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_folder_is_private_and_keeps_its_instance() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/b");
        let first = DataDir::open(Some(&path), &env()).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&first.folder("log").unwrap()), 0o700);
        assert_eq!(mode(&path.join("instance")), 0o600);
        let id = first.instance().to_owned();
        assert!(parse_instance(id.as_bytes()).is_some(), "{id}");
        drop(first);
        assert_eq!(DataDir::open(Some(&path), &env()).unwrap().instance(), id);
    }

    #[test]
    fn a_second_daemon_is_refused_and_told_who_holds_the_folder() {
        let tmp = tempfile::tempdir().unwrap();
        let first = DataDir::open(Some(tmp.path()), &env()).unwrap();
        let refused = DataDir::open(Some(tmp.path()), &env()).unwrap_err();
        let own = std::process::id();
        assert!(
            matches!(refused, DataError::Locked { pid: Some(pid), .. } if pid == own),
            "{refused}"
        );
        assert!(refused.to_string().contains(&format!("pid {own}")));
        drop(first);
        DataDir::open(Some(tmp.path()), &env()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_trusted_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let open = tmp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        chmod(&open, 0o777);
        let file = tmp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let damaged = tmp.path().join("damaged");
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("instance"), "../../etc").unwrap();
        let table = [
            (&open, "everybody"),
            (&file, "file"),
            (&damaged, "instance"),
        ];
        for (path, word) in table {
            let fault = DataDir::open(Some(path), &env()).unwrap_err().to_string();
            assert!(fault.contains(word), "{fault}");
        }
        let other = Env {
            uid: env().uid + 1,
            ..env()
        };
        let own = tmp.path().join("own");
        // Root's folders are fit for everybody, so the refusal can be seen only by others than root.
        if env().uid != 0 {
            assert!(
                DataDir::open(Some(&own), &other)
                    .unwrap_err()
                    .to_string()
                    .contains("belongs to uid")
            );
        }
    }

    #[test]
    fn a_planted_link_is_not_written_through() {
        let tmp = tempfile::tempdir().unwrap();
        let victim = tmp.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let data = tmp.path().join("data");
        std::fs::create_dir(&data).unwrap();
        symlink(&victim, data.join("lock")).unwrap();
        DataDir::open(Some(&data), &env()).unwrap_err();
        std::fs::remove_file(data.join("lock")).unwrap();
        symlink(&victim, data.join("instance.new")).unwrap();
        DataDir::open(Some(&data), &env()).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn the_socket_goes_where_a_folder_can_be_made() {
        let tmp = tempfile::tempdir().unwrap();
        let runtime = tmp.path().join("runtime");
        std::fs::create_dir(&runtime).unwrap();
        let env = Env {
            runtime_dir: Some(runtime.clone().into()),
            ..env()
        };
        let path = control_socket(None, &env, tmp.path()).unwrap();
        assert_eq!(path, runtime.join("pipelined/control.sock"));
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[test]
    fn an_explicit_socket_is_never_exchanged_for_another() {
        let tmp = tempfile::tempdir().unwrap();
        let blocked = tmp.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        control_socket(Some(&blocked.join("control.sock")), &env(), tmp.path()).unwrap_err();
        let long = tmp.path().join("s".repeat(120));
        let fault = control_socket(Some(&long), &env(), tmp.path())
            .unwrap_err()
            .to_string();
        assert!(fault.contains("at most 107"), "{fault}");
    }

    #[test]
    fn a_folder_in_tmp_that_others_made_is_not_used() {
        let tmp = tempfile::tempdir().unwrap();
        let uid = env().uid;
        let open = tmp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        chmod(&open, 0o755);
        check_private_folder(&open, uid).unwrap_err();
        chmod(&open, 0o700);
        check_private_folder(&open, uid).unwrap();
        check_private_folder(&open, uid + 1).unwrap_err();
        symlink(&open, tmp.path().join("link")).unwrap();
        check_private_folder(&tmp.path().join("link"), uid).unwrap_err();
    }

    #[test]
    fn ids_are_drawn_from_all_letters() {
        let ids: std::collections::HashSet<_> = (0..200).map(|_| random_id().unwrap()).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| parse_instance(id.as_bytes()).is_some()));
    }
}
