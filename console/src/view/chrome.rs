//! What surrounds every screen: header, bar of screens, worst alert, footer.

use pipectl_shared::rpc;
use ratatui::layout::Rect;

use crate::clock;
use crate::facts::{Freshness, Link};
use crate::keys::Act;
use crate::model::{Layer, Model};
use crate::output::human::{duration_ms, duration_s};
use crate::place::{Group, Id};
use crate::screens::{self, Screen, state_role, state_word};
use crate::theme::Role;
use crate::widgets::Ink;

/// How old the picture is, in words.
pub(super) fn freshness(model: &Model) -> (String, Role) {
    match model.facts.freshness(model.now_ms) {
        Freshness::Live => ("LIVE".to_owned(), Role::Good),
        Freshness::Frozen(age) => (format!("FROZEN {}", duration_ms(age)), Role::Warn),
        Freshness::Stale(age) | Freshness::Gone(age) => {
            (format!("STALE {}", duration_ms(age)), Role::Bad)
        }
        Freshness::Nothing => match &model.facts.link {
            Link::Up { .. } => ("waiting for the first figures".to_owned(), Role::Warn),
            Link::Connecting { attempt: 1 } => ("connecting".to_owned(), Role::Warn),
            _ => ("NOT CONNECTED".to_owned(), Role::Bad),
        },
    }
}

/// What is done about a connection that is not there; empty when it is.
pub(super) fn reconnecting(model: &Model) -> String {
    match &model.facts.link {
        Link::Up { .. } | Link::Connecting { attempt: 1 } => String::new(),
        Link::Connecting { attempt } => format!("connecting, try {attempt}"),
        Link::Down {
            attempt,
            retry_at_ms,
            ..
        } => {
            let left = retry_at_ms.saturating_sub(model.now_ms);
            format!("try {} in {}", attempt + 1, duration_ms(left))
        }
        Link::Refused { .. } => "refused".to_owned(),
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
        format!(" {role}")
    };
    let start = ink.right(area.right(), area.y, area.width / 2, &right, Role::Bar);
    // Where the right part does not begin with a blank there is one before it.
    let start = start.saturating_sub(u16::from(area.width >= 60));
    let name = model
        .facts
        .hello
        .as_ref()
        .map_or("pipectl", |hello| hello.pipeline.as_str());
    let room = start.saturating_sub(area.x + 1);
    // A name may be long; how old the picture is matters more.
    let mut x = area.x + 1;
    x += ink.text(x, area.y, room.saturating_sub(24).max(4), name, Role::Bar);
    let mut pieces: Vec<(String, Role)> = vec![(age, age_role)];
    // Before anything else that may not fit: who sees trouble must know that somebody makes it.
    let status = model.facts.snapshot().map(|snapshot| &snapshot.status);
    let used: u16 = pieces.iter().map(|(text, _)| ink.width_of(text) + 2).sum();
    let room = start.saturating_sub(x + used + 2);
    // The state keeps its place beside it, where there is a form of both that fits.
    let state = status.map_or(0, |status| ink.width_of(state_word(status.state)) + 2);
    let words = screens::running_words(model);
    let fitting = |room: u16| words.iter().find(|words| ink.width_of(words) <= room);
    let words = fitting(room.saturating_sub(state)).or_else(|| fitting(room));
    pieces.extend(words.map(|words| (words.clone(), Role::Warn)));
    if let Some(status) = status {
        pieces.push((
            state_word(status.state).to_owned(),
            state_role(status.state),
        ));
    }
    pieces.push((reconnecting(model), Role::Bar));
    if let Some(status) = status {
        let version = status.redis.version.as_deref().unwrap_or("?");
        pieces.push((format!("redis {version} {}", status.redis.state), Role::Bar));
        pieces.push((format!("up {}", duration_s(status.uptime_s)), Role::Bar));
    }
    // What does not fit whole is left out; a word cut in the middle says nothing.
    for (text, role) in pieces.iter().filter(|(text, _)| !text.is_empty()) {
        if x + 2 + ink.width_of(text) > start {
            break;
        }
        x += 2;
        x += ink.text(x, area.y, start - x, text, *role);
    }
}

