//! The command line: the tree of nouns, their dispatch, and the exit code. One file per noun; this one only says which
//! exist, in the order in which help shows them.

mod act;
mod aggregates;
mod app;
mod audit;
mod chaos;
mod completion;
mod config;
mod console;
mod consumers;
mod dead;
mod down;
mod groups;
mod ingest;
mod latency;
mod ledger;
mod man;
mod page;
mod pending;
mod plan;
mod select;
mod stage;
mod stages;
mod status;
mod tap;
mod up;
mod xfault;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::failure::{Exit, Failure};
use crate::output::human::parse_duration;
use crate::output::{ColorWhen, Format, clean};
use app::App;

/// What every noun returns: its exit code, or why it stopped.
type Verdict = Result<Exit, Failure>;

const AFTER_HELP: &str = "\
Output: data goes to stdout, everything else to stderr. In text an unknown figure is `?` (null in JSON, empty in CSV), \
never 0; what does not apply is empty; k, M, G are thousands; `~` marks an estimate.

Exit codes: 0 ok, 1 failed, 2 usage, 3 daemon not reachable, 4 refused (permission, read-only, policy, no confirmation), \
5 partly done, 6 nothing matched (with --fail-empty), 7 timed out, 130 interrupted; `chaos run` has its own.

Environment: PIPELINED_SOCKET (control socket), PIPELINED_DATA (data folder), NO_COLOR, COLUMNS; of the \
console TERM, COLORTERM, LC_ALL, LC_CTYPE, LANG, SSH_CONNECTION (fewer frames), XDG_CONFIG_HOME (its settings file, \
pipectl/config.toml), XDG_STATE_HOME (its exports).";

#[derive(Debug, Parser)]
#[command(
    name = "pipectl",
    version,
    about = "See and steer pipelined: exactly-once pipelines on Redis Streams.",
    after_help = AFTER_HELP,
    propagate_version = false,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    console: console::Args,
    #[command(subcommand)]
    noun: Option<Noun>,
}

/// Flags that every noun takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Control socket of the daemon; only this one is tried
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to write the answer
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    output: Format,
    /// Ask again and again, every 2 s or as given with `=` (JSON becomes one document a line)
    #[arg(short, long, global = true, value_name = "EVERY", num_args = 0..=1, require_equals = true,
          default_missing_value = "2s", value_parser = parse_duration)]
    watch: Option<Duration>,
    /// Only data and errors: no notes, no progress
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Tell on stderr what is done on the way
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorWhen,
    /// Never ask, not even on a terminal
    #[arg(long, global = true)]
    no_input: bool,
    /// Refuse whatever would change something
    #[arg(long, global = true)]
    read_only: bool,
    /// How long to wait: 250ms, 60s, 5m (default: 10s for an answer; nouns that wait for more say so)
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Status(status::Args),
    Up(up::Args),
    Down(down::Args),
    Stages(stages::Args),
    Groups(groups::Args),
    Consumers(consumers::Args),
    Pending(pending::Args),
    Dead(dead::Args),
    Plan(plan::Args),
    Aggregates(aggregates::Args),
    Ledger(ledger::Args),
    Latency(latency::Args),
    Tap(tap::Args),
    Ingest(ingest::Args),
    Pause(stage::PauseArgs),
    Resume(stage::ResumeArgs),
    Scale(stage::ScaleArgs),
    Take(stage::TakeArgs),
    Chaos(chaos::Args),
    Audit(audit::Args),
    Config(config::Args),
    Completion(completion::Args),
    Man(man::Args),
    #[command(name = "x-fault", hide = true)]
    XFault(xfault::Args),
    #[command(name = "x-session", hide = true)]
    XSession(up::SessionArgs),
}

/// Parses, dispatches, tells the failure.
pub(crate) fn run() -> u8 {
    let matches = match tree().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let app = App::new(arguments.globals);
    let verdict = match arguments.noun {
        None if console::is_possible() && !app.globals.no_input => {
            console::open(&app, &arguments.console)
        }
        None => greet(&app),
        Some(noun) => dispatch(&app, noun),
    };
    match verdict {
        Ok(exit) => exit.code(),
        Err(failure) => {
            if let Some(message) = failure.message {
                app.screen.note(&format!("pipectl: {message}"));
            }
            if let Some(hint) = failure.hint {
                app.screen.note(&format!("hint: {hint}"));
            }
            failure.exit.code()
        }
    }
}

