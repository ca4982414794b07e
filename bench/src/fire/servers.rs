//! Which servers there are. `scripts/fire` fetches them and names each in the environment; one that is missing is told of.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use super::table::Table;
use crate::server::on_path;

/// A server to try.
pub(crate) struct Kind {
    pub(crate) label: String,
    pub(crate) program: PathBuf,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Redis 7.0, as Debian has it: `redis-server` on PATH, or `FIRE_REDIS7`.
    Redis7,
    /// Valkey: `FIRE_VALKEY`, or `valkey-server` on PATH.
    Valkey,
    /// Redis 8: `FIRE_REDIS8`.
    Redis8,
    /// All of them.
    All,
    /// The one that is on PATH, whatever it is.
    Installed,
}

/// Those that are here; the others are named in the table.
pub(crate) fn find(which: Which, table: &mut Table) -> Vec<Kind> {
    let mut found = Vec::new();
    if which == Which::Installed {
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find_map(on_path);
        if let Some((version, program)) = program.and_then(|p| Some((version(&p)?, p))) {
            table.server("here", &version);
            found.push(Kind {
                label: "here".to_owned(),
                program,
            });
        }
        return found;
    }
    for (kind, label, variable, on) in [
        (Which::Redis7, "redis7", "FIRE_REDIS7", Some("redis-server")),
        (
            Which::Valkey,
            "valkey",
            "FIRE_VALKEY",
            Some("valkey-server"),
        ),
        (Which::Redis8, "redis8", "FIRE_REDIS8", None),
    ] {
        if which != Which::All && which != kind {
            continue;
        }
        let named = std::env::var_os(variable).filter(|value| !value.is_empty());
        let program = named.map(PathBuf::from).or_else(|| on.and_then(on_path));
        let told = program.and_then(|program| Some((version(&program)?, program)));
        match told {
            Some((version, program)) => {
                table.server(label, &version);
                found.push(Kind {
                    label: label.to_owned(),
                    program,
                });
            }
            None => table.not_run(
                "all",
                label,
                &format!("no such server runs here; name its program in {variable}"),
            ),
        }
    }
    found
}

/// What the program says of itself; nothing when it does not run.
fn version(program: &PathBuf) -> Option<String> {
    let out = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = said
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    out.status
        .success()
        .then(|| version.unwrap_or("unknown version").to_owned())
}
