//! The detail view: one entry with its payload, paged when a field is large.

use pipectl_shared::snapshot::{Dead, Field, Pending};

use crate::message::Fault;

/// How a payload is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PayloadView {
    /// Text; JSON is laid out.
    #[default]
    Text,
    /// Offset, bytes, characters.
    Hex,
}

/// Which entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DetailOf {
    /// A pending one; complete once `fields` is there.
    Pending(Pending),
    /// A dead letter; complete once `fields` is there.
    Dead(Dead),
}

impl DetailOf {
    /// Its fields, once they came.
    pub(crate) fn fields(&self) -> Option<&[Field]> {
        match self {
            Self::Pending(row) => row.fields.as_deref(),
            Self::Dead(row) => row.fields.as_deref(),
        }
    }
}

/// An open detail view.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detail {
    /// What is shown.
    pub(crate) of: DetailOf,
    /// How.
    pub(crate) view: PayloadView,
    /// Field under the cursor.
    pub(crate) field: usize,
    /// First line that is shown.
    pub(crate) line: usize,
    /// Byte offset of the page of a large field; 0 = from its start.
    pub(crate) offset: u64,
    /// Why the payload is not there.
    pub(crate) fault: Option<Fault>,
}

impl Detail {
    /// A view whose payload is still to come.
    pub(crate) fn new(of: DetailOf) -> Self {
        Self {
            of,
            view: PayloadView::default(),
            field: 0,
            line: 0,
            offset: 0,
            fault: None,
        }
    }
}
