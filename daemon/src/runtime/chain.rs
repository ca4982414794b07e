//! The chain: the operators of one stage, run over one record. Pure: no I/O, no clock, no tokio; the worker loads what
//! the chain needs, calls `run`, and makes commits of what comes back.
//!
//! The chain keeps the rules that are no operator's: entries over the stage's limit, entries that no door could parse, a
//! panic (a failed try of that one record), and what a stage emits.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::config;

use crate::effect::{Change, Class, Effects, Failure, Flow, Kept};
use crate::operators::quote::cleaned;
use crate::operators::{Loaded, Need, OPERATORS, Operator, Setup};
use crate::record::{FIELD_PARSE_ERROR, FIELDS_MAX, Record};
use crate::store::{StageLayout, VALUE_MAX};

/// Characters of a foreign text (a parse error, a panic's message) that an error shows.
const SHOWN_MAX: usize = 256;

/// The operators of one stage, shared by all its workers.
pub struct Chain {
    operators: Vec<Arc<dyn Operator>>,
    lookups: Vec<config::Lookup>,
    has_output: bool,
    reads_source: bool,
    max_entry: u64,
}

/// How a record leaves the chain. The original record is never changed, so a retry begins with what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Apply these effects. With an output, the one child is the changed record (reserved fields such as `_t`,
    /// `traceparent` and `_origin` included); no child means that an operator ended it as done.
    Apply(Effects),
    /// Ended on purpose; what operators before had asked for is dropped.
    Filtered,
    /// Too late; what operators before had asked for is dropped.
    Late,
    /// Could not be done; nothing it asked for counts.
    Failed(Failure),
}

impl Chain {
    /// Builds the chain of a stage. The configuration was checked before.
    pub fn build(stage: &config::Stage, event: &config::Event, layout: &StageLayout) -> Self {
        let mut lookups = Vec::new();
        let operators = stage
            .operators
            .iter()
            .map(|operator| {
                let setup = Setup {
                    operator,
                    event,
                    lookup: lookups.len(),
                };
                if let config::Operator::Lookup(lookup) = operator {
                    lookups.push(lookup.clone());
                }
                OPERATORS
                    .iter()
                    .find(|kind| kind.name == operator.kind())
                    .and_then(|kind| (kind.build)(&setup))
                    .expect("the gallery has an item for every operator of the configuration; a test looks")
            })
            .collect();
        Self::of(operators, lookups, stage.max_entry, layout)
    }

    /// A chain of operators that are there already: for tests and for faults put around operators.
    pub fn of(
        operators: Vec<Arc<dyn Operator>>,
        lookups: Vec<config::Lookup>,
        max_entry: u64,
        layout: &StageLayout,
    ) -> Self {
        Self {
            operators,
            lookups,
            has_output: layout.output.is_some(),
            reads_source: layout.reads_source,
            max_entry,
        }
    }

    /// Lookups of the chain; [`Need::lookup`] is the index here.
    pub fn lookups(&self) -> &[config::Lookup] {
        &self.lookups
    }

    /// Names what must be loaded before [`Chain::run`]; nothing for a record that is refused anyway. The same need may
    /// be named by several records of a batch. A panic of an operator names nothing: `run` will meet it again.
    pub fn needs(&self, record: &Record, needs: &mut Vec<Need>) {
        if self.lookups.is_empty() || self.refused(record).is_some() {
            return;
        }
        let n_before = needs.len();
        let named = catch_unwind(AssertUnwindSafe(|| {
            for operator in &self.operators {
                operator.needs(record, needs);
            }
        }));
        if named.is_err() {
            needs.truncate(n_before);
        }
    }

    /// Whether any operator keeps state.
    pub fn keeps_state(&self) -> bool {
        self.operators.iter().any(|op| op.state_name().is_some())
    }

    /// Names the state keys that [`Chain::run_keeping`] reads or changes for this record; nothing for a record that is
    /// refused anyway. A panic of an operator names nothing: the run will meet it again.
    pub fn state_keys(&self, record: &Record, keys: &mut Vec<Bytes>) {
        if !self.keeps_state() || self.refused(record).is_some() {
            return;
        }
        let n_before = keys.len();
        let named = catch_unwind(AssertUnwindSafe(|| {
            for operator in &self.operators {
                operator.state_keys(record, keys);
            }
        }));
        if named.is_err() {
            keys.truncate(n_before);
        }
    }

    /// A timer is due. `None`: the operator that set it is not there any more. An error: it panicked, with what it said.
    pub fn on_timer(&self, key: &Bytes, state: Option<&Bytes>) -> Option<Result<Kept, String>> {
        let name = key.split(|b| *b == b':').next().unwrap_or_default();
        let is_its =
            |op: &&Arc<dyn Operator>| op.state_name().is_some_and(|n| n.as_bytes() == name);
        let operator = self.operators.iter().find(is_its)?;
        let kept = catch_unwind(AssertUnwindSafe(|| {
            let mut kept = Kept::default();
            operator.on_timer(key, state, &mut kept);
            kept
        }));
        Some(kept.map_err(|payload| {
            format!(
                "operator {} panicked: {}",
                operator.kind(),
                panic_text(payload.as_ref())
            )
        }))
    }

