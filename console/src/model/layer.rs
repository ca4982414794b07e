//! What can lie over a screen: menus, dialogs, help. The top one gets the keys.

use pipectl_shared::chaos::{Preview, Progress, RunParams};
use pipectl_shared::plan::{Action, Plan, PlanParams, Selection};
use pipectl_shared::spec::Spec;

use super::{Detail, TextField};
use crate::message::Fault;
use crate::place::Id;

/// One layer.
#[derive(Debug, Clone)]
pub(crate) enum Layer {
    /// Help of the screen beneath; the first line that is shown.
    Help(usize),
    /// What was done from here; the row under the cursor.
    Journal(usize),
    /// What can be done to the row, or the marked ones.
    Menu(Menu),
    /// Everything by name.
    Palette(Palette),
    /// The parameters of a command.
    Form(Form),
    /// A plan from its making to its result.
    Plan(Box<PlanStep>),
    /// What an experiment would do, to be confirmed.
    Rehearsal(Box<Rehearsal>),
    /// The document of a run.
    Run(Box<RunView>),
    /// One entry with its payload.
    Detail(Box<Detail>),
    /// Really quit, while a plan runs? The focus is on "stay" until moved.
    Quit(Focus),
}

/// Items with letters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Menu {
    /// What it is about, such as `3 marked entries`; untrusted.
    pub(crate) title: String,
    /// In order.
    pub(crate) items: Vec<Item>,
    /// Chosen one.
    pub(crate) at: usize,
}

/// One thing that can be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// The key for it.
    pub(crate) letter: char,
    /// What it does, to what; untrusted.
    pub(crate) label: String,
    /// How.
    pub(crate) kind: ItemKind,
}

impl Item {
    /// An item that makes a plan: `words -- what`.
    pub(crate) fn plan(
        letter: char,
        words: &str,
        what: &str,
        action: Action,
        select: Selection,
    ) -> Self {
        Self {
            letter,
            label: format!("{words} -- {what}"),
            kind: ItemKind::Plan(PlanParams {
                action,
                select,
                to: None,
            }),
        }
    }
}

/// How an item is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ItemKind {
    /// Makes a plan and shows it; nothing is done yet.
    Plan(PlanParams),
    /// Asks for a command's parameters, some of them given.
    Command {
        /// Its name in the daemon's catalogue.
        name: String,
        /// Parameters that are known from the row: name, value.
        given: Vec<(String, String)>,
    },
    /// Opens the form of an experiment of the daemon's catalogue.
    Experiment(String),
    /// Ends the run that is under way.
    Stop,
    /// Opens the form of the lever: pulls it, or takes it back.
    Lever(bool),
    /// Opens the document of a run: its id, and which experiment it was of.
    Run(String, String),
    /// Goes to a screen.
    Screen(Id),
    /// Goes to a screen and filters it.
    Filtered(Id, String),
    /// Cannot be done now, and why; untrusted.
    Off(String),
}

/// Everything by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Palette {
    /// What is typed.
    pub(crate) field: TextField,
    /// Chosen one of those that match.
    pub(crate) at: usize,
    /// How far back in what was typed before; 0 = not.
    pub(crate) past: usize,
}

/// A command's parameters being filled in.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// What its parameters are for.
    pub(crate) of: FormOf,
    /// What the daemon says of it; of an experiment, with the parameters that every run has behind its own.
    pub(crate) spec: Spec,
    /// By parameter.
    pub(crate) fields: Vec<TextField>,
    /// Why; kept in the audit log.
    pub(crate) reason: TextField,
    /// Which of the fields, then the reason, then the buttons, has the keys; begins at the first empty field, or Cancel.
    pub(crate) focus: usize,
    /// What the daemon says it would do, once asked; untrusted.
    pub(crate) would: Option<Result<String, Fault>>,
    /// Whether it was sent and is not answered.
    pub(crate) is_sent: bool,
}

/// What a form is filled in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormOf {
    /// A command of the daemon's catalogue.
    Command,
    /// A run of an experiment, which is shown in a layer of its own before it begins.
    Experiment,
    /// The lever: pull it, or take it back.
    Lever(bool),
}

/// What an experiment would do, and the question whether to.
#[derive(Debug, Clone)]
pub(crate) struct Rehearsal {
    /// As the daemon says; nothing was done.
    pub(crate) preview: Preview,
    /// What is sent on Run: as it was asked, with the seed that was shown.
    pub(crate) params: RunParams,
    /// First line that is shown.
    pub(crate) line: usize,
    /// Begins at Cancel.
    pub(crate) focus: Focus,
    /// Why the daemon did not begin.
    pub(crate) fault: Option<Fault>,
    /// Whether it was sent and is not answered.
    pub(crate) is_sent: bool,
    /// As in [`Confirm`].
    pub(crate) opened_ms: u64,
}

/// The document of a run, to read.
#[derive(Debug, Clone)]
pub(crate) struct RunView {
    /// Its id.
    pub(crate) id: String,
    /// Name of the experiment; untrusted.
    pub(crate) experiment: String,
    /// What is known of it, once it came.
    pub(crate) progress: Option<Box<Progress>>,
    /// Why it did not come.
    pub(crate) fault: Option<Fault>,
    /// First line that is shown.
    pub(crate) line: usize,
}

impl Form {
    /// Position of Cancel in `focus`.
    pub(crate) fn cancel(&self) -> usize {
        self.fields.len() + 1
    }

    /// Position of the button that does it.
    pub(crate) fn run(&self) -> usize {
        self.fields.len() + 2
    }
}

/// Which part of a dialog has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    /// The count to type.
    Count,
    /// The reason.
    Reason,
    /// The button that changes nothing. A dialog opens with it.
    Cancel,
    /// The button that does it.
    Run,
}

/// A plan on its way.
#[derive(Debug, Clone)]
pub(crate) enum PlanStep {
    /// Asked for; its parameters for the title.
    Making(PlanParams),
    /// Could not be made.
    Failed(PlanParams, Fault),
    /// There, and to be confirmed.
    Confirm(Confirm),
    /// Being carried out. The flag tells whether cancelling was asked for.
    Running(Plan, bool),
    /// Ended, one way or the other.
    Ended(Plan),
}

/// The question before a plan runs.
#[derive(Debug, Clone)]
pub(crate) struct Confirm {
    /// The frozen list.
    pub(crate) plan: Plan,
    /// Count to type, when it is a bulk plan.
    pub(crate) count: TextField,
    /// Why.
    pub(crate) reason: TextField,
    /// Begins at Cancel.
    pub(crate) focus: Focus,
    /// Why the daemon did not run it.
    pub(crate) fault: Option<Fault>,
    /// Whether it was sent and is not answered.
    pub(crate) is_sent: bool,
    /// When the dialog opened, on the model's clock: keys typed before it was drawn are not meant for it.
    pub(crate) opened_ms: u64,
}

impl Confirm {
    /// Whether the count has to be typed.
    pub(crate) fn needs_count(&self) -> bool {
        self.plan.bulk || self.plan.select.is_bulk()
    }

    /// Whether what was typed is the count, or none is needed.
    pub(crate) fn count_fits(&self) -> bool {
        !self.needs_count()
            || self.count.text().trim().replace(',', "") == self.plan.matched.to_string()
    }

    /// The parts that the keys go round, in order.
    pub(crate) fn parts(&self) -> &'static [Focus] {
        if self.needs_count() {
            &[Focus::Count, Focus::Reason, Focus::Cancel, Focus::Run]
        } else {
            &[Focus::Reason, Focus::Cancel, Focus::Run]
        }
    }
}
