//! Where things lie: the data folder and the control socket, as data in, data out. The daemon binds the first socket
//! path that it can create, a client uses the first that answers; both walk this one list, so they agree also where a
//! path is too long and a hash stands in for it. Creating and checking is `datadir`'s in the daemon, `link`'s in the console.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest socket path in bytes that both ends and Redis take. The kernel's limit is 107; Redis 7.0 aborts a little
/// earlier when it adds its own suffixes (semantics.md section 8), 100 is the round number below.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Where the kernel's limit for a socket path lies (`sun_path`, less the closing NUL).
pub const SOCKET_PATH_BYTES_KERNEL: usize = 107;

/// The part of the environment that says where things lie. Handed in, so that tests need no environment of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `PIPELINED_DATA`
    pub data: Option<OsString>,
    /// `PIPELINED_SOCKET`
    pub socket: Option<OsString>,
    /// `XDG_STATE_HOME`
    pub state_home: Option<OsString>,
    /// `XDG_RUNTIME_DIR`
    pub runtime_dir: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
    /// Whose process it is.
    pub uid: u32,
}

impl Env {
    /// Reads the variables through `var`: in a binary `|name| std::env::var_os(name)`.
    pub fn read(uid: u32, var: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            data: var("PIPELINED_DATA"),
            socket: var("PIPELINED_SOCKET"),
            state_home: var("XDG_STATE_HOME"),
            runtime_dir: var("XDG_RUNTIME_DIR"),
            home: var("HOME"),
            uid,
        }
    }
}

/// A path at which the control socket may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The socket.
    pub path: PathBuf,
    /// Named by the flag or by `PIPELINED_SOCKET`: then it is the only one, and a fault with it is told, not passed over.
    pub is_explicit: bool,
    /// Lies in a folder that anybody could have made first (`/tmp/pipelined-<uid>`): before the socket is trusted, the
    /// folder must be found to be no link, owned by this user, with mode 0700.
    pub is_in_tmp: bool,
}

/// The data folder: the flag, `PIPELINED_DATA`, `$XDG_STATE_HOME/pipelined`, `~/.local/state/pipelined`. `None` when
/// nothing of this is set (no home). An empty variable counts as unset, a relative XDG folder too (as XDG asks).
pub fn data_folder(flag: Option<&Path>, env: &Env) -> Option<PathBuf> {
    if let Some(path) = flag {
        return Some(path.to_owned());
    }
    if let Some(path) = set(env.data.as_ref()) {
        return Some(PathBuf::from(path));
    }
    if let Some(base) = absolute(env.state_home.as_ref()) {
        return Some(base.join("pipelined"));
    }
    absolute(env.home.as_ref()).map(|home| home.join(".local/state/pipelined"))
}

/// Where the control socket may be, best first. `data` is the data folder as an absolute path.
pub fn control_sockets(flag: Option<&Path>, env: &Env, data: Option<&Path>) -> Vec<Candidate> {
    let explicit = flag
        .map(Path::to_owned)
        .or_else(|| set(env.socket.as_ref()).map(PathBuf::from));
    if let Some(path) = explicit {
        return vec![Candidate {
            path,
            is_explicit: true,
            is_in_tmp: false,
        }];
    }
    let open = |path| Candidate {
        path,
        is_explicit: false,
        is_in_tmp: false,
    };
    let mut list: Vec<Candidate> = Vec::new();
    if let Some(base) = absolute(env.runtime_dir.as_ref()) {
        list.push(open(base.join("pipelined/control.sock")));
    }
    list.push(open(PathBuf::from("/run/pipelined/control.sock")));
    list.retain(|candidate| fits(&candidate.path));
    if let Some(data) = data {
        list.extend(socket_in(data, "control", env));
    }
    list
}

