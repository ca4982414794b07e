//! One entry: what is known of it, and its payload as text or hex. Only the lines in sight are built.

use pipectl_shared::rpc::Bytes;
use pipectl_shared::snapshot::{Dead, Field, Pending};
use ratatui::layout::Rect;
use serde_json::Value;

use crate::model::{Detail, DetailOf, Model, PayloadView};
use crate::output::human::{bytes, count, duration_ms};
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// Draws the view over the whole body.
pub(super) fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect, detail: &Detail) {
    ink.clear(area);
    let (title, about) = match &detail.of {
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
    let mut lines = vec![format!(
        "held by {} for {}  idle {}  tries {}  deliveries {}",
        row.consumer,
        duration_ms(row.held_ms),
        duration_ms(row.idle_ms),
        row.tries,
        row.deliveries
    )];
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
    let mut skip = detail.line;
    let mut y = body.y;
    // From the chosen field on, all that fit: most entries are a handful of short fields.
    for (n, field) in fields.iter().enumerate().skip(at) {
        if y >= body.bottom() {
            break;
        }
        let head = head(field, detail.offset, n == at);
        let lines = lines(field, detail.view, usize::from(body.width));
        for (is_head, line) in std::iter::once((true, head)).chain(lines.map(|line| (false, line)))
        {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            if y >= body.bottom() {
                break;
            }
            let role = match (is_head, n == at) {
                (true, true) => Role::Chosen,
                (true, false) => Role::Title,
                (false, _) => Role::Plain,
            };
            let indent = if is_head { 0 } else { 2 };
            ink.bytes(
                body.x + indent,
                y,
                body.width.saturating_sub(indent),
                &line,
                role,
            );
            y += 1;
        }
    }
}

/// `name  12 bytes`, with the page where it is cut.
fn head(field: &Field, _offset: u64, _is_chosen: bool) -> Vec<u8> {
    let mut line = raw(&field.name);
    let n = raw(&field.value).len() as u64;
    let text = if field.truncated || field.offset > 0 {
        let to = field.offset + n;
        format!(
            "  bytes {} to {} of {}  [ ] pages",
            count(field.offset),
            count(to),
            count(field.size)
        )
    } else {
        format!("  {} bytes", count(field.size))
    };
    line.extend_from_slice(text.as_bytes());
    line
}

fn raw(value: &Bytes) -> Vec<u8> {
    value.decode().unwrap_or_else(|| match value {
        Bytes::Text(text) => text.clone().into_bytes(),
        Bytes::Binary { b64 } => format!("broken base64: {b64}").into_bytes(),
    })
}

fn lines(field: &Field, view: PayloadView, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let value = raw(&field.value);
    match view {
        PayloadView::Hex => hex(value, field.offset, width),
        PayloadView::Text => {
            let looks_like_json = matches!(value.first(), Some(b'{' | b'['));
            let laid_out = (looks_like_json && !field.truncated && field.offset == 0)
                .then(|| serde_json::from_slice::<Value>(&value).ok())
                .flatten()
                .and_then(|json| serde_json::to_vec_pretty(&json).ok());
            wrap(laid_out.unwrap_or(value), width.saturating_sub(2).max(8))
        }
    }
}

/// Lines of at most about `width` cells, broken at line ends and by length; cleaning comes when they are drawn.
fn wrap(value: Vec<u8>, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let mut at = 0;
    let mut is_first = true;
    Box::new(std::iter::from_fn(move || {
        if at >= value.len() && !is_first {
            return None;
        }
        is_first = false;
        let rest = &value[at..];
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        let mut n = end.min(width);
        // Not inside a character: back to its first byte.
        while n < end && n > 1 && rest[n] & 0b1100_0000 == 0b1000_0000 {
            n -= 1;
        }
        let line = rest[..n].to_vec();
        at += n;
        if n == end && at < value.len() {
            at += 1;
        } else if end == 0 {
            at += 1;
        }
        Some(line)
    }))
}

fn hex(value: Vec<u8>, from: u64, width: usize) -> Box<dyn Iterator<Item = Vec<u8>>> {
    // Offset 8, then three cells of hex and one of text for each byte.
    let n = if width >= 8 + 2 + 16 * 4 + 4 { 16 } else { 8 };
    let n_lines = value.len().div_ceil(n);
    Box::new((0..n_lines).map(move |line| {
        let at = line * n;
        let part = &value[at..value.len().min(at + n)];
        let mut text = format!("{:08x}  ", from + at as u64);
        for byte in part {
            text.push_str(&format!("{byte:02x} "));
        }
        for _ in part.len()..n {
            text.push_str("   ");
        }
        text.push(' ');
        text.extend(part.iter().map(|byte| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        }));
        text.into_bytes()
    }))
}
