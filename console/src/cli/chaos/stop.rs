//! `pipectl chaos stop` and `lever`: ending what runs, and the switch that blocks what comes.

use pipectl_shared::chaos::{Lever, LeverParams, StopParams};
use serde_json::Value;

use super::super::Verdict;
use super::super::app::App;
use super::list;
use crate::failure::Exit;
use crate::output::{Block, Document, Span, Text, Tone};

/// End the experiment that runs: everything is taken back, then it is reported
#[derive(Debug, clap::Args)]
pub(super) struct StopArgs {
    /// Why; kept in the audit log and the report
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// One switch that stops what runs and blocks new ones, until it is taken back
#[derive(Debug, clap::Args)]
pub(super) struct LeverArgs {
    /// `on` pulls it, `off` takes it back
    #[arg(value_enum)]
    to: To,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// Stop all and block new ones
    On,
    /// Let experiments run again
    Off,
    /// Only look
    Status,
}

pub(super) fn stop(app: &App, args: StopArgs) -> Verdict {
    app.may_change("chaos stop")?;
    let mut client = app.connect()?;
    let reason = args.reason;
    let answer: Value = client.call("chaos.stop", StopParams { reason })?;
    let mut text = Text::default();
    let id = answer.get("id").and_then(Value::as_str).unwrap_or_default();
    let told = answer.get("message").and_then(Value::as_str);
    text.0.push(Block::Line(vec![
        Span(Tone::Strong, id.to_owned()),
        Span(Tone::Plain, told.unwrap_or("stopping").to_owned()),
    ]));
    app.screen
        .show(&Document::one("chaos-stop", &answer, text)?)?;
    Ok(Exit::Ok)
}

pub(super) fn lever(app: &App, args: &LeverArgs) -> Verdict {
    let lever: Lever = match args.to {
        To::Status => list::catalogue(&mut app.connect()?)?.lever,
        To::On | To::Off => {
            app.may_change("chaos lever")?;
            let params = LeverParams {
                pull: args.to == To::On,
                reason: args.reason.clone(),
            };
            app.connect()?.call("chaos.lever", params)?
        }
    };
    let mut text = Text::default();
    text.0.push(Block::Line(list::lever(&lever)));
    app.screen
        .show(&Document::one("chaos-lever", &lever, text)?)?;
    Ok(Exit::Ok)
}
