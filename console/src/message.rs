//! What happens to the console ([`Msg`]) and what it wants done ([`Effect`]). Data only: `update` turns one into the
//! other, `run` carries effects out, `link` answers questions.

use pipectl_shared::chaos;
use pipectl_shared::plan::{Plan, PlanParams};
use pipectl_shared::rpc::{
    self, CommandParams, DeadParams, Hello, HistoryParams, LatencySlotsParams, PageParams,
    PendingParams, PlanIdParams, PlanRunParams, ShowParams,
};
use pipectl_shared::snapshot::{
    Audit, Cause, Dead, Event, History, Latency, LatencySlot, Page, Pending, Snapshot,
};
use serde_json::Value;

use crate::keys::Key;

/// Something happened.
#[derive(Debug, Clone)]
pub(crate) enum Msg {
    /// A key was pressed by a person.
    Key(Key),
    /// More keys came at once than a person types: a paste. Its printable part, at most [`PASTE_MAX`] bytes.
    Paste {
        /// Printable characters, line ends left out.
        text: String,
        /// Keys in all.
        n_keys: u64,
    },
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Time has passed.
    Tick,
    /// From the link.
    Link(LinkMsg),
    /// Told to end by a signal or a lost terminal.
    Stop,
    /// An effect that ends outside is done, or why not: an export, a copy.
    Done(Result<String, String>),
}

/// Bytes of a paste that a text field takes; what is longer is no filter and no reason.
pub(crate) const PASTE_MAX: usize = 1_024;

/// Number of a question, so that its answer finds who asked.
pub(crate) type Ticket = u64;

/// From the link task.
#[derive(Debug, Clone)]
pub(crate) enum LinkMsg {
    /// Tries to reach the daemon, for the n-th time since it was last there (1 = first).
    Connecting {
        /// Counts from 1.
        attempt: u32,
    },
    /// The greeting came.
    Up {
        /// What the daemon said first.
        hello: Box<Hello>,
        /// Socket, for people.
        socket: String,
    },
    /// No daemon, or no longer.
    Down {
        /// Why; untrusted.
        why: String,
        /// The next step for a person; untrusted.
        hint: Option<String>,
        /// Until the next attempt.
        retry_in_ms: u64,
    },
    /// The daemon will not have us, and trying again does not help: another protocol, no permission.
    Refused {
        /// Why; untrusted.
        why: String,
        /// The next step; untrusted.
        hint: Option<String>,
    },
    /// One instant.
    Stats(Box<Snapshot>),
    /// A state change.
    Event(Box<Event>),
    /// How far a plan is.
    Progress(Box<Plan>),
    /// The answer to a question.
    Answer {
        /// Whose.
        ticket: Ticket,
        /// What it is, or why there is none.
        answer: Result<Box<Answer>, Fault>,
    },
}

/// Why a question got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// For a person; untrusted.
    pub(crate) message: String,
    /// The next step; untrusted.
    pub(crate) hint: Option<String>,
}

impl From<&rpc::Error> for Fault {
    fn from(error: &rpc::Error) -> Self {
        Self {
            message: error.message.clone(),
            hint: error.data.as_ref().and_then(|data| data.hint.clone()),
        }
    }
}

/// A question to the daemon. Reading ones may be asked again freely; acting ones are asked once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    Pending(PendingParams),
    PendingEntry(ShowParams),
    Dead(DeadParams),
    DeadEntry(ShowParams),
    Causes,
    Latency,
    Audit(PageParams),
    PlanCreate(PlanParams),
    PlanRun(PlanRunParams),
    PlanShow(PlanIdParams),
    PlanCancel(PlanIdParams),
    Command(CommandParams),
    Slots(LatencySlotsParams),
    Series(HistoryParams),
    /// Experiments, the lever, what runs.
    Experiments,
    /// How far a run is, or its document.
    Run(chaos::GetParams),
    /// Runs that there were.
    Runs(chaos::HistoryParams),
    /// Runs an experiment, or only says what it would do.
    RunExperiment(Box<chaos::RunParams>),
    /// Ends the run that is under way.
    StopExperiment(chaos::StopParams),
    /// Pulls the lever that stops all, or takes it back.
    Lever(chaos::LeverParams),
}

impl Question {
    /// Whether it may change something: refused in a read-only console.
    pub(crate) fn acts(&self) -> bool {
        match self {
            Self::Pending(_)
            | Self::PendingEntry(_)
            | Self::Dead(_)
            | Self::DeadEntry(_)
            | Self::Causes
            | Self::Latency
            | Self::Audit(_)
            | Self::Slots(_)
            | Self::Series(_)
            | Self::Experiments
            | Self::Run(_)
            | Self::Runs(_)
            | Self::PlanCreate(_)
            | Self::PlanShow(_) => false,
            Self::PlanRun(_) | Self::PlanCancel(_) | Self::StopExperiment(_) | Self::Lever(_) => {
                true
            }
            Self::RunExperiment(params) => !params.dry_run,
            Self::Command(params) => !params.dry_run,
        }
    }
}

/// What the daemon said to a [`Question`], variant by variant.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it travels in a box, one at a time"
)]
pub(crate) enum Answer {
    Pending(Page<Pending>),
    PendingEntry(Pending),
    Dead(Page<Dead>),
    DeadEntry(Dead),
    Causes(Page<Cause>),
    Latency(Vec<Latency>),
    Audit(Page<Audit>),
    /// Of all four questions about a plan.
    Plan(Plan),
    Command(Value),
    Slots(Page<LatencySlot>),
    Series(History),
    Experiments(chaos::Catalogue),
    Run(chaos::Progress),
    Runs(Page<chaos::Summary>),
    /// What an experiment would do.
    Rehearsed(chaos::Preview),
    /// That it began.
    Began(chaos::Started),
    /// That the run ends, in whatever words.
    Stopped(Value),
    /// Where the lever is now.
    Lever(chaos::Lever),
}

/// Something that `run` does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Ask the daemon; the answer comes with the ticket.
    Ask(Ticket, Box<Question>),
    /// Try to connect now instead of after the back-off.
    Reconnect,
    /// Draw every cell anew.
    Redraw,
    /// Put text on the clipboard (OSC 52).
    Copy(String),
    /// Write a file into the state folder: its name's beginning, its content.
    Export {
        /// Such as `pending`.
        name: &'static str,
        /// CSV, already harmless.
        content: String,
    },
    /// End.
    Quit,
}