/// Where a socket `<folder>/<name>.sock` may be: there, or, where that path is too long, under a runtime folder with a
/// hash of `folder` in its name; best first. `folder` must be absolute, and `name` short.
pub fn socket_in(folder: &Path, name: &str, env: &Env) -> Vec<Candidate> {
    let plain = folder.join(format!("{name}.sock"));
    if fits(&plain) {
        return vec![Candidate {
            path: plain,
            is_explicit: false,
            is_in_tmp: false,
        }];
    }
    let file = format!("{name}-{:016x}.sock", fnv1a(folder.as_os_str().as_bytes()));
    let runtime = absolute(env.runtime_dir.as_ref()).map(|base| (base.join("pipelined"), false));
    let run = Some((PathBuf::from("/run/pipelined"), false));
    let tmp = Some((PathBuf::from(format!("/tmp/pipelined-{}", env.uid)), true));
    [runtime, run, tmp]
        .into_iter()
        .flatten()
        .map(|(base, is_in_tmp)| Candidate {
            path: base.join(&file),
            is_explicit: false,
            is_in_tmp,
        })
        .filter(|candidate| fits(&candidate.path))
        .collect()
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

fn set(value: Option<&OsString>) -> Option<&OsStr> {
    value
        .map(OsString::as_os_str)
        .filter(|value| !value.is_empty())
}

fn absolute(value: Option<&OsString>) -> Option<&Path> {
    set(value).map(Path::new).filter(|path| path.is_absolute())
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo). A name, not a seal: the folder's owner is what is trusted.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::read(1000, |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_data_folder_is_the_first_that_is_set() {
        type Row = (
            &'static str,
            Option<&'static str>,
            &'static [(&'static str, &'static str)],
            Option<&'static str>,
        );
        let table: &[Row] = &[
            (
                "flag first",
                Some("/f"),
                &[("PIPELINED_DATA", "/d"), ("HOME", "/h")],
                Some("/f"),
            ),
            (
                "then the variable",
                None,
                &[("PIPELINED_DATA", "/d"), ("XDG_STATE_HOME", "/x")],
                Some("/d"),
            ),
            (
                "a relative variable is taken as it is",
                None,
                &[("PIPELINED_DATA", "d")],
                Some("d"),
            ),
            (
                "an empty variable is unset",
                None,
                &[("PIPELINED_DATA", ""), ("HOME", "/h")],
                Some("/h/.local/state/pipelined"),
            ),
            (
                "then XDG",
                None,
                &[("XDG_STATE_HOME", "/x"), ("HOME", "/h")],
                Some("/x/pipelined"),
            ),
            (
                "a relative XDG is none",
                None,
                &[("XDG_STATE_HOME", "x"), ("HOME", "/h")],
                Some("/h/.local/state/pipelined"),
            ),
            (
                "then home",
                None,
                &[("HOME", "/h")],
                Some("/h/.local/state/pipelined"),
            ),
            ("nothing", None, &[], None),
        ];
        for (desc, flag, vars, expected) in table {
            let found = data_folder(flag.map(Path::new), &env(vars));
            assert_eq!(found, expected.map(PathBuf::from), "{desc}");
        }
    }

    #[track_caller]
    fn sockets(flag: Option<&str>, vars: &[(&str, &str)], data: &str) -> Vec<String> {
        let list = control_sockets(flag.map(Path::new), &env(vars), Some(Path::new(data)));
        list.iter()
            .map(|candidate| candidate.path.display().to_string())
            .collect()
    }

    #[test]
    fn control_sockets_stand_in_the_order_of_the_contract() {
        let vars = [
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("PIPELINED_SOCKET", "/s.sock"),
        ];
        assert_eq!(sockets(Some("/flag.sock"), &vars, "/d"), ["/flag.sock"]);
        assert_eq!(sockets(None, &vars, "/d"), ["/s.sock"]);
        assert_eq!(
            sockets(None, &vars[..1], "/d"),
            [
                "/run/user/1000/pipelined/control.sock",
                "/run/pipelined/control.sock",
                "/d/control.sock"
            ]
        );
        assert_eq!(
            sockets(None, &[], "/d"),
            ["/run/pipelined/control.sock", "/d/control.sock"]
        );
    }

    #[test]
    fn a_long_path_is_replaced_by_a_hash_under_the_runtime_folders() {
        let long = format!("/{}", "d".repeat(100));
        let vars = [("XDG_RUNTIME_DIR", "/run/user/1000")];
        let list = socket_in(Path::new(&long), "redis", &env(&vars));
        let folders: Vec<_> = list
            .iter()
            .map(|c| (c.path.parent().unwrap().to_owned(), c.is_in_tmp))
            .collect();
        assert_eq!(
            folders,
            [
                (PathBuf::from("/run/user/1000/pipelined"), false),
                (PathBuf::from("/run/pipelined"), false),
                (PathBuf::from("/tmp/pipelined-1000"), true),
            ]
        );
        let other = socket_in(Path::new(&format!("{long}e")), "redis", &env(&vars));
        assert_ne!(
            list[0].path, other[0].path,
            "two folders must not share a socket"
        );
        assert!(list.iter().chain(&other).all(|c| fits(&c.path)));
    }

    #[test]
    fn the_limit_is_met_to_the_byte() {
        // "/" + n bytes + "/control.sock" is 100 bytes for n = 86.
        let folder = |n: usize| PathBuf::from(format!("/{}", "d".repeat(n)));
        let whole = socket_in(&folder(86), "control", &Env::default());
        assert_eq!(whole[0].path.as_os_str().len(), SOCKET_PATH_BYTES_MAX);
        assert!(whole[0].path.starts_with(folder(86)));
        let hashed = socket_in(&folder(87), "control", &Env::default());
        assert!(!hashed[0].path.starts_with(folder(87)));
    }

    #[test]
    fn a_runtime_folder_that_is_itself_too_long_is_passed_over() {
        let long = format!("/{}", "r".repeat(120));
        assert_eq!(
            sockets(None, &[("XDG_RUNTIME_DIR", &long)], "/d"),
            ["/run/pipelined/control.sock", "/d/control.sock"]
        );
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Test vectors of the FNV page (64 bits, FNV-1a): "" and "foobar".
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