/// How much of the bar is written out, by what fits: names of all groups; of the one that is shown; then letters of the
/// other screens only; then digits of groups only. What is shown keeps its name.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Bar {
    Whole,
    OneGroup,
    Letters,
    Digits,
}

type Pieces = Vec<(String, Role)>;

fn bar(current: &Screen, bar: Bar) -> (Pieces, Pieces) {
    let mut groups = Pieces::new();
    for group in Group::ALL {
        if screens::in_group(group).next().is_none() {
            continue;
        }
        let is_here = group == current.group;
        let role = if is_here { Role::Chosen } else { Role::Plain };
        let is_named = match bar {
            Bar::Whole => true,
            Bar::OneGroup | Bar::Letters => is_here,
            Bar::Digits => false,
        };
        let name = if is_named { group.name() } else { "" };
        let label = format!(" {} {name}", group.digit());
        groups.push((format!("{} ", label.trim_end()), role));
    }
    let mut names = Pieces::new();
    for screen in screens::in_group(current.group) {
        if screen.id == current.id {
            names.push((format!("[{}]", screen.name), Role::Chosen));
        } else {
            // The letter that jumps there is the one that stands out.
            let at = screen.name.to_lowercase().find(screen.letter).unwrap_or(0);
            let (before, rest) = screen.name.split_at(at);
            let (letter, after) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
            let is_named = bar < Bar::Letters;
            if is_named {
                names.push((format!(" {before}"), Role::Plain));
            }
            names.push((format!("({letter})"), Role::Key));
            if is_named {
                names.push((after.to_owned(), Role::Plain));
            }
        }
        if bar < Bar::Letters {
            names.push((" ".to_owned(), Role::Plain));
        }
    }
    (groups, names)
}

fn draw_bar(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let current = screens::of(model.screen);
    let width =
        |pieces: &Pieces| -> u16 { pieces.iter().map(|(text, _)| ink.width_of(text)).sum() };
    let fits = |level: &Bar| {
        let (groups, names) = bar(current, *level);
        // A line between them; the blank behind the last name needs no place.
        let needed = width(&groups) + 1 + width(&names) - u16::from(*level < Bar::Letters);
        needed <= area.width
    };
    let levels = [Bar::Whole, Bar::OneGroup, Bar::Letters];
    let level = levels.into_iter().find(fits).unwrap_or(Bar::Digits);
    let (groups, names) = bar(current, level);
    let mut x = area.x;
    for (text, role) in &groups {
        x += ink.text(x, area.y, area.right().saturating_sub(x), text, *role);
    }
    ink.glyph(x, area.y, '│', '|', Role::Frame);
    x += 1;
    for (text, role) in &names {
        x += ink.text(x, area.y, area.right().saturating_sub(x), text, *role);
    }
}

