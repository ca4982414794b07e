//! Choosing entries: a [`Selection`] from the wire, checked once, then asked of rows. The walk through the lists is `walk.rs`.
//!
//! Used by plans (to freeze ids) and by the doors (to list pages). Changes nothing.

use bytes::Bytes;
use pipectl_shared::expression::Expression;
use pipectl_shared::plan::Selection;
use pipectl_shared::rpc::{Code, Error};
use std::time::Duration;

use super::words::{hint_names, quote};
use crate::record::{EntryId, Fields};
use crate::store::{DeadRow, Layout, PendingQuery, PendingRow};

/// Ids that may be named one by one in a selection: each costs a call to the store.
pub const IDS_MAX: usize = 10_000;
/// Rows asked of the store at once.
const CHUNK: usize = 1_000;
/// The same when the fields come along, which may be large.
pub(super) const CHUNK_WITH_FIELDS: usize = 100;

/// A selection whose names exist and whose texts could be read.
#[derive(Debug)]
pub struct Wanted {
    select: Selection,
    filter: Option<Expression>,
    /// Indexes of the stages to look at, in layout order.
    stages: Vec<usize>,
    /// Those named, in the order given, each once.
    ids: Vec<EntryId>,
}

/// Which list a selection is for; some selectors make sense in one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Entries waiting for their acknowledgement.
    Pending,
    /// Dead letters.
    Dead,
}

impl Wanted {
    /// Checks everything that can be checked without the store. Errors: `InvalidParams`.
    pub fn read(select: &Selection, list: List, layout: &Layout) -> Result<Self, Error> {
        let misplaced = match list {
            List::Pending => select.cause.is_some().then_some("cause"),
            List::Dead if select.consumer.is_some() => Some("consumer"),
            List::Dead if select.min_idle_ms.is_some() => Some("min_idle_ms"),
            List::Dead if select.min_tries.is_some() => Some("min_tries"),
            List::Dead => None,
        };
        if let Some(name) = misplaced {
            let (noun, other) = match list {
                List::Pending => ("pending entries", "dead"),
                List::Dead => ("dead letters", "pending"),
            };
            return Err(Error::new(
                Code::InvalidParams,
                format!("{name} does not select {noun}"),
            )
            .hint(format!("it is a selector of: pipectl {other} ls")));
        }
        let stages = match &select.stage {
            None => (0..layout.stages.len()).collect(),
            Some(name) => vec![stage_index(name, layout)?],
        };
        if select.ids.len() > IDS_MAX {
            let message = format!("{} ids are too many (at most {IDS_MAX})", select.ids.len());
            return Err(Error::new(Code::InvalidParams, message)
                .hint("select by stage, consumer, cause or match"));
        }
        let mut seen = std::collections::HashSet::new();
        let mut ids = Vec::with_capacity(select.ids.len());
        for text in &select.ids {
            let id = entry_id(text)?;
            if seen.insert(id) {
                ids.push(id);
            }
        }
        let filter = select.matching.as_deref().map(expression).transpose()?;
        Ok(Self {
            select: select.clone(),
            filter,
            stages,
            ids,
        })
    }

    /// The ids named one by one; empty = chosen by the other selectors.
    pub fn ids(&self) -> &[EntryId] {
        &self.ids
    }

    /// Indexes of the stages to look at.
    pub fn stages(&self) -> &[usize] {
        &self.stages
    }

    fn holds_fields(&self, fields: Option<&Fields>) -> bool {
        match (&self.filter, fields) {
            (None, _) => true,
            (Some(filter), Some(fields)) => holds(filter, fields),
            // A trimmed entry has no fields, so nothing can be said of them.
            (Some(_), None) => false,
        }
    }

    /// Whether a pending entry is wanted (its stage and id aside).
    pub fn holds_pending(&self, row: &PendingRow) -> bool {
        let consumer = self.select.consumer.as_ref();
        consumer.is_none_or(|name| row.consumer == name.as_bytes())
            && self.select.min_idle_ms.is_none_or(|ms| row.idle_ms >= ms)
            && self.select.min_tries.is_none_or(|n| row.failures >= n)
            && self.holds_fields(row.fields.as_ref())
    }

    /// Whether a dead letter is wanted (its id aside).
    pub fn holds_dead(&self, row: &DeadRow) -> bool {
        self.select
            .stage
            .as_ref()
            .is_none_or(|stage| row.stage == *stage)
            && self
                .select
                .cause
                .as_ref()
                .is_none_or(|cause| row.cause == *cause)
            && self.holds_fields(Some(&row.fields))
    }

    pub(super) fn query(&self, after: EntryId, n_left: usize) -> PendingQuery {
        let fields = self.filter.is_some();
        PendingQuery {
            after,
            n_max: n_left.min(if fields { CHUNK_WITH_FIELDS } else { CHUNK }),
            consumer: self
                .select
                .consumer
                .as_ref()
                .map(|name| Bytes::copy_from_slice(name.as_bytes())),
            min_idle: Duration::from_millis(self.select.min_idle_ms.unwrap_or(0)),
            fields,
        }
    }
}

/// Reads an expression. Errors: `InvalidParams`, saying where.
pub fn expression(source: &str) -> Result<Expression, Error> {
    Expression::parse(source).map_err(|e| {
        Error::new(
            Code::InvalidParams,
            format!("read expression {}: {e}", quote(source)),
        )
        .hint("for example: value > 200 and event_type = purchase")
    })
}

/// Whether an expression holds for these fields; of a name that repeats the first counts.
pub fn holds(filter: &Expression, fields: &Fields) -> bool {
    filter.holds(|name| {
        fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_ref())
    })
}

/// Reads an entry id. Errors: `InvalidParams`.
pub fn entry_id(text: &str) -> Result<EntryId, Error> {
    text.parse().map_err(|_| {
        let message = format!("{} is no entry id", quote(text));
        Error::new(Code::InvalidParams, message)
            .hint("milliseconds-sequence, such as 1700000000000-0")
    })
}

/// The index of a stage by its name. Errors: `InvalidParams` with the nearest name.
pub fn stage_index(name: &str, layout: &Layout) -> Result<usize, Error> {
    layout.stage(name).map(|(index, _)| index).ok_or_else(|| {
        let names = layout.stages.iter().map(|s| s.name.as_str());
        Error::new(
            Code::InvalidParams,
            format!("no stage is named {}", quote(name)),
        )
        .hint(hint_names(name, names))
    })
}
