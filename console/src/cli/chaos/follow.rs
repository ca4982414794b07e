//! Following a run to its end: one live line on a terminal, its marks as lines elsewhere. The daemon may die meanwhile, which
//! some experiments mean it to: the next one answers for the same run.
//!
//! The first Ctrl-C asks for the experiment to be stopped and waits until everything is taken back; the second leaves.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipectl_shared::chaos::{GetParams, Phase, Progress, Run, Slot, StopParams};
use serde_json::Value;

use super::Door;
use super::records::ms;
use crate::client::{Client, ClientError};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::output::clean;
use crate::output::human::{duration_ms, or_unknown, rate};

/// Between two questions.
const POLL: Duration = Duration::from_millis(500);
/// How long no daemon may answer: a killed one is started again within seconds, a managed Redis may load for a while.
const AWAY: Duration = Duration::from_secs(120);
/// How long a run whose guard died may have no document: the daemon writes one when it has taken everything back.
const GUARDLESS: Duration = Duration::from_secs(30);

/// Where following is.
struct Follow<'a> {
    door: &'a Door<'a>,
    client: Option<Client>,
    id: &'a str,
    bar: ProgressBar,
    after_mark: u64,
    after_t_ms: u64,
    newest: Option<Slot>,
    is_stopping: bool,
}

/// Follows a run to its document. `client` is the connection over which it was begun.
///
/// # Errors
/// No daemon answers any more, or the run ended without a document.
pub(super) fn follow(door: &Door<'_>, client: Client, id: &str) -> Result<Run, Failure> {
    door.app.interrupt.cooperate();
    let mut follow = Follow {
        door,
        client: Some(client),
        id,
        bar: bar(door),
        after_mark: 0,
        after_t_ms: 0,
        newest: None,
        is_stopping: false,
    };
    let run = follow.until_ended();
    follow.bar.finish_and_clear();
    run
}

impl Follow<'_> {
    fn until_ended(&mut self) -> Result<Run, Failure> {
        let mut away: Option<Deadline> = None;
        let mut guardless: Option<Deadline> = None;
        loop {
            match self.ask() {
                Ok(progress) => {
                    if away.take().is_some() {
                        self.tell("the daemon answers again");
                    }
                    let is_guardless = progress.verdict.is_none() && !progress.why.is_empty();
                    let why = progress.why.clone();
                    self.show(&progress);
                    if let Some(run) = progress.run {
                        return Ok(*run);
                    }
                    if !is_guardless {
                        guardless = None;
                    } else if guardless
                        .get_or_insert(Deadline::after(GUARDLESS))
                        .is_over()
                    {
                        let message = format!("follow {}: {why}", self.id);
                        return Err(Failure::new(Exit::Failed, message).hint(
                            "look at guard.log in the folder of the run, and at `pipectl status`",
                        ));
                    }
                }
                Err(ClientError::Interrupted) => {
                    self.stop()?;
                    continue;
                }
                Err(ClientError::Refusal(error)) => return Err(ClientError::Refusal(error).into()),
                Err(error) => {
                    self.client = None;
                    if away.is_none() {
                        self.tell(&format!("{error}; waiting for the daemon"));
                    }
                    if away.get_or_insert(Deadline::after(AWAY)).is_over() {
                        let message = format!("follow {}: {error}", self.id);
                        return Err(Failure::new(Exit::Unreachable, message).hint(format!(
                            "its guard takes everything back by itself; when the daemon is back: pipectl chaos report {}",
                            self.id
                        )));
                    }
                }
            }
            self.wait()?;
        }
    }

    fn ask(&mut self) -> Result<Progress, ClientError> {
        let params = GetParams {
            id: Some(self.id.to_owned()),
            after_mark: self.after_mark,
            after_t_ms: self.after_t_ms,
        };
        self.client()?.call("chaos.get", params)
    }

    fn client(&mut self) -> Result<&mut Client, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None if self.is_stopping => self.door.open_undisturbed()?,
            None => self.door.open()?,
        };
        Ok(self.client.insert(client))
    }

    /// Waits on the socket, so that Ctrl-C and the daemon's end are noticed at once.
    fn wait(&mut self) -> Result<(), Failure> {
        let Some(client) = &mut self.client else {
            clock::pause(POLL);
            if self.door.app.interrupt.seen() && !self.is_stopping {
                self.stop()?;
            }
            return Ok(());
        };
        match client.idle(Deadline::after(POLL)) {
            Ok(()) => Ok(()),
            Err(ClientError::Interrupted) => self.stop(),
            Err(_) => {
                self.client = None;
                Ok(())
            }
        }
    }

    /// After the first Ctrl-C.
    fn stop(&mut self) -> Result<(), Failure> {
        self.is_stopping = true;
        self.tell("stopping: everything is taken back; Ctrl-C again leaves it to the daemon");
        // This connection would tell of the same Ctrl-C for ever.
        self.client = None;
        let params = StopParams {
            reason: Some("Ctrl-C".to_owned()),
        };
        match self.client() {
            Ok(client) => match client.call::<Value>("chaos.stop", params) {
                // It may have ended in between.
                Ok(_) | Err(ClientError::Refusal(_)) => Ok(()),
                Err(error) => {
                    self.client = None;
                    self.tell(&format!("stop it: {error}"));
                    Ok(())
                }
            },
            // Its guard stops when it has to; what matters is to see its end.
            Err(error) => {
                self.tell(&format!("stop it: {error}"));
                Ok(())
            }
        }
    }

    fn show(&mut self, progress: &Progress) {
        for mark in &progress.marks {
            self.after_mark = self.after_mark.max(mark.seq);
            if self.bar.is_hidden() {
                let text = format!(
                    "{:>7}  {:<6}  {}",
                    duration_ms(mark.t_ms),
                    mark.kind,
                    mark.text
                );
                self.door.app.note(&text);
            }
        }
        if let Some(slot) = progress.slots.last() {
            self.after_t_ms = self.after_t_ms.max(slot.t_ms);
            self.newest = Some(slot.clone());
        }
        let line = live(progress, self.newest.as_ref());
        self.bar.set_message(clean::line(&line));
        self.bar.tick();
    }

    fn tell(&self, text: &str) {
        if !self.door.app.globals.quiet {
            self.bar
                .suspend(|| self.door.app.screen.note(&format!("pipectl: {text}")));
        }
    }
}

/// The live line.
fn live(progress: &Progress, slot: Option<&Slot>) -> String {
    let running = &progress.running;
    let mut line = format!("{} {}", running.experiment, running.phase.word());
    if let Some(slot) = slot.filter(|_| running.phase != Phase::Ended) {
        line.push_str(&format!(
            " {}  in {}  out {}  lag {}  oldest {}  probes {}/{}",
            duration_ms(slot.t_ms),
            rate(slot.in_per_s),
            or_unknown(slot.out_per_s, rate),
            or_unknown(slot.lag, |lag| lag.to_string()),
            ms(slot.fresh_ms),
            slot.good,
            slot.probes
        ));
    }
    line
}

fn bar(door: &Door<'_>) -> ProgressBar {
    if !door.app.screen.can_animate {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
