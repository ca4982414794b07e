//! `pipectl config path`: where everything is looked for, and what is there.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::app::App;
use super::{Verdict, up};
use crate::client::{Client, ClientError};
use crate::failure::Exit;
use crate::output::{Cell, Column, Document, Table, Text, Tone};

/// Where things are
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Every location: control sockets in the order they are tried, data folder, log, daemon program
    Path,
}

#[derive(Debug, Serialize)]
struct Location {
    what: &'static str,
    path: String,
    from: &'static str,
    state: String,
}

const KEYS: &[&str] = &["what", "path", "from", "state"];

const COLUMNS: &[Column] = &[
    Column::text("WHAT", 0, 6),
    Column::text("PATH", 0, 20),
    Column::text("FROM", 2, 6),
    Column::text("STATE", 1, 10),
];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    match args.verb {
        Verb::Path => paths(app),
    }
}

fn paths(app: &App) -> Verdict {
    let mut rows = Vec::new();
    let patience = app.timeout(Duration::from_secs(2));
    for candidate in app.candidates() {
        let state = match Client::connect(&candidate.path, patience, &app.interrupt) {
            Ok(client) => {
                let hello = client.hello();
                format!(
                    "pipelined {} answers: {}, pid {}",
                    hello.version, hello.pipeline, hello.pid
                )
            }
            Err(ClientError::Absent(tried)) => tried
                .into_iter()
                .next()
                .map(|tried| tried.why)
                .unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        let path = candidate.path.display().to_string();
        rows.push(Location {
            what: "socket",
            path,
            from: candidate.origin,
            state,
        });
    }
    if let Some((folder, from)) = app.places.data_folder(None) {
        let file = |what, path: &Path| Location {
            what,
            path: path.display().to_string(),
            from,
            state: if path.exists() { "there" } else { "not there" }.to_owned(),
        };
        rows.push(file("data", &folder));
        rows.push(file("log", &up::log_file(&folder)));
    }
    let (path, state) = match up::daemon_program() {
        Some(path) => (path.display().to_string(), "there"),
        None => (
            "pipelined".to_owned(),
            "not found beside pipectl or in PATH",
        ),
    };
    rows.push(Location {
        what: "daemon",
        path,
        from: "beside pipectl, then PATH",
        state: state.to_owned(),
    });

    let mut table = Table::new(COLUMNS);
    for row in &rows {
        table.rows.push(vec![
            Cell::new(row.what).tone(Tone::Strong),
            Cell::new(&row.path),
            Cell::new(row.from).tone(Tone::Dim),
            Cell::new(&row.state),
        ]);
    }
    let mut text = Text::default();
    text.table(table);
    app.screen
        .show(&Document::rows("locations", &rows, None, KEYS, text)?)?;
    Ok(Exit::Ok)
}
