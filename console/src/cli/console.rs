//! `pipectl` on a terminal: starts the console with what flags, environment and the settings file say.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use pipectl_shared::rpc::Preset;

use super::Verdict;
use super::app::App;
use crate::failure::{Exit, Failure};
use crate::link::Target;
use crate::model::Options;
use crate::output::ColorWhen;
use crate::run::{Start, run};
use crate::settings;
use crate::theme::{Abilities, Theme};

/// Flags of the console
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Console (pipectl without a noun, on a terminal)")]
pub(super) struct Args {
    /// Draw with seven bits only
    #[arg(long)]
    ascii: bool,
    /// One frame a second at most, for very slow lines
    #[arg(long)]
    low_bandwidth: bool,
}

/// Whether there is a terminal at both ends.
pub(super) fn is_possible() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Runs the console until somebody quits.
pub(super) fn open(app: &App, args: &Args) -> Verdict {
    let settings = settings::load()?;
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .map(var)
        .find(|value| !value.is_empty())
        .unwrap_or_default();
    let theme = Theme::detect(&Abilities {
        term: var("TERM"),
        colorterm: var("COLORTERM"),
        locale,
        no_color: app.globals.color == ColorWhen::Never
            || (app.globals.color == ColorWhen::Auto && !var("NO_COLOR").is_empty()),
        ascii: args.ascii || settings.ascii,
    });
    // Ten a second at most; over SSH four, because a slow line queues what it cannot take.
    let frame = if args.low_bandwidth {
        Duration::from_secs(1)
    } else if var("SSH_CONNECTION").is_empty() {
        Duration::from_millis(100)
    } else {
        Duration::from_millis(250)
    };
    let state = ["XDG_STATE_HOME", "HOME"]
        .into_iter()
        .map(|name| (name, var(name)))
        .find(|(_, value)| !value.is_empty())
        .map(|(name, value)| match name {
            "HOME" => PathBuf::from(value).join(".local/state/pipectl"),
            _ => PathBuf::from(value).join("pipectl"),
        });
    let start = Start {
        options: Options {
            read_only: app.globals.read_only,
            theme,
            keymap: settings.keymap,
        },
        target: Target {
            candidates: app.candidates(),
            preset: Preset::Full,
            interval_ms: if args.low_bandwidth { 2_000 } else { 1_000 },
        },
        frame,
        state,
        interrupt: app.interrupt.clone(),
    };
    run(start).map_err(|error| {
        Failure::new(Exit::Failed, format!("draw on the terminal: {error}"))
            .hint("nouns work without one, such as `pipectl status`")
    })?;
    Ok(Exit::Ok)
}
