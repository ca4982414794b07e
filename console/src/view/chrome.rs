//! What surrounds every screen: header, bar of screens, worst alert, footer.

use pipectl_shared::rpc;
use pipectl_shared::snapshot::State;
use ratatui::layout::Rect;

use crate::clock;
use crate::facts::{Freshness, Link};
use crate::keys::Act;
use crate::model::{Layer, Model};
use crate::output::human::duration_ms;
use crate::place::Group;
use crate::screens;
use crate::theme::Role;
use crate::widgets::Ink;

/// The word for a state.
pub(crate) fn word(state: State) -> &'static str {
    match state {
        State::Starting => "STARTING",
        State::Running => "RUNNING",
        State::Degraded => "DEGRADED",
        State::Draining => "DRAINING",
        State::Paused => "PAUSED",
        State::Failed => "FAILED",
    }
}

/// How a state looks.
pub(crate) fn state_role(state: State) -> Role {
    match state {
        State::Running => Role::Good,
        State::Starting | State::Draining | State::Paused => Role::Warn,
        State::Degraded | State::Failed => Role::Bad,
    }
}

/// How old the picture is, in words.
pub(super) fn freshness(model: &Model) -> (String, Role) {
    let reconnecting = || match &model.facts.link {
        Link::Connecting { attempt } => format!("connecting ({attempt})"),
        Link::Down {
            attempt,
            retry_at_ms,
            ..
        } => {
            let left = retry_at_ms.saturating_sub(model.now_ms);
            format!("again in {} ({attempt})", duration_ms(left))
        }
        Link::Refused { .. } => "refused".to_owned(),
        Link::Up { .. } => "connected".to_owned(),
    };
    match model.facts.freshness(model.now_ms) {
        Freshness::Live => ("LIVE".to_owned(), Role::Good),
        Freshness::Frozen(age) => (format!("FROZEN {}", duration_ms(age)), Role::Warn),
        Freshness::Stale(age) => (format!("STALE {}", duration_ms(age)), Role::Bad),
        Freshness::Gone(age) => (
            format!("STALE {} {}", duration_ms(age), reconnecting()),
            Role::Bad,
        ),
        Freshness::Nothing => match &model.facts.link {
            Link::Up { .. } => ("waiting for the first figures".to_owned(), Role::Warn),
            Link::Connecting { attempt: 1 } => ("connecting".to_owned(), Role::Warn),
            _ => (format!("NOT CONNECTED {}", reconnecting()), Role::Bad),
        },
    }
}

/// Draws header, bar and alert line; returns the rows used.
pub(super) fn draw_top(model: &Model, ink: &mut Ink<'_>, area: Rect) -> u16 {
    draw_header(model, ink, Rect::new(area.x, area.y, area.width, 1));
    draw_bar(model, ink, Rect::new(area.x, area.y + 1, area.width, 1));
    let line = Rect::new(area.x, area.y + 2, area.width, 1);
    if draw_alert(model, ink, line) { 3 } else { 2 }
}

fn draw_header(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    ink.paint(area, Role::Bar);
    let (age, age_role) = freshness(model);
    let role = match (model.options.read_only, model.facts.role()) {
        (true, _) => "RO".to_owned(),
        (false, Some(rpc::Role::Viewer)) => "RO viewer".to_owned(),
        (false, Some(rpc::Role::Operator)) => "RW operator".to_owned(),
        (false, Some(rpc::Role::Admin)) => "RW admin".to_owned(),
        (false, None) => String::new(),
    };
    let time = match model.wall_ms() {
        0 => String::new(),
        ms => clock::rfc3339(ms)
            .split('T')
            .nth(1)
            .unwrap_or_default()
            .to_owned(),
    };
    let user = model
        .facts
        .hello
        .as_ref()
        .filter(|_| area.width >= 70)
        .map(|hello| format!(" {}", hello.identity.user))
        .unwrap_or_default();
    let right = if area.width >= 60 {
        format!("{time}  {role}{user} ")
    } else {
        format!("{role} ")
    };
    let start = ink.right(area.right(), area.y, area.width / 2, &right, Role::Bar);
    let name = model
        .facts
        .hello
        .as_ref()
        .map_or("pipectl", |hello| hello.pipeline.as_str());
    let room = start.saturating_sub(area.x + 1);
    let status = model.facts.snapshot().map(|snapshot| &snapshot.status);
    let redis = status.map(|status| {
        format!(
            "  redis {} {}",
            status.redis.version.as_deref().unwrap_or("?"),
            status.redis.state
        )
    });
    let up =
        status.map(|status| format!("  up {}", crate::output::human::duration_s(status.uptime_s)));
    let state = status.map(|status| status.state);
    let mut pieces: Vec<(&str, Role)> = vec![
        (" ", Role::Bar),
        (name, Role::Bar),
        ("  ", Role::Bar),
        (&age, age_role),
    ];
    if let Some(state) = state {
        pieces.push(("  ", Role::Bar));
        pieces.push((word(state), state_role(state)));
    }
    if area.width >= 60 {
        pieces.push((redis.as_deref().unwrap_or(""), Role::Bar));
    }
    if area.width >= 100 {
        pieces.push((up.as_deref().unwrap_or(""), Role::Bar));
    }
    ink.pieces(area.x, area.y, room, &pieces);
}

