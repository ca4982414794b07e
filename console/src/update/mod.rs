//! `update(model, msg)`: what every message changes, and what it wants done. Pure: no clock, no socket, no terminal, no
//! environment. `view` draws what comes out; `run` carries the effects out.

mod answers;
mod detail;
mod dialogs;
mod drill;
mod kinds;
mod lists;
mod palette;
mod plans;
mod runs;
#[cfg(test)]
mod tests;

use crate::facts::{Freshness, Link};
use crate::keys::{Act, Key};
use crate::message::Question;
use crate::message::{Effect, LinkMsg, Msg};
use crate::model::{Focus, Layer, Model, PageWay, Purpose};
use crate::place::{Group, Id};
use crate::screens::{self, Source};

/// Milliseconds between two looks at a paged list that is shown.
const REFRESH_MS: u64 = 2_000;

/// Takes a message at a time (milliseconds since the console started).
pub(crate) fn update(model: &mut Model, now_ms: u64, msg: Msg) -> Vec<Effect> {
    model.now_ms = model.now_ms.max(now_ms);
    let mut effects = match msg {
        Msg::Key(key) => press(model, key),
        Msg::Paste { text, n_keys } => paste(model, &text, n_keys),
        Msg::Resize(columns, rows) => {
            model.size = (columns, rows);
            Vec::new()
        }
        Msg::Tick => tick(model),
        Msg::Link(msg) => link(model, msg),
        Msg::Stop => vec![Effect::Quit],
        Msg::Done(Ok(text)) => {
            model.say(text);
            Vec::new()
        }
        Msg::Done(Err(text)) => {
            model.complain(text);
            Vec::new()
        }
    };
    let series = screens::chosen_series(model);
    effects.extend(model.ask_slots(series));
    effects.extend(model.ask_progress());
    gate(model.options.read_only, effects)
}

/// The last gate: whatever a dialog did, a read-only console sends nothing that acts.
fn gate(read_only: bool, mut effects: Vec<Effect>) -> Vec<Effect> {
    if read_only {
        effects.retain(|effect| !matches!(effect, Effect::Ask(_, question) if question.acts()));
    }
    effects
}

fn link(model: &mut Model, msg: LinkMsg) -> Vec<Effect> {
    match msg {
        LinkMsg::Connecting { attempt } => {
            model.facts.link = Link::Connecting { attempt };
        }
        LinkMsg::Up { hello, socket } => {
            model.facts.link = Link::Up { socket };
            model.facts.hello = Some(hello);
            return connected(model);
        }
        LinkMsg::Down {
            why,
            hint,
            retry_in_ms,
        } => {
            let attempt = match &model.facts.link {
                Link::Connecting { attempt } | Link::Down { attempt, .. } => *attempt,
                Link::Up { .. } | Link::Refused { .. } => 0,
            };
            model.facts.link = Link::Down {
                why,
                hint,
                attempt,
                retry_at_ms: model.now_ms + retry_in_ms,
            };
            plans::connection_lost(model);
            drill::connection_lost(model);
        }
        LinkMsg::Refused { why, hint } => {
            model.facts.link = Link::Refused { why, hint };
            plans::connection_lost(model);
            drill::connection_lost(model);
        }
        LinkMsg::Stats(snapshot) => {
            model.history.take(&snapshot);
            model.facts.take(snapshot, model.now_ms);
            lists::reorder(model);
        }
        LinkMsg::Event(event) => {
            model.facts.take_event(*event);
            lists::reorder(model);
        }
        LinkMsg::Progress(plan) => return plans::progress(model, *plan),
        LinkMsg::Answer { ticket, answer } => {
            let Some(purpose) = model.asked.remove(&ticket) else {
                // Nobody waits for it any more.
                return Vec::new();
            };
            return answers::take(model, purpose, answer.map(|answer| *answer));
        }
    }
    Vec::new()
}

