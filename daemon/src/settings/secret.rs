//! From a reference to the secret: read at the moment of use, kept nowhere, repeated in no message.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pipectl_shared::config::{Config, Fault, Secret};

/// Longest secret in bytes; arbitrary, and far above any password.
const SECRET_MAX: u64 = 64 << 10;

/// Why there is no secret; what was tried stands in it, never what was found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("read the secret from the environment: {0} is not set")]
    NotSet(String),
    /// The variable or the file has nothing in it.
    #[error("read the secret from {0}: it is empty")]
    Empty(String),
    /// The variable or the file is no UTF-8.
    #[error("read the secret from {0}: it is not UTF-8 text")]
    NotText(String),
    /// More than 64 KiB.
    #[error("read the secret from {0}: it is longer than 64KiB")]
    TooLong(String),
    /// A folder, a pipe or a device.
    #[error("read the secret from {}: it is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file cannot be read.
    #[error("read the secret from {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Reads the secret behind a reference. A newline at the end of a file is cut, as editors and `echo` add one.
///
/// # Errors
/// If it is missing, empty, not UTF-8, too long, or not a regular file.
pub fn resolve_secret(secret: &Secret) -> Result<String, SecretError> {
    resolve(secret, |name| std::env::var_os(name))
}

fn resolve(secret: &Secret, env: impl Fn(&str) -> Option<OsString>) -> Result<String, SecretError> {
    let (from, text) = match secret {
        Secret::Env(name) => {
            let value = env(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
            let text = value.into_string();
            let text = text.map_err(|_| SecretError::NotText(name.clone()))?;
            (name, text)
        }
        Secret::File(path) => (path, read_file(path)?),
    };
    if text.is_empty() {
        return Err(SecretError::Empty(from.clone()));
    }
    Ok(text)
}

fn read_file(path: &str) -> Result<String, SecretError> {
    let unreadable = |error| SecretError::Unreadable {
        path: PathBuf::from(path),
        error,
    };
    // Asked before opening: opening a pipe would wait for a writer for ever.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SecretError::NotAFile(PathBuf::from(path)));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(SECRET_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_MAX {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// What is unsafe or missing about the secrets that a configuration refers to, seen from this machine.
///
/// Only warnings: `check` may run elsewhere than the daemon, and some systems hand secrets out as readable files.
pub(super) fn lint(config: &Config) -> Option<Fault> {
    let secret = config.redis.password.as_ref()?;
    if let Err(error) = resolve_secret(secret) {
        let hint = "pipelined needs it when it connects to Redis";
        return Some(Fault::new("redis.password", &error.to_string(), Some(hint)));
    }
    let Secret::File(path) = secret else {
        return None;
    };
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        Fault::new(
            "redis.password",
            &format!("everybody on this machine may read or change {path}"),
            Some(&format!("chmod o-rwx {path}")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Secret) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, bytes).unwrap();
        let secret = Secret::File(path.to_str().unwrap().to_owned());
        (dir, secret)
    }

    fn env(name: &str) -> Option<OsString> {
        match name {
            "GOOD" => Some("s3cret".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        }
    }

    #[test]
    fn secrets_come_from_variables() {
        let get = |name: &str| resolve(&Secret::Env(name.to_owned()), env);
        assert_eq!(get("GOOD").unwrap(), "s3cret");
        assert!(matches!(get("EMPTY"), Err(SecretError::Empty(_))));
        assert!(matches!(get("GONE"), Err(SecretError::NotSet(_))));
    }

    #[test]
    fn one_newline_at_the_end_of_a_file_is_cut() {
        let cases: [(&[u8], &str); 5] = [
            (b"s3cret", "s3cret"),
            (b"s3cret\n", "s3cret"),
            (b"s3cret\r\n", "s3cret"),
            (b"s3cret\n\n", "s3cret\n"),
            (b" s3 cret ", " s3 cret "),
        ];
        for (bytes, text) in cases {
            let (_dir, secret) = file(bytes);
            assert_eq!(resolve(&secret, env).unwrap(), text);
        }
    }

    #[test]
    fn files_that_hold_no_secret_are_refused_without_repeating_them() {
        let long = vec![b'x'; usize::try_from(SECRET_MAX).unwrap() + 1];
        let cases: [(&[u8], &str); 4] = [
            (b"", "it is empty"),
            (b"\n", "it is empty"),
            (b"hunter2\xff", "it is not UTF-8 text"),
            (&long, "it is longer than 64KiB"),
        ];
        for (bytes, why) in cases {
            let (_dir, secret) = file(bytes);
            let error = resolve(&secret, env).unwrap_err().to_string();
            assert!(error.ends_with(why), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn a_pipe_or_a_folder_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for path in [pipe.as_path(), dir.path()] {
            let secret = Secret::File(path.to_str().unwrap().to_owned());
            assert!(matches!(
                resolve(&secret, env),
                Err(SecretError::NotAFile(_))
            ));
        }
        let secret = Secret::File(dir.path().join("gone").to_str().unwrap().to_owned());
        assert!(matches!(
            resolve(&secret, env),
            Err(SecretError::Unreadable { .. })
        ));
    }
}
