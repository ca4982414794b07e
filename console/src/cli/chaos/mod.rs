//! `pipectl chaos ls|show|run|stop|lever|report|history|suite`: experiments that hurt the pipeline on purpose, and what they
//! measured. The daemon keeps them, a guard process does them; here they are asked for, followed and shown.

mod copy;
mod follow;
mod list;
mod records;
mod run;
mod shown;
mod stop;
mod suite;

use pipectl_shared::chaos::Verdict as Outcome;

use super::Verdict;
use super::app::App;
use crate::client::{Candidate, Client, ClientError};
use crate::failure::Exit;
use crate::interrupt::Interrupt;
use crate::output::Tone;

const AFTER_HELP: &str = "\
Examples:
  pipectl chaos ls                                   what there is, and why it cannot run here
  pipectl chaos run worker.kill --copy               on a private copy of the pipeline, with a Redis of its own
  pipectl chaos run net.latency --for 30s --set delay=200ms --dry-run
  pipectl chaos run redis.kill --yes -o json         on the daemon that runs; needs [chaos] enabled
  pipectl chaos suite smoke --copy                   eight experiments in four minutes
  pipectl chaos lever on --reason 'the sale'         stops what runs and blocks the rest

Exit codes of run and suite: 0 pass, 1 failed (could not be injected or taken back), 4 refused, 5 aborted, 6 inconclusive \
(no fault hit), 8 deviated (the hypothesis did not hold); of several runs the worst.";

/// Experiments that hurt the pipeline on purpose, and what they measured
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the experiments with their last verdicts
    Ls,
    /// Show one: its claim, its parameters, how to run it
    Show {
        /// Its name
        name: String,
    },
    Run(run::Args),
    Stop(stop::StopArgs),
    Lever(stop::LeverArgs),
    Report(records::ReportArgs),
    History(records::HistoryArgs),
    Suite(suite::Args),
}

pub(super) fn run(app: &App, args: Args) -> Verdict {
    match args.verb {
        Verb::Ls => list::ls(app),
        Verb::Show { name } => list::show(app, &name),
        Verb::Run(args) => run::run(app, &args),
        Verb::Stop(args) => stop::stop(app, args),
        Verb::Lever(args) => stop::lever(app, &args),
        Verb::Report(args) => records::report(app, args),
        Verb::History(args) => records::history(app, &args),
        Verb::Suite(args) => suite::run(app, &args),
    }
}

/// Where the daemon of an experiment is: the one that runs, or a copy of it. A connection is made anew where one is lost.
struct Door<'a> {
    app: &'a App,
    candidates: Vec<Candidate>,
}

impl<'a> Door<'a> {
    fn of_daemon(app: &'a App) -> Self {
        Self {
            app,
            candidates: app.candidates(),
        }
    }

    fn open(&self) -> Result<Client, ClientError> {
        let timeout = self.app.timeout(ANSWER);
        Ok(self.app.connect_to(&self.candidates, timeout)?.0)
    }

    /// One that Ctrl-C does not disturb: for what has to be done after it.
    fn open_undisturbed(&self) -> Result<Client, ClientError> {
        let timeout = self.app.timeout(ANSWER);
        Ok(Client::connect_first(&self.candidates, timeout, &Interrupt::default())?.0)
    }
}

/// How long one answer may take.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

/// The tone of a verdict.
fn tone(verdict: Outcome) -> Tone {
    match verdict {
        Outcome::Pass => Tone::Good,
        Outcome::Aborted | Outcome::Inconclusive | Outcome::Refused => Tone::Warn,
        Outcome::Deviated | Outcome::Failed => Tone::Bad,
    }
}

/// How bad a verdict is: of several the greatest counts.
fn rank(verdict: Outcome) -> u8 {
    match verdict {
        Outcome::Pass => 0,
        Outcome::Refused => 1,
        Outcome::Inconclusive => 2,
        Outcome::Aborted => 3,
        Outcome::Deviated => 4,
        Outcome::Failed => 5,
    }
}

/// The exit code of several runs: of the worst. Nothing run is nothing wrong.
fn worst(verdicts: impl IntoIterator<Item = Outcome>) -> Exit {
    let worst = verdicts.into_iter().max_by_key(|verdict| rank(*verdict));
    Exit::Experiment(worst.unwrap_or(Outcome::Pass))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_verdicts_counts() {
        let of = |verdicts: &[Outcome]| worst(verdicts.iter().copied()).code();
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[Outcome::Pass, Outcome::Refused]), 4);
        assert_eq!(of(&[Outcome::Inconclusive, Outcome::Pass]), 6);
        assert_eq!(of(&[Outcome::Aborted, Outcome::Inconclusive]), 5);
        assert_eq!(of(&[Outcome::Deviated, Outcome::Aborted]), 8);
        assert_eq!(of(&[Outcome::Deviated, Outcome::Failed]), 1);
    }
}