    /// The same as [`Chain::run_keeping`] for stages without keyed state.
    pub fn run(&self, record: &Record, loaded: &Loaded) -> Ended {
        self.run_keeping(record, loaded, &mut Kept::default())
    }

    /// Runs the operators over a copy of the record (its bytes are shared). Never panics. What becomes of keyed state is
    /// put into `kept`: where the record ends on purpose it counts as well, where it failed there is nothing.
    pub fn run_keeping(&self, record: &Record, loaded: &Loaded, kept: &mut Kept) -> Ended {
        if let Some(failure) = self.refused(record) {
            return Ended::Failed(failure);
        }
        // Outside of the closure, so that it is known after a panic.
        let running = Cell::new("");
        // Unwind safe: the copy and the effects are dropped with the panic; operators are shared and keep no state of a
        // record, and their caches of names survive a poisoned lock.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.apply(record.clone(), loaded, &running, kept)
        }));
        let ended = ended.unwrap_or_else(|payload| {
            Ended::Failed(Failure {
                class: Class::Retry,
                reason: "panic",
                error: format!(
                    "operator {} panicked: {}",
                    running.get(),
                    panic_text(payload.as_ref())
                ),
            })
        });
        if let Ended::Failed(_) = ended {
            *kept = Kept::default();
        }
        ended
    }

    fn apply(
        &self,
        record: Record,
        loaded: &Loaded,
        running: &Cell<&'static str>,
        kept: &mut Kept,
    ) -> Ended {
        let mut effects = Effects::default();
        let ended = self.go_through(record, loaded, running, &mut effects);
        *kept = std::mem::take(&mut effects.kept);
        if let Some(failure) = too_large(kept) {
            return Ended::Failed(failure);
        }
        match ended {
            Ended::Apply(_) => Ended::Apply(effects),
            ended => ended,
        }
    }

    /// As [`Chain::apply`], but effects are left in `effects`.
    fn go_through(
        &self,
        mut record: Record,
        loaded: &Loaded,
        running: &Cell<&'static str>,
        effects: &mut Effects,
    ) -> Ended {
        for operator in &self.operators {
            running.set(operator.kind());
            match operator.apply(&mut record, loaded, effects) {
                Flow::Next => {}
                Flow::Done => {
                    effects.children.clear();
                    return Ended::Apply(Effects::default());
                }
                Flow::Filtered => return Ended::Filtered,
                Flow::Late => return Ended::Late,
                Flow::Failed(failure) => return Ended::Failed(failure),
            }
        }
        if !self.has_output {
            // Nobody reads what a terminal stage emits, and the ledger must not count it as spawned.
            effects.children.clear();
        } else if effects.children.is_empty() {
            effects.children.push(record.fields);
        }
        match effects
            .children
            .iter()
            .find_map(|fields| too_many(fields.len()))
        {
            Some(failure) => Ended::Failed(failure),
            None => Ended::Apply(Effects::default()),
        }
    }

    /// Why no operator gets to see it.
    fn refused(&self, record: &Record) -> Option<Failure> {
        let size = record.size();
        if size > self.max_entry {
            return Some(Failure {
                class: Class::Reject,
                reason: "too_large",
                error: format!(
                    "entry of {size} bytes is over max_entry of {} bytes",
                    self.max_entry
                ),
            });
        }
        if let Some(failure) = too_many(record.fields.len()) {
            return Some(failure);
        }
        if !self.reads_source {
            return None;
        }
        let why = record.get(FIELD_PARSE_ERROR)?;
        Some(Failure {
            class: Class::Reject,
            reason: "parse_error",
            error: if why.is_empty() {
                "the line could not be parsed".to_owned()
            } else {
                shown(why)
            },
        })
    }
}

/// Entries with thousands of fields cannot be added by a script; they are refused before anything is asked of it.
fn too_many(n_fields: usize) -> Option<Failure> {
    (n_fields > FIELDS_MAX).then(|| Failure {
        class: Class::Reject,
        reason: "too_many_fields",
        error: format!("entry of {n_fields} fields; at most {FIELDS_MAX} are worked"),
    })
}

/// State of this size is a mistake of the operator; the store would refuse it.
fn too_large(kept: &Kept) -> Option<Failure> {
    kept.state.iter().find_map(|(key, change)| match change {
        Change::Set(value) if value.len() > VALUE_MAX => Some(Failure {
            class: Class::Reject,
            reason: "state_too_large",
            error: format!(
                "state of {} bytes under {}, of at most {VALUE_MAX}",
                value.len(),
                shown(key)
            ),
        }),
        _ => None,
    })
}

fn shown(text: &[u8]) -> String {
    let (mut shown, is_whole) = cleaned(text, SHOWN_MAX);
    if !is_whole {
        shown.push_str("...");
    }
    shown
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .map_or_else(|| "no message".to_owned(), |text| shown(text.as_bytes()))
}

#[cfg(test)]
mod tests;