/// The worst alert, or why there is no connection. Says whether there was anything to draw.
fn draw_alert(model: &Model, ink: &mut Ink<'_>, area: Rect) -> bool {
    if let Link::Down { why, hint, .. } | Link::Refused { why, hint } = &model.facts.link {
        // The next step stays whole where it can: the reason is cut for it.
        let hint = hint
            .as_ref()
            .map(|hint| format!("  {hint}"))
            .unwrap_or_default();
        let for_hint = ink.width_within(&hint, area.width / 2);
        let used = ink.pieces(
            area.x,
            area.y,
            area.width - for_hint,
            &[("!! ", Role::Bad), (why, Role::Warn)],
        );
        ink.text(area.x + used, area.y, for_hint, &hint, Role::Strong);
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
    let has_marks = screen.list.as_ref().is_some_and(|list| list.has_marks);
    let has_menu = !(screen.items)(model).is_empty();
    let typing = model.list(model.screen).typing.is_some();
    // The key that stops is shown wherever it works.
    let is_running = screen.id == Id::Chaos && model.running().is_some();
    let covered = screens::covered_by_run(model).filter(|_| screen.id == Id::Chaos);
    let opens = screen.open.map_or("", |(what, _)| what);
    let acts: &[(Act, &str)] = match model.layers.last() {
        Some(Layer::Detail(_)) => &[
            (Act::Back, "back"),
            (Act::Down, "scroll"),
            (Act::NextScreen, "next field"),
            (Act::Later, "next page"),
            (Act::Menu, "act"),
            (Act::Copy, "copy id"),
            (Act::Help, "help"),
        ],
        Some(Layer::Run(_)) => &[
            (Act::Back, "back"),
            (Act::Down, "scroll"),
            (Act::Copy, "copy id"),
            (Act::Help, "help"),
        ],
        Some(Layer::Help(_)) => &[(Act::Back, "back"), (Act::Down, "scroll")],
        Some(Layer::Journal(_)) => &[
            (Act::Back, "back"),
            (Act::Down, "move"),
            (Act::Copy, "copy the command"),
        ],
        Some(_) => &[],
        None if typing => &[],
        None if is_running || covered.is_some() => &[
            (Act::Reverse, if is_running { "STOP" } else { "" }),
            (Act::Live, if covered.is_none() { "the run" } else { "" }),
            (Act::Back, if covered.is_some() { "catalogue" } else { "" }),
            (
                Act::Open,
                match covered {
                    Some(true) => "document",
                    Some(false) => "",
                    None => opens,
                },
            ),
            (Act::Menu, "act"),
            (Act::Freeze, "freeze"),
            (Act::NextScreen, "next"),
            (Act::Palette, "palette"),
            (Act::Help, "help"),
            (Act::Quit, "quit"),
        ],
        None if has_rows => &[
            (Act::Open, opens),
            (Act::Menu, if has_menu { "act" } else { "" }),
            (Act::Mark, if has_marks { "mark" } else { "" }),
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
            (Act::Menu, if has_menu { "act" } else { "" }),
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
    let room = area.right().saturating_sub(x);
    for (key, what) in fitting(model, ink, acts, room) {
        let what = format!(" {what}");
        let pieces = [(" ", Role::Plain), (&*key, Role::Key), (&what, Role::Dim)];
        x += ink.pieces(x, area.y, area.right().saturating_sub(x), &pieces) + 1;
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

/// Those of the acts whose words fit, with their keys. What a stranger needs stays longest.
fn fitting<'a>(
    model: &Model,
    ink: &Ink<'_>,
    acts: &[(Act, &'a str)],
    width: u16,
) -> Vec<(String, &'a str)> {
    const LAST_TO_GO: [Act; 9] = [
        Act::Reverse,
        Act::Help,
        Act::Quit,
        Act::Back,
        Act::Open,
        Act::Menu,
        Act::Filter,
        Act::Palette,
        Act::Mark,
    ];
    let rank = |act: &Act| {
        let at = LAST_TO_GO.iter().position(|other| other == act);
        at.unwrap_or(LAST_TO_GO.len())
    };
    let mut shown: Vec<(usize, String, &str)> = acts
        .iter()
        // What means nothing here has no word.
        .filter(|(_, what)| !what.is_empty())
        .filter_map(|(act, what)| Some((rank(act), model.options.keymap.label(*act)?, *what)))
        .collect();
    let needed = |shown: &[(usize, String, &str)]| -> u16 {
        shown
            .iter()
            .map(|(_, key, what)| ink.width_of(key) + ink.width_of(what) + 3)
            .sum()
    };
    // The blank behind the last one may be cut.
    while needed(&shown) > width + 1 {
        let greatest = shown.iter().map(|(rank, ..)| *rank).max();
        let Some(at) = shown.iter().rposition(|(rank, ..)| Some(*rank) == greatest) else {
            break;
        };
        shown.remove(at);
    }
    shown
        .into_iter()
        .map(|(_, key, what)| (key, what))
        .collect()
}
