//! The console's own file, `$XDG_CONFIG_HOME/pipectl/config.toml`: looks and keys. Every fault is told, none is guessed away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::{Exit, Failure};
use crate::keys::Keymap;

/// Largest file that is read.
const BYTES_MAX: u64 = 1024 * 1024;

/// What the file says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// Draw with seven bits only.
    ascii: bool,
    /// Key or list of keys by act, as `?` names them.
    keys: BTreeMap<String, Keys>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Many(Vec<String>),
}

/// Looks and keys of the console.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Draw with seven bits only.
    pub(crate) ascii: bool,
    /// What the keys do.
    pub(crate) keymap: Keymap,
}

/// Where the file is looked for.
pub(crate) fn path() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("pipectl/config.toml"))
}

/// Reads the file; defaults when there is none.
///
/// # Errors
/// What is wrong with it, and where; exit code 2.
pub(crate) fn load() -> Result<Settings, Failure> {
    match path() {
        Some(path) if path.exists() => read(&path),
        _ => Ok(Settings::default()),
    }
}

fn read(path: &Path) -> Result<Settings, Failure> {
    let fault = |why: String| {
        Failure::new(
            Exit::Usage,
            format!("read {}: {why}", path.display()),
        )
        .hint("mend it or move it away; known keys are `ascii` and the table `[keys]` (act = key or list of keys)")
    };
    let about = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    if !about.is_file() || about.len() > BYTES_MAX {
        return Err(fault("it is no file of at most 1 MiB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    parse(&text).map_err(fault)
}

fn parse(text: &str) -> Result<Settings, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
    let keys = file
        .keys
        .into_iter()
        .map(|(act, keys)| match keys {
            Keys::One(key) => (act, vec![key]),
            Keys::Many(keys) => (act, keys),
        })
        .collect();
    let keymap = Keymap::with(&keys).map_err(|faults| faults.join("; "))?;
    Ok(Settings {
        ascii: file.ascii,
        keymap,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Act, Key};

    #[test]
    fn keys_are_bound_anew_and_ctrl_c_always_quits() {
        let settings =
            parse("ascii = true\n[keys]\nmenu = \"m\"\nfreeze = [\"F\", \"C-f\"]\n").unwrap();
        assert!(settings.ascii);
        let act = |key| settings.keymap.act(key);
        assert_eq!(act(Key::Char('m')), Some(Act::Menu));
        assert_eq!(act(Key::Char('x')), None);
        assert_eq!(act(Key::Ctrl('f')), Some(Act::Freeze));
        assert_eq!(act(Key::Char('f')), None);
        assert_eq!(act(Key::Ctrl('c')), Some(Act::Abort));
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("colour = 1", "unknown field"),
            ("[keys]\nfly = \"x\"", "fly: no such act"),
            ("[keys]\nmenu = \"Hyper-x\"", "\"Hyper-x\" is no key"),
            ("[keys]\nmenu = \"C-c\"", "C-c always quits"),
            ("ascii = ", "ascii"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