/// After each greeting: what the screen shows is asked for anew.
fn connected(model: &mut Model) -> Vec<Effect> {
    model.asked.clear();
    let mut effects = plans::reconnected(model);
    effects.push(model.ask_past());
    effects.extend(refresh(model, PageWay::First));
    effects
}

/// Asks for what the shown screen needs beside the Snapshot.
fn refresh(model: &mut Model, way: PageWay) -> Vec<Effect> {
    model.refreshed_ms = model.now_ms;
    match screens::of(model.screen).source {
        Source::Snapshot => Vec::new(),
        Source::Pages => model.ask_rows(model.screen, way).into_iter().collect(),
        Source::Latency => {
            let is_told = model.facts.latest().is_some_and(screens::is_latency_told);
            if is_told || !model.facts.is_up() || model.is_asked(&Purpose::Latency) {
                return Vec::new();
            }
            vec![model.ask(Purpose::Latency, Question::Latency)]
        }
    }
}

fn tick(model: &mut Model) -> Vec<Effect> {
    if model
        .notice
        .as_ref()
        .is_some_and(|notice| notice.until_ms <= model.now_ms)
    {
        model.notice = None;
    }
    let mut effects = plans::tick(model);
    let is_due = model.now_ms.saturating_sub(model.refreshed_ms) >= REFRESH_MS;
    // A list that is frozen, being marked in a range or covered by a dialog stays as it is.
    let is_still = model.facts.is_frozen()
        || !model.layers.is_empty()
        || model.list(model.screen).anchor.is_some();
    if is_due && !is_still {
        effects.extend(refresh(model, PageWay::Again));
    }
    effects
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    let act = model.options.keymap.act(key);
    if act == Some(Act::Abort) {
        return vec![Effect::Quit];
    }
    if !model.layers.is_empty() {
        return dialogs::press(model, key, act);
    }
    if model.list(model.screen).typing.is_some() {
        return lists::type_filter(model, key);
    }
    if let Some(act) = act {
        if let Some(effects) = (screens::of(model.screen).act)(model, act) {
            return effects;
        }
        return perform(model, act);
    }
    match key {
        Key::Char(c) => jump(model, c),
        _ => Vec::new(),
    }
}

/// A digit goes to a group, a letter to a screen of the group.
fn jump(model: &mut Model, c: char) -> Vec<Effect> {
    if let Some(group) = Group::ALL
        .into_iter()
        .find(|group| c.to_digit(10) == Some(u32::from(group.digit())))
    {
        let remembered = model.last.get(&group).copied();
        let first = screens::in_group(group).next().map(|screen| screen.id);
        return match remembered.or(first) {
            Some(id) => go(model, id),
            None => Vec::new(),
        };
    }
    let group = screens::of(model.screen).group;
    match screens::in_group(group).find(|screen| screen.letter == c) {
        Some(screen) => go(model, screen.id),
        None => {
            let help = model.options.keymap.label(Act::Help).unwrap_or_default();
            model.say(format!("{c} does nothing here; {help} lists the keys"));
            Vec::new()
        }
    }
}

/// Goes to a screen.
pub(super) fn go(model: &mut Model, id: Id) -> Vec<Effect> {
    if id == Id::Chaos && model.screen != id && model.running().is_some() {
        // Who comes while something breaks wants to see it.
        model.drill.is_live = true;
    }
    let mut effects = model.go(id, screens::of(id).group);
    if screens::of(id).source == Source::Latency {
        effects.extend(refresh(model, PageWay::First));
    }
    lists::reorder(model);
    effects
}

fn neighbour(model: &mut Model, forward: bool) -> Vec<Effect> {
    let group = screens::of(model.screen).group;
    let ids: Vec<Id> = screens::in_group(group).map(|screen| screen.id).collect();
    let at = ids.iter().position(|id| *id == model.screen).unwrap_or(0);
    let step = if forward { 1 } else { ids.len() - 1 };
    match ids.get((at + step) % ids.len().max(1)) {
        Some(id) if *id != model.screen => go(model, *id),
        _ => Vec::new(),
    }
}