fn dispatch(app: &App, noun: Noun) -> Verdict {
    match noun {
        Noun::Status(args) => status::run(app, &args),
        Noun::Up(args) => up::run(app, &args),
        Noun::Down(args) => down::run(app, &args),
        Noun::Stages(args) => stages::run(app, &args),
        Noun::Groups(args) => groups::run(app, &args),
        Noun::Consumers(args) => consumers::run(app, args),
        Noun::Pending(args) => pending::run(app, args),
        Noun::Dead(args) => dead::run(app, args),
        Noun::Plan(args) => plan::run(app, args),
        Noun::Aggregates(args) => aggregates::run(app, &args),
        Noun::Ledger(args) => ledger::run(app, &args),
        Noun::Latency(args) => latency::run(app, &args),
        Noun::Tap(args) => tap::run(app, &args),
        Noun::Ingest(args) => ingest::run(app, &args),
        Noun::Pause(args) => stage::pause(app, args),
        Noun::Resume(args) => stage::resume(app, args),
        Noun::Scale(args) => stage::scale(app, args),
        Noun::Take(args) => stage::take(app, args),
        Noun::Chaos(args) => chaos::run(app, args),
        Noun::Audit(args) => audit::run(app, &args),
        Noun::Config(args) => config::run(app, &args),
        Noun::Completion(args) => completion::run(app, &args),
        Noun::Man(args) => man::run(app, &args),
        Noun::XFault(args) => xfault::run(app, args),
        Noun::XSession(args) => up::session(&args),
    }
}

/// The tree of commands, as help, completion and manual show it.
fn tree() -> clap::Command {
    // clap colours help before our flags are parsed, so `--color never` is looked for by hand.
    let mut when = clap::ColorChoice::Auto;
    let mut args = std::env::args_os().skip(1).peekable();
    while let Some(arg) = args.next() {
        let value = match arg.to_str() {
            Some("--") => break,
            Some("--color") => args
                .peek()
                .and_then(|next| next.to_str())
                .map(str::to_owned),
            Some(arg) => arg.strip_prefix("--color=").map(str::to_owned),
            None => None,
        };
        match value.as_deref() {
            Some("never") => when = clap::ColorChoice::Never,
            Some("always") => when = clap::ColorChoice::Always,
            _ => {}
        }
    }
    Arguments::command().color(when)
}

/// Help and version end with 0 on stdout, a wrong command line with 2 on stderr.
fn usage(error: &clap::Error) -> u8 {
    use std::io::Write as _;
    if error.use_stderr() {
        // The command line may quote a hostile file name; colours are not worth that.
        for line in error.render().to_string().lines() {
            let _ = writeln!(std::io::stderr().lock(), "{}", clean::line(line));
        }
        return Exit::Usage.code();
    }
    // A closed stdout is no failure of ours.
    let _ = error.print();
    Exit::Ok.code()
}

/// Without a noun: help, and on a terminal how the pipeline is.
fn greet(app: &App) -> Verdict {
    let mut tree = tree();
    if !std::io::stdout().is_terminal() {
        app.screen.write(&tree.render_help().to_string())?;
        return Ok(Exit::Ok);
    }
    let help = tree.render_help();
    app.screen.write(&if app.screen.colour {
        help.ansi().to_string()
    } else {
        help.to_string()
    })?;
    app.screen.write("\n")?;
    status::hint(app)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::tree;
    use crate::fixtures::{Desk, Scene};
    use crate::place::Id;

    #[test]
    fn the_equal_commands_of_experiments_can_be_typed() {
        let mut desk = Desk::live((80, 24));
        desk.go(Id::Chaos);
        desk.press("j j j j j");
        desk.press("Enter Down C-u");
        desk.type_text("250ms");
        desk.press("Down Down Down");
        desk.type_text("20s");
        desk.press("Down");
        desk.type_text("900");
        desk.press("Down Down");
        desk.type_text("drill");
        desk.press("Tab Tab Enter Tab Enter");
        desk.set_scene(Scene::Running);
        desk.press("S");
        for _ in 0..2 {
            desk.press("x l");
            desk.type_text("sale");
            desk.press("Tab Tab Enter Tab Enter");
        }
        let commands: Vec<&str> = desk.model.deeds.iter().map(|deed| &*deed.command).collect();
        assert_eq!(commands.len(), 4, "{commands:?}");
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            assert!(tree().try_get_matches_from(&words).is_ok(), "{command}");
        }
        let wrong = tree().try_get_matches_from(["pipectl", "chaos", "lever", "pull"]);
        assert!(wrong.is_err());
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        super::tree().debug_assert();
    }
}