fn draw_bar(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let current = screens::of(model.screen);
    let mut x = area.x;
    let is_narrow = area.width < 80;
    for group in Group::ALL {
        if screens::in_group(group).next().is_none() {
            continue;
        }
        let is_here = group == current.group;
        let role = if is_here { Role::Chosen } else { Role::Plain };
        let name = if is_narrow && !is_here {
            ""
        } else {
            group.name()
        };
        let label = format!(" {} {name}", group.digit());
        let label = format!("{} ", label.trim_end());
        x += ink.text(x, area.y, area.right().saturating_sub(x), &label, role);
    }
    ink.glyph(x, area.y, '│', '|', Role::Frame);
    x += 1;
    for screen in screens::in_group(current.group) {
        let room = area.right().saturating_sub(x);
        if room == 0 {
            break;
        }
        if screen.id == current.id {
            let label = format!("[{}]", screen.name);
            x += ink.text(x, area.y, room, &label, Role::Chosen);
        } else {
            // The letter that jumps there is the one that stands out.
            let at = screen.name.to_lowercase().find(screen.letter).unwrap_or(0);
            let (before, rest) = screen.name.split_at(at);
            let (letter, after) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
            let bracketed = format!("({letter})");
            x += ink.pieces(
                x,
                area.y,
                room,
                &[
                    (" ", Role::Plain),
                    (before, Role::Plain),
                    (&bracketed, Role::Key),
                    (after, Role::Plain),
                ],
            );
        }
        x += 1;
    }
}

/// The worst alert, or why there is no connection. Says whether there was anything to draw.
fn draw_alert(model: &Model, ink: &mut Ink<'_>, area: Rect) -> bool {
    if let Link::Down { why, hint, .. } | Link::Refused { why, hint } = &model.facts.link {
        let hint = hint
            .as_ref()
            .map(|hint| format!(" -- {hint}"))
            .unwrap_or_default();
        // The next step matters more than the end of a long reason: it gets half of the line where it needs it.
        let for_hint = ink.width_of(&hint).min(area.width / 2);
        let left = area.width - for_hint;
        let used = ink.pieces(
            area.x,
            area.y,
            left,
            &[("!! ", Role::Bad), (why, Role::Warn)],
        );
        ink.text(area.x + used, area.y, area.width - used, &hint, Role::Plain);
        return true;
    }
    let Some(snapshot) = model.facts.snapshot() else {
        return false;
    };
    let Some(worst) = snapshot.status.alerts.first() else {
        return false;
    };
    let more = match snapshot.status.alerts.len() - 1 {
        0 => String::new(),
        n => format!(" +{n}"),
    };
    let more_width = ink.width_of(&more);
    ink.right(area.right(), area.y, more_width, &more, Role::Warn);
    let (mark, role) = if worst.severity == "critical" {
        ("!! CRITICAL ", Role::Bad)
    } else {
        ("! WARNING ", Role::Warn)
    };
    ink.pieces(
        area.x,
        area.y,
        area.width.saturating_sub(more_width + 1),
        &[
            (mark, role),
            (&worst.name, Role::Strong),
            (": ", Role::Plain),
            (&worst.message, Role::Plain),
        ],
    );
    true
}

/// A word of the console, or the keys that do something here.
pub(super) fn draw_foot(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    if let Some(notice) = &model.notice {
        let role = if notice.is_bad {
            Role::Bad
        } else {
            Role::Strong
        };
        ink.text(
            area.x,
            area.y,
            area.width,
            &format!(" {} ", notice.text),
            role,
        );
        return;
    }
    let screen = screens::of(model.screen);
    let has_rows = screen.list.is_some();
    let typing = model.list(model.screen).typing.is_some();
    let acts: &[(Act, &str)] = match model.layers.last() {
        Some(Layer::Detail(_)) => &[
            (Act::Back, "back"),
            (Act::Down, "scroll"),
            (Act::NextScreen, "next field"),
            (Act::Later, "next page"),
            (Act::Menu, "act"),
            (Act::Copy, "copy id"),
        ],
        Some(Layer::Help(_)) => &[(Act::Back, "back"), (Act::Down, "scroll")],
        Some(Layer::Journal(_)) => &[
            (Act::Back, "back"),
            (Act::Down, "move"),
            (Act::Copy, "copy the command"),
        ],
        Some(_) => &[],
        None if typing => &[],
        None if has_rows => &[
            (Act::Open, "open"),
            (Act::Menu, "act"),
            (Act::Mark, "mark"),
            (Act::Filter, "filter"),
            (Act::Sort, "sort"),
            (Act::Freeze, "freeze"),
            (Act::NextScreen, "next"),
            (Act::Palette, "palette"),
            (Act::Help, "help"),
            (Act::Quit, "quit"),
        ],
        None => &[
            (Act::NextScreen, "next screen"),
            (Act::Menu, "act"),
            (Act::Freeze, "freeze"),
            (Act::Palette, "palette"),
            (Act::Help, "help"),
            (Act::Quit, "quit"),
        ],
    };
    let mut x = area.x;
    if matches!(model.layers.last(), Some(Layer::Detail(_))) {
        x += ink.pieces(
            x,
            area.y,
            area.width,
            &[(" h", Role::Key), (" hex/text ", Role::Dim)],
        );
    }
    for (act, what) in acts {
        let Some(key) = model.options.keymap.label(*act) else {
            continue;
        };
        let needed = ink.width_of(&key) + ink.width_of(what) + 3;
        if x + needed > area.right() {
            break;
        }
        let what = format!(" {what} ");
        x += ink.pieces(
            x,
            area.y,
            area.right() - x,
            &[(" ", Role::Plain), (&key, Role::Key), (&what, Role::Dim)],
        );
    }
    if typing {
        ink.pieces(
            area.x,
            area.y,
            area.width,
            &[
                (" Enter", Role::Key),
                (" keep  ", Role::Dim),
                ("Esc", Role::Key),
                (" clear", Role::Dim),
            ],
        );
    }
}