/// What an act means on a screen without an own meaning for it.
pub(super) fn perform(model: &mut Model, act: Act) -> Vec<Effect> {
    match act {
        Act::Up
        | Act::Down
        | Act::HalfUp
        | Act::HalfDown
        | Act::PageUp
        | Act::PageDown
        | Act::Top
        | Act::Bottom
        | Act::Left
        | Act::Right
        | Act::NextMatch
        | Act::PreviousMatch => return lists::walk(model, act),
        Act::Mark | Act::Range | Act::MarkAll | Act::ClearMarks => lists::mark(model, act),
        Act::Sort | Act::Reverse => lists::sort(model, act),
        Act::Filter => lists::begin_filter(model),
        Act::Back => return back(model),
        Act::Open => {
            let Some((_, open)) = screens::of(model.screen).open else {
                model.say("nothing opens here");
                return Vec::new();
            };
            let effects = open(model);
            // Another screen may have opened, whose rows nobody has put in order yet.
            lists::reorder(model);
            return effects;
        }
        Act::NextScreen => return neighbour(model, true),
        Act::PreviousScreen => return neighbour(model, false),
        Act::Menu => dialogs::open_menu(model),
        Act::Palette => model
            .layers
            .push(Layer::Palette(crate::model::Palette::default())),
        Act::Help => model.layers.push(Layer::Help(0)),
        Act::Journal => {
            let last = model.deeds.len().saturating_sub(1);
            model.layers.push(Layer::Journal(last));
        }
        Act::Freeze => {
            model.facts.freeze();
            lists::reorder(model);
            if model.facts.is_frozen() {
                let key = model.options.keymap.label(Act::Freeze).unwrap_or_default();
                model.say(format!("held still; the pipeline goes on; {key} lets go"));
            }
        }
        Act::Live => {
            model.facts.thaw();
            model.time_back = None;
            lists::reorder(model);
        }
        Act::Earlier | Act::Later => {
            model.say("no time cursor on this screen; Latency has one");
        }
        Act::Copy => return lists::copy(model),
        Act::Export => return lists::export(model),
        Act::Redraw => {
            let mut effects = vec![Effect::Redraw];
            if !model.facts.is_up() {
                effects.push(Effect::Reconnect);
            }
            return effects;
        }
        Act::Quit => return quit(model),
        // Handled before anything else.
        Act::Abort => return vec![Effect::Quit],
    }
    Vec::new()
}

/// Esc on a screen: clears what was narrowed last; never quits.
fn back(model: &mut Model) -> Vec<Effect> {
    let id = model.screen;
    let view = model.list_mut(id);
    if view.anchor.take().is_some() {
        return Vec::new();
    }
    if !view.marks.is_empty() {
        view.marks.clear();
        return Vec::new();
    }
    if !view.filter.is_empty() {
        return lists::set_filter(model, String::new());
    }
    if matches!(model.facts.freshness(model.now_ms), Freshness::Frozen(_)) {
        model.facts.thaw();
        return Vec::new();
    }
    if model.time_back.take().is_none() {
        let key = model.options.keymap.label(Act::Quit).unwrap_or_default();
        model.say(format!("Esc never quits; {key} does"));
    }
    Vec::new()
}

fn quit(model: &mut Model) -> Vec<Effect> {
    if model.running_plan().is_some() {
        model.layers.push(Layer::Quit(Focus::Cancel));
        return Vec::new();
    }
    vec![Effect::Quit]
}

/// Text fields take a paste; anything else ignores it and says so, because what was pasted may be keys of a stranger.
fn paste(model: &mut Model, text: &str, n_keys: u64) -> Vec<Effect> {
    let screen = model.screen;
    if let Some(field) = dialogs::open_field(model) {
        field.paste(text);
        return Vec::new();
    }
    if model.layers.is_empty()
        && let Some(field) = &mut model.list_mut(screen).typing
    {
        field.paste(text);
        return Vec::new();
    }
    model.complain(format!(
        "{n_keys} keys came at once: taken for a paste and ignored"
    ));
    Vec::new()
}
