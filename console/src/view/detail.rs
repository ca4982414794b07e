//! One entry: what is known of it, and its payload as text or hex. Only the lines in sight are built.

use pipectl_shared::snapshot::{Dead, Pending};
use ratatui::layout::Rect;

use crate::model::{Detail, DetailOf, Model, PayloadView};
use crate::output::human::{bytes, duration_ms};
use crate::theme::Role;
use crate::widgets::{Ink, panel, payload_lines};

/// Draws the view over the whole body.
pub(super) fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect, detail: &Detail) {
    ink.clear(area);
    let (title, about) = match &detail.of {
        DetailOf::Pending(row) if row.in_flight => {
            (format!("entry in flight {}", row.id), about_pending(row))
        }
        DetailOf::Pending(row) => (format!("pending entry {}", row.id), about_pending(row)),
        DetailOf::Dead(row) => (format!("dead letter {}", row.id), about_dead(model, row)),
    };
    let inner = panel(ink, area, &title, area.width >= 60);
    let mut y = inner.y;
    // Where there is little room the payload has half of it: it is what was opened.
    let about_bottom = inner.y + (inner.height / 2).max(2).min(inner.height);
    for line in about {
        let room = about_bottom.saturating_sub(y);
        y += ink.wrapped(
            Rect::new(inner.x, y, inner.width, room.min(2)),
            &line,
            Role::Plain,
        );
    }
    let rest = Rect::new(inner.x, y, inner.width, inner.bottom().saturating_sub(y));
    if let Some(fault) = &detail.fault {
        let hint = fault
            .hint
            .as_ref()
            .map(|hint| format!(" -- {hint}"))
            .unwrap_or_default();
        let text = format!("payload: {}{hint} (r asks again)", fault.message);
        let used = ink.wrapped(rest, &text, Role::Warn);
        let rest = Rect::new(
            rest.x,
            rest.y + used,
            rest.width,
            rest.height.saturating_sub(used),
        );
        draw_payload(ink, rest, detail);
        return;
    }
    if detail.of.fields().is_none() {
        ink.text(
            rest.x,
            rest.y,
            rest.width,
            "asking for the payload ...",
            Role::Dim,
        );
        return;
    }
    draw_payload(ink, rest, detail);
}

fn about_pending(row: &Pending) -> Vec<String> {
    let mut lines = vec![if row.in_flight {
        format!(
            "in flight: {} read it {} ago and has not committed it; for Redis it is not delivered",
            row.consumer,
            duration_ms(row.held_ms)
        )
    } else {
        format!(
            "held by {} for {}  idle {}  tries {}  deliveries {}",
            row.consumer,
            duration_ms(row.held_ms),
            duration_ms(row.idle_ms),
            row.tries,
            row.deliveries
        )
    }];
    if let Some(error) = &row.last_error {
        lines.push(format!("last error: {error}"));
    }
    if let Some(at) = &row.not_before {
        lines.push(format!("not tried again before {at}"));
    }
    let size = row
        .size_bytes
        .map_or_else(|| "size ?".to_owned(), |n| format!("{}B", bytes(n)));
    lines.push(format!(
        "stage {}  stream {}  group {}  age {}  {size}  entry {}",
        row.stage,
        row.stream,
        row.group,
        duration_ms(row.age_ms),
        row.entry
    ));
    lines
}

fn about_dead(model: &Model, row: &Dead) -> Vec<String> {
    let now = model.wall_ms();
    let ago = |ms: u64| match now {
        0 => "?".to_owned(),
        now => duration_ms(now.saturating_sub(ms)),
    };
    let mut lines = vec![
        format!("error: {}", row.error),
        format!(
            "stage {}  reason {}  tries {}  cause {}",
            row.stage, row.reason, row.tries, row.cause
        ),
        format!(
            "died {} ago  first read {} ago  origin {} {}",
            ago(row.dead_ms),
            ago(row.first_ms),
            row.origin_stream,
            row.origin_id
        ),
    ];
    if let Some(id) = &row.redriven {
        lines.push(format!("redriven as {id}"));
    }
    lines
}

fn draw_payload(ink: &mut Ink<'_>, area: Rect, detail: &Detail) {
    let Some(fields) = detail.of.fields() else {
        return;
    };
    if area.height < 2 {
        return;
    }
    if fields.is_empty() {
        ink.text(
            area.x,
            area.y,
            area.width,
            "no fields: the payload is gone",
            Role::Warn,
        );
        return;
    }
    let view = match detail.view {
        PayloadView::Text => "text",
        PayloadView::Hex => "hex",
    };
    let at = detail.field.min(fields.len() - 1);
    let title = format!("field {} of {} as {view}", at + 1, fields.len());
    ink.rule(area.x, area.y, area.width, Role::Frame);
    ink.text(
        area.x + 2,
        area.y,
        area.width.saturating_sub(4),
        &format!(" {title} "),
        Role::Title,
    );
    let body = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    let is_hex = detail.view == PayloadView::Hex;
    // From the chosen field on, all that fit: most entries are a handful of short fields.
    let lines = payload_lines(fields, at, is_hex, usize::from(body.width)).skip(detail.line);
    for (y, line) in (body.y..body.bottom()).zip(lines) {
        let role = match (line.is_head, line.field == at) {
            (true, true) => Role::Chosen,
            (true, false) => Role::Title,
            (false, _) => Role::Plain,
        };
        let indent = if line.is_head { 0 } else { 2 };
        let width = body.width.saturating_sub(indent);
        ink.bytes(body.x + indent, y, width, &line.bytes, role);
    }
}
