//! A terminal too small for screens: the state in a line, why, and the alerts as far as they fit. Never a refusal to draw.

use pipectl_shared::snapshot::State;
use ratatui::layout::Rect;

use super::chrome::{freshness, reconnecting};
use crate::facts::Link;
use crate::model::Model;
use crate::output::human::{count, or_unknown, rate};
use crate::screens::{running_words, state_role, state_word};
use crate::theme::Role;
use crate::widgets::Ink;

/// Draws what matters most first.
pub(super) fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let (age, age_role) = freshness(model);
    let status = model.facts.snapshot().map(|snapshot| &snapshot.status);
    if area.width < 8 {
        return draw_glyph(ink, area, status.map(|status| status.state));
    }
    let mut y = area.y;
    let mut line = |ink: &mut Ink<'_>, pieces: &[(&str, Role)]| {
        if y < area.bottom() {
            ink.pieces(area.x, y, area.width, pieces);
            y += 1;
        }
    };
    let name = model.facts.hello.as_ref();
    let name = name.map_or("pipectl", |hello| hello.pipeline.as_str());
    match status {
        Some(status) => line(
            ink,
            &[
                (state_word(status.state), state_role(status.state)),
                (" ", Role::Plain),
                (&age, age_role),
                (" ", Role::Plain),
                (name, Role::Strong),
            ],
        ),
        None => line(
            ink,
            &[(&age, age_role), (" ", Role::Plain), (name, Role::Strong)],
        ),
    }
    if let Some(words) = running_words(model).first() {
        line(ink, &[(words, Role::Warn)]);
    }
    let again = reconnecting(model);
    if let Link::Down { why, .. } | Link::Refused { why, .. } = &model.facts.link {
        line(
            ink,
            &[
                (&again, Role::Strong),
                (": ", Role::Plain),
                (why, Role::Warn),
            ],
        );
    }
    if let Some(status) = status {
        for alert in &status.alerts {
            let mark = if alert.severity == "critical" {
                "!! "
            } else {
                "! "
            };
            line(ink, &[(mark, Role::Bad), (&alert.message, Role::Plain)]);
        }
        if let Some(reason) = status.reason.as_ref().filter(|_| status.alerts.is_empty()) {
            line(ink, &[(reason, Role::Warn)]);
        }
        let throughput = &status.throughput;
        let ledger = status.ledger.as_ref();
        let figures = format!(
            "in {} out {} (10s) pending {} dead {}",
            or_unknown(throughput.in_per_s, rate),
            or_unknown(throughput.out_per_s, rate),
            or_unknown(ledger.map(|ledger| ledger.pending), count),
            or_unknown(ledger.map(|ledger| ledger.dead), count),
        );
        line(ink, &[(&figures, Role::Plain)]);
    }
    line(ink, &[("40x12 and more shows screens", Role::Dim)]);
}

/// Where no word fits, a glyph that means the same everywhere: `?` unknown, `!` trouble, `~` old, `.` as it should be.
fn draw_glyph(ink: &mut Ink<'_>, area: Rect, state: Option<State>) {
    let (glyph, role) = match state {
        None => ('?', Role::Warn),
        Some(State::Degraded | State::Failed) => ('!', Role::Bad),
        Some(_) if ink.is_old => ('~', Role::Bad),
        Some(State::Starting | State::Draining | State::Paused) => ('~', Role::Warn),
        Some(State::Running) => ('.', Role::Good),
    };
    ink.glyph(area.x, area.y, glyph, glyph, role);
}
