//! Settings: finds the configuration file, takes environment and flags, and hands them to `shared::config`.
//!
//! What a configuration may say is decided there; this room only reads, and prints what was found ([`check`],
//! [`explain`]). It is also the only one that turns a reference to a secret into the secret ([`resolve_secret`]).

mod print;
mod secret;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pipectl_shared::config::{self, Config, ENV_PREFIX, Fault, Input, Loaded};
use sha2::{Digest, Sha256};

pub use print::{Format, check, explain, print_faults};
pub use secret::{SecretError, resolve_secret};

/// Where the file is looked for if nobody names one, the first that exists.
pub const PATHS: [&str; 2] = ["pipeline.toml", "/etc/pipelined/config.toml"];

/// Most bytes that are read of a file: enough over 1 MiB that `shared::config` refuses what was cut by its length,
/// even without a character that the cut went through.
const READ_MAX: usize = (1 << 20) + 8;

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--config`; `None` looks at [`PATHS`].
    pub file: Option<PathBuf>,
    /// `--set`, each `key=value`.
    pub sets: Vec<String>,
}

/// The variables of this process that are meant for the configuration.
///
/// Bytes that are no UTF-8 become U+FFFD, which no name, address or number may hold; so they end as a fault.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

/// Finds, reads and checks the configuration.
///
/// # Errors
/// All faults at once; a file that is missing or cannot be read is one.
pub fn load(asked: &Asked, env: &[(String, String)]) -> Result<Loaded, Vec<Fault>> {
    load_from(asked, env, &PATHS.map(Path::new))
}

fn load_from(
    asked: &Asked,
    env: &[(String, String)],
    paths: &[&Path],
) -> Result<Loaded, Vec<Fault>> {
    let (path, text) = read(asked.file.as_deref(), paths).map_err(|fault| vec![fault])?;
    let mut loaded = config::load(&Input {
        file_name: path.to_string_lossy().into_owned(),
        text,
        env: env.to_vec(),
        sets: asked.sets.clone(),
    })?;
    loaded.warnings.extend(secret::lint(&loaded.config));
    Ok(loaded)
}

/// The first 16 hexadecimal digits of SHA-256 over the configuration as JSON with sorted keys.
///
/// Two daemons with the same hash run the same pipeline; where a value came from does not count, and secrets are in it
/// only as references.
pub fn config_hash(config: &Config) -> String {
    // A `Value` sorts the keys of its objects, so the order of fields in our types does not matter.
    let json = serde_json::to_value(config).expect("a configuration is plain data");
    let digest = Sha256::digest(json.to_string().as_bytes());
    digest[..8].iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all text");
        hex
    })
}

/// The file that holds, and its text.
fn read(named: Option<&Path>, paths: &[&Path]) -> Result<(PathBuf, String), Fault> {
    if let Some(path) = named {
        return read_text(path)
            .map(|text| (path.to_owned(), text))
            .map_err(|error| unreadable(path, &error));
    }
    for path in paths {
        match read_text(path) {
            Ok(text) => return Ok((path.to_path_buf(), text)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            // A file that is there but cannot be read is not silently replaced by the next one.
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(Fault::new(
        "configuration",
        &format!("there is no {}", paths.join(" and no ")),
        Some(
            "name the file with --config FILE, or start from the pipeline.toml that comes with pipelined",
        ),
    ))
}

enum ReadError {
    Io(io::Error),
    /// Line and column of the first byte that is no UTF-8.
    NotText(u32, u32),
}

fn read_text(path: &Path) -> Result<String, ReadError> {
    let file = File::open(path).map_err(ReadError::Io)?;
    let mut bytes = Vec::new();
    file.take(READ_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    let is_cut = bytes.len() == READ_MAX;
    String::from_utf8(bytes).or_else(|error| {
        let fault = error.utf8_error();
        let mut bytes = error.into_bytes();
        bytes.truncate(fault.valid_up_to());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if is_cut && fault.error_len().is_none() {
            return Ok(text);
        }
        let line = text.matches('\n').count() + 1;
        let col = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Err(ReadError::NotText(number(line), number(col)))
    })
}

fn unreadable(path: &Path, error: &ReadError) -> Fault {
    let name = path.to_string_lossy();
    match error {
        ReadError::NotText(line, col) => {
            let hint = "save the file as UTF-8";
            Fault::new(&name, "from here on it is not UTF-8 text", Some(hint)).at(*line, *col)
        }
        ReadError::Io(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "is the path right? --config names the file",
                io::ErrorKind::PermissionDenied => "let the user of pipelined read it",
                io::ErrorKind::IsADirectory => "name the file inside it",
                _ => "name another file with --config FILE",
            };
            Fault::new(&name, &format!("cannot read it: {error}"), Some(hint))
        }
    }
}

#[cfg(test)]
mod tests;
