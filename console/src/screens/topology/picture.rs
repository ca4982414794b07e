//! What the boxes and arrows of the drawing say, whichever way it runs.

use pipectl_shared::snapshot::{Snapshot, Stage};

use crate::model::Model;
use crate::output::human::{count, duration_ms, latency_ms, or_unknown, rate};
use crate::screens::canvas::Boxed;
use crate::screens::owner::{is_owned, part};
use crate::screens::pressure::Pressure;
use crate::screens::stages::{
    Piece, aged, aged_role, amount, choose, lag, source_state, state_role, state_text, workers,
};
use crate::theme::Role;
use crate::widgets::{Flow, Ink, Node};

/// One instant of the flow, with what is shown of it.
pub(super) struct Picture<'a> {
    pub(super) model: &'a Model,
    pub(super) snapshot: &'a Snapshot,
    pub(super) flow: Flow,
    /// Stage under the cursor.
    pub(super) cursor: Option<usize>,
    /// By stage: whether the filter lets it through.
    pub(super) is_shown: Vec<bool>,
}

impl Picture<'_> {
    pub(super) fn glyph(&self, unicode: char, ascii: char) -> char {
        choose(self.model, unicode, ascii)
    }

    pub(super) fn stage(&self, node: &Node) -> Option<&Stage> {
        self.snapshot.status.stages.get(node.stage?)
    }

    pub(super) fn at_cursor(&self) -> Option<&Node> {
        let nodes = self.flow.nodes.iter();
        nodes
            .into_iter()
            .find(|node| node.stage.is_some() && node.stage == self.cursor)
    }

    /// Entries that a stage reads a second, with a mark where it backs up.
    pub(super) fn arrow(&self, ink: &Ink<'_>, stage: &Stage) -> Piece {
        let per_s = aged(ink, or_unknown(stage.in_per_s, rate));
        match Pressure::of_stage(self.model, stage) {
            Pressure::Grows(_) => (format!("{}{per_s}", self.glyph('▲', '!')), Role::Bad),
            _ => (per_s, aged_role(ink, Role::Strong)),
        }
    }

    pub(super) fn end(&self, ink: &Ink<'_>, stage: &Stage) -> Piece {
        let per_s = aged(ink, or_unknown(stage.out_per_s, rate));
        (per_s, aged_role(ink, Role::Strong))
    }

    /// Name of the stream that a root reads, and the entries that it keeps.
    pub(super) fn stream(&self, node: &Node) -> (String, Option<u64>) {
        let first = node
            .children
            .first()
            .and_then(|at| self.flow.nodes.get(*at));
        let Some(stage) = first.and_then(|node| self.stage(node)) else {
            return (String::new(), None);
        };
        let name = if stage.stream.is_empty() {
            &stage.from
        } else {
            &stage.stream
        };
        let group = self
            .snapshot
            .groups
            .iter()
            .find(|group| group.stream == *name);
        (name.clone(), group.map(|group| group.length))
    }

    pub(super) fn stream_box(&self, ink: &Ink<'_>, at: usize, n_lines: usize) -> Boxed {
        let node = &self.flow.nodes[at];
        let (name, length) = self.stream(node);
        let mut lines = Vec::new();
        if node.is_circular {
            lines.push(("circle: it reads from itself".to_owned(), Role::Bad));
        }
        // All sources write the first stream.
        if at == 0 {
            lines.extend(self.source_lines(ink, n_lines.saturating_sub(1)));
        }
        let kept = aged(ink, or_unknown(length, count));
        lines.push((format!("{kept} entries kept"), aged_role(ink, Role::Plain)));
        Boxed {
            title: format!("stream {name}"),
            state: (String::new(), Role::Plain),
            lines,
            is_cursor: false,
            is_dim: false,
        }
    }

    /// The sources, at most `n` lines of them.
    pub(super) fn source_lines(&self, ink: &Ink<'_>, n: usize) -> Vec<Piece> {
        let sources = &self.snapshot.sources;
        if sources.is_empty() {
            return vec![("no sources; clients add to it".to_owned(), Role::Dim)];
        }
        let n_shown = if sources.len() > n {
            n.saturating_sub(1)
        } else {
            n
        };
        let mut lines: Vec<Piece> = sources
            .iter()
            .take(n_shown)
            .map(|source| {
                let (state, role) = source_state(self.model, source);
                let per_s = aged(ink, or_unknown(source.per_s, rate));
                // The glyph leads, the word follows: where there is no room, name and rate matter more.
                let (glyph, word) = state.split_once(' ').unwrap_or((&state, ""));
                let text = format!("{glyph} {} {per_s} {word}", source.name);
                let role = aged_role(ink, role);
                (text, role)
            })
            .collect();
        if sources.len() > n_shown {
            let n_more = sources.len() - n_shown;
            lines.push((format!("and {n_more} more sources"), Role::Dim));
        }
        lines
    }

    /// A stage's box of `n_lines` lines. A narrow one saves cells where words say the same.
    pub(super) fn stage_box(
        &self,
        ink: &Ink<'_>,
        node: &Node,
        n_lines: usize,
        is_narrow: bool,
    ) -> Boxed {
        let Some(stage) = self.stage(node) else {
            return Boxed::default();
        };
        let plain = aged_role(ink, Role::Plain);
        let operators = if stage.operators.is_empty() {
            "no operators".to_owned()
        } else {
            stage.operators.join(" > ")
        };
        let pressure = Pressure::of_stage(self.model, stage).shown(self.model);
        let pending = aged(ink, or_unknown(stage.pending, amount));
        let backlog = if is_narrow {
            format!("lag {} pend {pending}", aged(ink, lag(stage)))
        } else {
            format!("lag {}  pending {pending}", aged(ink, lag(stage)))
        };
        let workers = format!(
            "{}  p99 {}",
            if is_owned(stage) {
                part(stage).to_owned()
            } else {
                workers(stage)
            },
            aged(ink, or_unknown(stage.p99_ms, latency_ms))
        );
        let why = match (&stage.reason, stage.oldest_pending_ms) {
            (Some(reason), _) => (reason.clone(), Role::Warn),
            (None, Some(ms)) => (
                format!("oldest pending {}", aged(ink, duration_ms(ms))),
                plain,
            ),
            (None, None) => (String::new(), plain),
        };
        let pressure = (pressure.0, aged_role(ink, pressure.1));
        let lines = match n_lines {
            // The reason says more than the operators do.
            0..=2 if stage.reason.is_some() => vec![(backlog, plain), why],
            0..=2 => vec![
                (format!("{workers}  {operators}"), plain),
                (format!("{backlog}  {}", pressure.0), pressure.1),
            ],
            3 if stage.reason.is_some() => vec![(backlog, plain), pressure, why],
            3 => vec![(operators, plain), (backlog, plain), pressure],
            _ => vec![
                (operators, plain),
                (workers, plain),
                (backlog, plain),
                pressure,
                why,
            ],
        };
        let state = match state_text(self.model, stage.state) {
            text if is_narrow => text.replace(' ', "").replace(['●', '+'], ""),
            text => text,
        };
        Boxed {
            title: stage.name.clone(),
            state: (state, aged_role(ink, state_role(stage.state))),
            lines,
            is_cursor: node.stage.is_some() && node.stage == self.cursor,
            is_dim: node
                .stage
                .is_none_or(|at| !self.is_shown.get(at).copied().unwrap_or(true)),
        }
    }
}
