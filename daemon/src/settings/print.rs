//! What `pipelined check` and `pipelined explain` print; nothing here reads or decides.

use std::io::{self, Write};

use pipectl_shared::config::{Fault, Loaded, Origin, Resolved, backoff_sum};
use pipectl_shared::units::human_duration;
use pipectl_shared::untrusted::{self, Mode, Untrusted};
use serde_json::{Value, json};

use super::{Asked, config_hash, load};
use crate::clock::Clock;

/// Exit codes of both commands (contract.md).
const GOOD: u8 = 0;
const FAULTY: u8 = 2;

/// Widest `key = value` that still moves the column of origins.
const LEFT_MAX: usize = 84;

/// `-o`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One document on one line.
    Json,
}

/// `pipelined check`: every fault and warning at once. Returns the exit code: 0, or 2 if there are faults.
///
/// # Errors
/// Only if `out` fails.
pub fn check(
    asked: &Asked,
    env: &[(String, String)],
    clock: &dyn Clock,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let result = load(asked, env);
    match format {
        Format::Text => check_text(&result, out)?,
        Format::Json => {
            let (faults, warnings) = match &result {
                Ok(loaded) => (&[][..], loaded.warnings.as_slice()),
                Err(faults) => (faults.as_slice(), &[][..]),
            };
            let hash = result
                .as_ref()
                .ok()
                .map(|loaded| config_hash(&loaded.config));
            let document = json!({
                "schema": "pipelined/check/1",
                "ts": clock.now_rfc3339(),
                "ok": result.is_ok(),
                "pipeline": result.as_ref().ok().map(|loaded| &loaded.config.name),
                "config_hash": hash,
                "faults": faults,
                "warnings": warnings,
            });
            write_json(&document, out)?;
        }
    }
    Ok(exit_code(&result))
}

/// `pipelined explain`: each key with what holds and who says so. Returns the exit code as [`check`] does.
///
/// Faults go to `err` as text, or into the document.
///
/// # Errors
/// Only if `out` or `err` fails.
pub fn explain(
    asked: &Asked,
    env: &[(String, String)],
    clock: &dyn Clock,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let result = load(asked, env);
    match (format, &result) {
        (Format::Text, Ok(loaded)) => {
            write_table(&loaded.origins, out)?;
            print_warnings(&loaded.warnings, err)?;
        }
        (Format::Text, Err(faults)) => print_faults(faults, err)?,
        (Format::Json, Ok(loaded)) => {
            let rows: Vec<Value> = loaded.origins.iter().map(row).collect();
            let document = json!({
                "schema": "pipelined/explain/1",
                "ts": clock.now_rfc3339(),
                "ok": true,
                "pipeline": loaded.config.name,
                "config_hash": config_hash(&loaded.config),
                "rows": rows,
                "next": null,
                "faults": [],
                "warnings": loaded.warnings,
            });
            write_json(&document, out)?;
        }
        (Format::Json, Err(faults)) => {
            let document = json!({
                "schema": "pipelined/explain/1",
                "ts": clock.now_rfc3339(),
                "ok": false,
                "pipeline": null,
                "config_hash": null,
                "rows": [],
                "next": null,
                "faults": faults,
                "warnings": [],
            });
            write_json(&document, out)?;
        }
    }
    Ok(exit_code(&result))
}

/// Faults as text, one after the other, with their number at the end.
///
/// # Errors
/// Only if `out` fails.
pub fn print_faults(faults: &[Fault], out: &mut dyn Write) -> io::Result<()> {
    for fault in faults {
        writeln!(out, "{fault}")?;
    }
    let s = if faults.len() == 1 { "" } else { "s" };
    writeln!(out, "{} fault{s}", faults.len())
}

fn print_warnings(warnings: &[Fault], out: &mut dyn Write) -> io::Result<()> {
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn exit_code(result: &Result<Loaded, Vec<Fault>>) -> u8 {
    if result.is_ok() { GOOD } else { FAULTY }
}

fn check_text(result: &Result<Loaded, Vec<Fault>>, out: &mut dyn Write) -> io::Result<()> {
    let loaded = match result {
        Ok(loaded) => loaded,
        Err(faults) => return print_faults(faults, out),
    };
    print_warnings(&loaded.warnings, out)?;
    let config = &loaded.config;
    let stages: Vec<&str> = config
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    writeln!(
        out,
        "ok: pipeline {}, stages {}; an entry that keeps failing is dead-lettered after {} tries and at most {} of waiting",
        config.name,
        stages.join(", "),
        config.retry.attempts,
        human_duration(backoff_sum(&config.retry)),
    )
}

fn write_json(document: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", untrusted::escape_json(&document.to_string()))
}

fn row(line: &Resolved) -> Value {
    let (from, name) = match &line.origin {
        Origin::Flag => ("flag", None),
        Origin::Env(name) => ("env", Some(name)),
        Origin::File(name) => ("file", Some(name)),
        Origin::Default => ("default", None),
    };
    json!({
        "key": line.key,
        "value": line.json(),
        "from": from,
        "name": name,
        "line": line.position.map(|(line, _)| line),
        "col": line.position.map(|(_, col)| col),
        "doc": line.doc,
    })
}

/// `key = value`, and where it comes from in a column of its own; an unset key is a comment that says what that means.
fn write_table(lines: &[Resolved], out: &mut dyn Write) -> io::Result<()> {
    let cells: Vec<_> = lines
        .iter()
        .map(|line| {
            let left = match &line.value {
                Some(value) => format!("{} = {value}", line.key),
                None => format!("# {} is not set: {}", line.key, line.doc),
            };
            Untrusted::new(&left).to_display(None, Mode::Unicode)
        })
        .collect();
    let widths = cells.iter().map(|cell| cell.width);
    let width = widths.filter(|width| *width <= LEFT_MAX).max().unwrap_or(0);
    for (line, cell) in lines.iter().zip(&cells) {
        let origin = match line.position {
            Some((at, _)) => format!("{}:{at}", line.origin),
            None => line.origin.to_string(),
        };
        let origin = Untrusted::new(&origin).to_display(None, Mode::Unicode).text;
        let gap = " ".repeat(width.saturating_sub(cell.width));
        writeln!(out, "{}{gap}  # {origin}", cell.text)?;
    }
    Ok(())
}
