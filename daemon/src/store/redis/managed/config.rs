//! The configuration file of the private server, and how much memory it gets.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Settings;

/// Share of the machine's memory when the configuration says nothing: a quarter.
const SHARE: u64 = 4;

/// The most that is taken unasked.
const MEMORY_MAX: u64 = 4 << 30;

/// The least with which a pipeline does anything useful.
const MEMORY_MIN: u64 = 64 << 20;

/// The whole file. Every value is written by us or quoted, so no path can smuggle in a line.
pub(super) fn render(settings: &Settings, socket: &Path) -> String {
    let mut text = String::from(
        "# Written by pipelined at every start of its private server; changes here are lost.\n",
    );
    let folder = &settings.folder;
    let lines: [(&str, String); 16] = [
        // Only through the socket, and only this user.
        ("port", "0".to_owned()),
        ("unixsocket", quote(socket)),
        ("unixsocketperm", "600".to_owned()),
        ("daemonize", "no".to_owned()),
        ("supervised", "no".to_owned()),
        ("pidfile", quote(&folder.join("redis.pid"))),
        ("logfile", quote(&folder.join("redis.log"))),
        ("dir", quote(folder)),
        // What was acknowledged is in the append-only file; snapshots beside it would only cost forks.
        ("save", "\"\"".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("appendfsync", settings.append_fsync.clone()),
        // The command form forgets pending entries of deleted payloads when it is rewritten (redis#15729).
        ("aof-use-rdb-preamble", "yes".to_owned()),
        // A tail cut by a crash is dropped, not a reason to stay down.
        ("aof-load-truncated", "yes".to_owned()),
        // Evicting would drop the stream together with its groups; a full server must refuse instead.
        ("maxmemory-policy", "noeviction".to_owned()),
        ("maxmemory", memory(settings).to_string()),
        // After a crash be back at once, instead of testing the memory for minutes.
        ("crash-memcheck-enabled", "no".to_owned()),
    ];
    for (name, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

/// The configured limit, else a quarter of the machine's (or the container's) memory, 64 MiB to 4 GiB.
pub(super) fn memory(settings: &Settings) -> u64 {
    settings
        .max_memory
        .unwrap_or_else(|| share_of(machine_memory()))
}

fn share_of(total: u64) -> u64 {
    (total / SHARE).clamp(MEMORY_MIN, MEMORY_MAX)
}

/// Of the machine, or of the container where that has less; 0 = not known.
fn machine_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else {
        return 0;
    };
    system.refresh_memory();
    let total = system.total_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => total.min(limits.total_memory),
        _ => total,
    }
}

/// As Redis' configuration reads it: double quotes, everything unusual as `\xHH`.
fn quote(path: &Path) -> String {
    let mut out = String::from("\"");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn paths_cannot_smuggle_in_directives() {
        let path = Path::new(OsStr::from_bytes(b"/a b/\"\\\nport 6379\n\xff"));
        assert_eq!(quote(path), r#""/a b/\"\\\x0aport 6379\x0a\xff""#);
        let settings = Settings {
            folder: path.to_owned(),
            ..Settings::for_test(path)
        };
        let text = render(&settings, path);
        assert!(
            text.lines()
                .filter(|line| line.starts_with("port "))
                .eq(["port 0"]),
            "{text}"
        );
    }

    #[test]
    fn memory_is_a_quarter_within_limits() {
        let gib = 1 << 30;
        let table = [
            (0, MEMORY_MIN),
            (100 << 20, MEMORY_MIN),
            (8 * gib, 2 * gib),
            (64 * gib, 4 * gib),
        ];
        for (total, expected) in table {
            assert_eq!(share_of(total), expected, "{total}");
        }
        assert!((MEMORY_MIN..=MEMORY_MAX).contains(&share_of(machine_memory())));
        let settings = Settings {
            max_memory: Some(5),
            ..Settings::for_test(Path::new("/d"))
        };
        assert_eq!(memory(&settings), 5);
    }
}
