//! Questions to the daemon: what is asked for which purpose, and that nothing is asked twice at a time.

use pipectl_shared::chaos::HistoryParams;
use pipectl_shared::plan::Selection;
use pipectl_shared::rpc::{DeadParams, PageParams, PendingParams, ShowParams};

use super::{Detail, DetailOf, Layer, Model, PAGE_ROWS, PageWay, Purpose, parse_selector};
use crate::message::{Effect, Question, Ticket};
use crate::place::Id;

impl Model {
    /// Asks a question whose answer goes to `purpose`.
    pub(crate) fn ask(&mut self, purpose: Purpose, question: Question) -> Effect {
        let ticket: Ticket = self.next_ticket;
        self.next_ticket += 1;
        self.asked.insert(ticket, purpose);
        Effect::Ask(ticket, Box::new(question))
    }

    /// Whether an answer for this purpose is under way.
    pub(crate) fn is_asked(&self, purpose: &Purpose) -> bool {
        self.asked.values().any(|asked| asked == purpose)
    }

    /// Forgets what was asked for a purpose, so that a late answer is thrown away.
    pub(crate) fn forget(&mut self, purpose: &Purpose) {
        self.asked.retain(|_, asked| asked != purpose);
    }

    /// What the filter of a paged screen lets through, for the daemon; with `all` where it says nothing.
    pub(crate) fn selection(&self, id: Id) -> Selection {
        // A filter that does not parse was refused when it was typed.
        let mut select = parse_selector(&self.list(id).filter)
            .unwrap_or_default()
            .select;
        select.all = select.is_empty();
        select
    }

    /// Whether the filter says exactly what the daemon would choose by it. Words that are only looked for in the loaded rows
    /// narrow what is seen and not what a plan by filter would take: then there is no such plan.
    pub(crate) fn is_filtered_by_daemon(&self, id: Id) -> bool {
        parse_selector(&self.list(id).filter)
            .is_ok_and(|read| read.text.is_empty() && !read.select.is_empty())
    }

    /// Asks for a page of a paged screen's rows; nothing when it is under way, or when there is no such page.
    pub(crate) fn ask_rows(&mut self, id: Id, way: PageWay) -> Option<Effect> {
        let is_under_way = |purpose: &Purpose| matches!(purpose, Purpose::Rows(of, by, _) if (*of, *by) == (id, way));
        if !self.facts.is_up() || self.asked.values().any(is_under_way) {
            return None;
        }
        let at = self.list(id).row().unwrap_or(0);
        let limit = PAGE_ROWS;
        let select = self.selection(id);
        let cursor = match id {
            Id::Pending => self.pending.cursor(way, at),
            Id::Dead => self.dead.cursor(way, at),
            Id::Audit => self.audit.cursor(way, at),
            Id::Runs => self.drill.runs.cursor(way, at),
            _ => None,
        };
        let purpose = Purpose::Rows(id, way, cursor.clone());
        let question = match id {
            Id::Pending => Question::Pending(PendingParams {
                select,
                cursor,
                limit,
                in_flight: true,
            }),
            Id::Dead => Question::Dead(DeadParams {
                select,
                cursor,
                limit,
            }),
            Id::Causes => Question::Causes,
            Id::Audit => Question::Audit(PageParams { cursor, limit }),
            Id::Chaos => Question::Experiments,
            Id::Runs => Question::Runs(HistoryParams {
                name: None,
                limit: Some(limit),
                before: cursor,
            }),
            Id::Overview
            | Id::Topology
            | Id::Consumers
            | Id::Results
            | Id::Latency
            | Id::Events
            | Id::Alerts
            | Id::System => return None,
        };
        Some(self.ask(purpose, question))
    }

    /// Goes to a screen; remembers it as the last of its group.
    pub(crate) fn go(&mut self, id: Id, group: crate::place::Group) -> Vec<Effect> {
        self.screen = id;
        self.last.insert(group, id);
        self.refreshed_ms = self.now_ms;
        self.ask_rows(id, PageWay::First).into_iter().collect()
    }

    /// Goes to a paged screen with a filter in place of the one it had.
    pub(crate) fn go_filtered(&mut self, id: Id, filter: String) -> Vec<Effect> {
        let view = self.list_mut(id);
        view.filter = filter;
        view.cursor = None;
        view.at = 0;
        view.marks.clear();
        view.anchor = None;
        view.typing = None;
        self.empty_pages(id);
        self.go(id, crate::place::Group::Work)
    }

    /// Forgets the rows of a paged screen, so that old rows are never taken for those of a new filter.
    pub(crate) fn empty_pages(&mut self, id: Id) {
        match id {
            Id::Pending => self.pending = super::Pages::default(),
            Id::Dead => self.dead = super::Pages::default(),
            Id::Causes => self.causes = super::Pages::default(),
            Id::Audit => self.audit = super::Pages::default(),
            Id::Runs => self.drill.runs = super::Pages::default(),
            _ => return,
        }
        self.asked
            .retain(|_, purpose| !matches!(purpose, Purpose::Rows(of, ..) if *of == id));
    }

    /// Opens the detail view of a row and asks for its payload.
    pub(crate) fn open_detail(&mut self, of: DetailOf) -> Vec<Effect> {
        self.layers.push(Layer::Detail(Box::new(Detail::new(of))));
        self.ask_detail().into_iter().collect()
    }

    /// Asks for the payload of the open detail view, from its field and offset.
    pub(crate) fn ask_detail(&mut self) -> Option<Effect> {
        let Some(Layer::Detail(detail)) = self.layers.last() else {
            return None;
        };
        let paged = detail
            .of
            .fields()
            .and_then(|fields| fields.get(detail.field))
            .filter(|_| detail.offset > 0);
        let field = paged.and_then(|field| match &field.name {
            pipectl_shared::rpc::Bytes::Text(name) => Some(name.clone()),
            // A name that is no UTF-8 cannot be asked for; its first page is all there is.
            pipectl_shared::rpc::Bytes::Binary { .. } => None,
        });
        let offset = if field.is_some() { detail.offset } else { 0 };
        let question = match &detail.of {
            DetailOf::Pending(row) => Question::PendingEntry(ShowParams {
                stage: Some(row.stage.clone()),
                id: row.id.clone(),
                field,
                offset,
            }),
            DetailOf::Dead(row) => Question::DeadEntry(ShowParams {
                stage: None,
                id: row.id.clone(),
                field,
                offset,
            }),
        };
        self.forget(&Purpose::Detail);
        Some(self.ask(Purpose::Detail, question))
    }
}
