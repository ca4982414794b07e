//! Finds the server's program. Never downloads one, never asks a shell.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// In the order in which they are preferred.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// Looked into after PATH: services and cron jobs often run with a short one.
const ALSO: [&str; 4] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/opt/homebrew/bin",
];

/// The first `redis-server`, else the first `valkey-server`, on `search_path` and in the usual folders.
pub(super) fn find(search_path: Option<&OsStr>) -> Option<PathBuf> {
    let on_path = search_path
        .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .unwrap_or_default();
    // A relative entry (or an empty one: the current folder) would let whoever owns that folder choose our server.
    let folders: Vec<PathBuf> = on_path
        .into_iter()
        .filter(|folder| folder.is_absolute())
        .chain(ALSO.map(PathBuf::from))
        .collect();
    let mut all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, mode: u32) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn redis_comes_before_valkey_and_only_programs_count() {
        let tmp = tempfile::tempdir().unwrap();
        let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
        program(&a, "redis-server", 0o644);
        program(&a, "valkey-server", 0o755);
        let redis = program(&b, "redis-server", 0o755);
        let path = std::env::join_paths([&a, &b]).unwrap();
        assert_eq!(find(Some(&path)), Some(redis));
    }

    #[test]
    fn relative_folders_are_not_searched() {
        let found = find(Some(OsStr::new(".:target::bin")));
        assert!(found.is_none_or(|path| ALSO.iter().any(|folder| path.starts_with(folder))));
    }
}
