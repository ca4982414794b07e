//! From texts to a checked configuration, or to all of its faults.

use std::fmt;

use toml::de::DeTable;

use super::build::build;
use super::fault::Fault;
use super::lints;
use super::overrides;
use super::report::Reporter;
use super::tree::{self, FILE};
use super::types::Config;
use super::walk::walk;

/// What [`load`] reads; nothing here is looked up by itself.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Name of the file in messages.
    pub file_name: String,
    /// Its text, at most 1 MiB.
    pub text: String,
    /// Environment: names and values; those that do not begin with `PIPELINED__` are passed over.
    pub env: Vec<(String, String)>,
    /// `--set` flags, `key=value`; of several for one key the last counts.
    pub sets: Vec<String>,
}

/// A configuration without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Every key with its value and where that comes from, in the order of the catalogue.
    pub origins: Vec<Resolved>,
    /// What works but is probably not meant.
    pub warnings: Vec<Fault>,
}

/// One key after flags, environment, file and defaults were laid over each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Full path: `stage.enrich.workers`.
    pub key: String,
    /// As it would stand in the file, and so not yet safe to print; `None` if it is unset.
    pub value: Option<String>,
    /// Who says so.
    pub origin: Origin,
    /// Line and column in the file.
    pub position: Option<(u32, u32)>,
    /// What it means; for an unset key what that means.
    pub doc: String,
}

impl Resolved {
    /// The value as JSON: numbers, booleans, lists and texts as such, `null` if it is unset.
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref();
        let table = value.and_then(|value| format!("value = {value}").parse::<toml::Table>().ok());
        let value = table.and_then(|mut table| table.remove("value"));
        value
            .and_then(|value| serde_json::to_value(value).ok())
            .unwrap_or_default()
    }
}

/// Where a value comes from, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--set`.
    Flag,
    /// The environment variable with this name.
    Env(String),
    /// The file with this name.
    File(String),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--set"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Longest text of a file, in bytes. The largest sensible file is a hundredth of it.
const TEXT_MAX: usize = 1 << 20;

/// Reads, merges and checks a configuration.
///
/// # Errors
/// All faults at once, in the order of the file, then those of environment and flags.
pub fn load(input: &Input) -> Result<Loaded, Vec<Fault>> {
    if input.text.len() > TEXT_MAX {
        let what = format!("{} bytes long, of at most {TEXT_MAX}", input.text.len());
        return Err(vec![Fault::new(
            &input.file_name,
            &what,
            Some("is this the right file?"),
        )]);
    }
    let mut report = Reporter::new(input);
    let (parsed, errors) = DeTable::parse_recoverable(&input.text);
    if report.syntax(&errors) {
        return Err(report.faults());
    }
    let mut root = tree::table(&parsed, FILE);
    overrides::lay_all(input, &mut root, &mut report);
    let walked = walk(&root, &mut report);
    let (config, origins) = build(&walked, &mut report);
    if report.is_faulty() {
        return Err(report.faults());
    }
    lints::check(&config, &walked, &mut report);
    if report.is_faulty() {
        return Err(report.faults());
    }
    Ok(Loaded {
        config,
        origins,
        warnings: report.warnings(),
    })
}
