//! A terminal too small for screens: the state in a line, why, and the alerts as far as they fit. Never a refusal to draw.

use ratatui::layout::Rect;

use super::chrome::{freshness, state_role, word};
use crate::model::Model;
use crate::theme::Role;
use crate::widgets::Ink;

/// Draws what matters most first.
pub(super) fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let (age, age_role) = freshness(model);
    let mut y = area.y;
    let mut line = |ink: &mut Ink<'_>, pieces: &[(&str, Role)]| {
        if y < area.bottom() {
            ink.pieces(area.x, y, area.width, pieces);
            y += 1;
        }
    };
    let Some(snapshot) = model.facts.snapshot() else {
        line(ink, &[(&age, age_role)]);
        return;
    };
    let status = &snapshot.status;
    let state = word(status.state);
    line(
        ink,
        &[
            (state, state_role(status.state)),
            (" ", Role::Plain),
            (&age, age_role),
            (" ", Role::Plain),
            (&status.pipeline, Role::Strong),
        ],
    );
    for alert in &status.alerts {
        let mark = if alert.severity == "critical" {
            "!! "
        } else {
            "! "
        };
        line(ink, &[(mark, Role::Bad), (&alert.message, Role::Plain)]);
    }
    if let Some(reason) = &status.reason {
        line(ink, &[(reason, Role::Warn)]);
    }
    line(ink, &[("larger than 40x12 shows more", Role::Dim)]);
}
