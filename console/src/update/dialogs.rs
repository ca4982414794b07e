//! Layers: which one gets the keys, menus, command forms, help, the journal, and the question before quitting.

use pipectl_shared::rpc::CommandParams;
use pipectl_shared::spec::{ParamKind, Spec};
use serde_json::{Map, Value};

use super::{detail, drill, go, kinds, lists, palette, plans, runs};
use crate::keys::{Act, Key};
use crate::message::{Answer, Effect, Fault, Question};
use crate::model::{
    Deed, Focus, Form, FormOf, Item, ItemKind, Layer, Menu, Model, PlanStep, Purpose, TextField,
};
use crate::output::shell::quote;
use crate::screens;

/// A key while something lies over the screen.
pub(super) fn press(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    match model.layers.last() {
        Some(Layer::Help(_) | Layer::Journal(_)) => reading(model, act),
        Some(Layer::Menu(_)) => menu(model, key, act),
        Some(Layer::Palette(_)) => palette::press(model, key),
        Some(Layer::Form(_)) => form(model, key),
        Some(Layer::Plan(_)) => plans::press(model, key),
        Some(Layer::Detail(_)) => detail::press(model, key, act),
        Some(Layer::Rehearsal(_)) => drill::press_rehearsal(model, key, act),
        Some(Layer::Run(_)) => runs::press_run(model, key, act),
        Some(Layer::Quit(_)) => leaving(model, key, act),
        None => Vec::new(),
    }
}

/// The text field of the top layer that has the keys, if one.
pub(super) fn open_field(model: &mut Model) -> Option<&mut TextField> {
    match model.layers.last_mut()? {
        Layer::Palette(palette) => Some(&mut palette.field),
        Layer::Form(form) => {
            let reason = form.fields.len();
            match form.focus {
                at if at < reason => form.fields.get_mut(at),
                at if at == reason => Some(&mut form.reason),
                _ => None,
            }
        }
        Layer::Plan(step) => match &mut **step {
            // A count is typed, never pasted: reading it is the point.
            PlanStep::Confirm(confirm) if confirm.focus == Focus::Reason => {
                Some(&mut confirm.reason)
            }
            _ => None,
        },
        Layer::Help(_)
        | Layer::Journal(_)
        | Layer::Menu(_)
        | Layer::Detail(_)
        | Layer::Rehearsal(_)
        | Layer::Run(_)
        | Layer::Quit(_) => None,
    }
}

fn reading(model: &mut Model, act: Option<Act>) -> Vec<Effect> {
    let page = usize::from(model.size.1 / 2).max(1);
    let n_deeds = model.deeds.len();
    let n_help = match model.layers.last() {
        Some(Layer::Help(_)) => screens::guide(model, model.size.0.saturating_sub(2)).len(),
        _ => 0,
    };
    // Header, bar, alert, frame and footer are no help.
    let last_help = n_help.saturating_sub(usize::from(model.size.1).saturating_sub(6));
    if act == Some(Act::Copy)
        && let Some(Layer::Journal(at)) = model.layers.last()
    {
        return model
            .deeds
            .get(*at)
            .map(|deed| Effect::Copy(deed.command.clone()))
            .into_iter()
            .collect();
    }
    let (at, most) = match model.layers.last_mut() {
        Some(Layer::Journal(at)) => (at, n_deeds.saturating_sub(1)),
        Some(Layer::Help(at)) => (at, last_help),
        _ => return Vec::new(),
    };
    match act {
        Some(Act::Down) => *at = (*at + 1).min(most),
        Some(Act::Up) => *at = at.saturating_sub(1),
        Some(Act::PageDown | Act::HalfDown) => *at = (*at + page).min(most),
        Some(Act::PageUp | Act::HalfUp) => *at = at.saturating_sub(page),
        Some(Act::Top) => *at = 0,
        Some(Act::Bottom) => *at = most,
        Some(Act::Back | Act::Quit | Act::Help | Act::Journal | Act::Open) => {
            model.layers.pop();
        }
        _ => {}
    }
    Vec::new()
}

/// Opens the menu of the screen, or says why there is none.
pub(super) fn open_menu(model: &mut Model) {
    let screen = screens::of(model.screen);
    let items = (screen.items)(model);
    if items.is_empty() {
        let key = model.options.keymap.label(Act::Palette).unwrap_or_default();
        model.say(format!("nothing to do here; {key} finds every command"));
        return;
    }
    let n_marks = model.list(model.screen).marks.len();
    let title = match n_marks {
        0 => screen.name.to_owned(),
        1 => format!("{}: 1 marked", screen.name),
        n => format!("{}: {n} marked", screen.name),
    };
    model.layers.push(Layer::Menu(Menu {
        title,
        items,
        at: 0,
    }));
}

fn menu(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    let Some(Layer::Menu(menu)) = model.layers.last_mut() else {
        return Vec::new();
    };
    // Letters of items come before acts: they are what the menu shows.
    let by_letter = match key {
        Key::Char(c) => menu.items.iter().find(|item| item.letter == c).cloned(),
        _ => None,
    };
    if let Some(item) = by_letter {
        return choose(model, item);
    }
    match act {
        Some(Act::Up) => menu.at = menu.at.saturating_sub(1),
        Some(Act::Down) => menu.at = (menu.at + 1).min(menu.items.len().saturating_sub(1)),
        Some(Act::Top) => menu.at = 0,
        Some(Act::Bottom) => menu.at = menu.items.len().saturating_sub(1),
        Some(Act::Open) => {
            if let Some(item) = menu.items.get(menu.at).cloned() {
                return choose(model, item);
            }
        }
        Some(Act::Back | Act::Menu | Act::Quit) => {
            model.layers.pop();
        }
        _ => {}
    }
    Vec::new()
}

/// Does what an item of a menu or of the palette says.
pub(super) fn choose(model: &mut Model, item: Item) -> Vec<Effect> {
    if let ItemKind::Off(why) = item.kind {
        // The menu stays: there may be something else to do.
        model.complain(why);
        return Vec::new();
    }
    model.layers.pop();
    match item.kind {
        ItemKind::Off(_) => Vec::new(),
        ItemKind::Plan(params) => plans::make(model, params),
        ItemKind::Command { name, given } => {
            open_form(model, &name, &given);
            Vec::new()
        }
        ItemKind::Experiment(name) => {
            model.open_experiment(&name);
            Vec::new()
        }
        ItemKind::Stop => model.stop_experiment(),
        ItemKind::Lever(pull) => {
            model.open_lever(pull);
            Vec::new()
        }
        ItemKind::Run(id, experiment) => model.open_run(id, experiment),
        ItemKind::Screen(id) => go(model, id),
        ItemKind::Filtered(id, filter) => {
            model
                .layers
                .retain(|layer| !matches!(layer, Layer::Detail(_)));
            let effects = model.go_filtered(id, filter);
            lists::reorder(model);
            effects
        }
    }
}

/// Opens the form of a command of the daemon's catalogue.
fn open_form(model: &mut Model, name: &str, given: &[(String, String)]) {
    if let Some(why) = model.why_not_act() {
        model.complain(format!("{name}: {why}"));
        return;
    }
    let spec = model
        .facts
        .hello
        .as_ref()
        .and_then(|hello| hello.specs.iter().find(|spec| spec.name == name))
        .cloned();
    let Some(spec) = spec else {
        model.complain(format!("this daemon has no command {name}"));
        return;
    };
    let fields: Vec<TextField> = spec
        .params
        .iter()
        .map(|param| {
            let value = given
                .iter()
                .find(|(name, _)| *name == param.name)
                .map(|(_, value)| value.as_str())
                .or(param.default.as_deref())
                .unwrap_or("");
            TextField::new(value)
        })
        .collect();
    let first_empty = fields.iter().position(|field| field.text().is_empty());
    let focus = first_empty.unwrap_or(fields.len() + 1);
    model.layers.push(Layer::Form(Form {
        of: FormOf::Command,
        spec,
        fields,
        reason: TextField::default(),
        focus,
        would: None,
        is_sent: false,
    }));
}

fn form(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(Layer::Form(form)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let n_parts = form.fields.len() + 3;
    match key {
        Key::Esc => {
            model.layers.pop();
        }
        // What was asked is what is answered: until then the fields stand still.
        _ if form.is_sent && form.of != FormOf::Command => {}
        Key::Tab | Key::Down => form.focus = (form.focus + 1) % n_parts,
        Key::BackTab | Key::Up => form.focus = (form.focus + n_parts - 1) % n_parts,
        Key::Left | Key::Right if form.focus > form.fields.len() => {
            form.focus = if form.focus == form.cancel() {
                form.run()
            } else {
                form.cancel()
            };
        }
        Key::Enter if form.focus == form.cancel() => {
            model.layers.pop();
        }
        Key::Enter if form.focus == form.run() => {
            return match form.of {
                FormOf::Command => send(model),
                FormOf::Experiment => drill::rehearse(model),
                FormOf::Lever(pull) => drill::move_lever(model, pull),
            };
        }
        Key::Enter => form.focus += 1,
        _ => {
            if let Some(field) = open_field(model) {
                field.press(key);
            }
            if let Some(Layer::Form(form)) = model.layers.last_mut() {
                form.would = None;
            }
        }
    }
    Vec::new()
}

/// First asks what it would do; the second press, with that on the screen, does it.
fn send(model: &mut Model) -> Vec<Effect> {
    // What held when the form opened may have changed: another role, no connection.
    let blocked = model.why_not_act();
    let Some(Layer::Form(form)) = model.layers.last_mut() else {
        return Vec::new();
    };
    if form.is_sent {
        return Vec::new();
    }
    if let Some(message) = blocked {
        form.would = Some(Err(Fault {
            message,
            hint: None,
        }));
        return Vec::new();
    }
    let params = match parameters(&form.spec, &form.fields) {
        Ok(params) => params,
        Err((at, why)) => {
            form.focus = at;
            form.would = Some(Err(Fault {
                message: why,
                hint: None,
            }));
            return Vec::new();
        }
    };
    let reason = Some(form.reason.text().trim().to_owned()).filter(|text| !text.is_empty());
    let dry_run = !matches!(form.would, Some(Ok(_)));
    form.is_sent = true;
    let name = form.spec.name.clone();
    if !dry_run {
        let command = equal_command(&name, &params, reason.as_deref());
        model.remember(Deed::of(&name, command, Purpose::Command));
    }
    let question = Question::Command(CommandParams {
        name,
        params,
        reason,
        dry_run,
    });
    vec![model.ask(Purpose::Command, question)]
}

pub(super) fn parameters(
    spec: &Spec,
    fields: &[TextField],
) -> Result<Map<String, Value>, (usize, String)> {
    let mut params = Map::new();
    for (at, (param, field)) in spec.params.iter().zip(fields).enumerate() {
        let text = field.text().trim();
        if text.is_empty() {
            if param.default.is_none() {
                return Err((
                    at,
                    format!("{} must be given: {}", param.name, param.summary),
                ));
            }
            continue;
        }
        if let Some(why) = kinds::misfit(param, text) {
            return Err((at, why));
        }
        let value = match &param.kind {
            ParamKind::Integer { min, max } => match text.parse::<i64>() {
                Ok(n) if (*min..=*max).contains(&n) => Value::from(n),
                _ => {
                    return Err((
                        at,
                        format!(
                            "{}: {text} is no whole number from {min} to {max}",
                            param.name
                        ),
                    ));
                }
            },
            ParamKind::Choice(words) if !words.iter().any(|word| word == text) => {
                return Err((at, format!("{}: one of {}", param.name, words.join(", "))));
            }
            ParamKind::Text
            | ParamKind::Duration
            | ParamKind::Span { .. }
            | ParamKind::Share { .. }
            | ParamKind::Stage
            | ParamKind::Consumer
            | ParamKind::Choice(_) => Value::from(text),
        };
        params.insert(param.name.clone(), value);
    }
    Ok(params)
}

/// The shell command that does the same. Commands with a noun of their own have it; others cannot be typed and say so.
fn equal_command(name: &str, params: &Map<String, Value>, reason: Option<&str>) -> String {
    let value = |key: &str| {
        params.get(key).map_or_else(String::new, |value| {
            quote(
                &value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            )
        })
    };
    let mut command = match name {
        "stage.pause" => format!("pipectl pause {}", value("stage")),
        "stage.resume" => format!("pipectl resume {}", value("stage")),
        "stage.scale" => format!("pipectl scale {} {}", value("stage"), value("workers")),
        "stage.take" => format!("pipectl take {}", value("stage")),
        "consumer.retire" => format!(
            "pipectl consumers retire {} --stage {}",
            value("consumer"),
            value("stage")
        ),
        "daemon.drain" => "pipectl down".to_owned(),
        other => return format!("(no noun of pipectl yet: {other})"),
    };
    if let Some(reason) = reason {
        command.push_str(" --reason ");
        command.push_str(&quote(reason));
    }
    command
}

/// The daemon says what a command would do, or that it did it.
pub(super) fn command_answered(model: &mut Model, answer: Result<Answer, Fault>) -> Vec<Effect> {
    let said = match answer {
        Ok(Answer::Command(value)) => Ok(told(&value)),
        Ok(_) => Err(Fault {
            message: "the daemon answered something else than was asked".to_owned(),
            hint: None,
        }),
        Err(fault) => Err(fault),
    };
    let was_run = model
        .deeds
        .iter_mut()
        .rev()
        .find(|deed| deed.result.is_none() && deed.awaits == Purpose::Command);
    let Some(deed) = was_run else {
        if let Some(Layer::Form(form)) = model.layers.last_mut() {
            form.is_sent = false;
            // With what it would do on the screen the focus goes to Cancel: the next Enter changes nothing by itself.
            if said.is_ok() {
                form.focus = form.cancel();
            }
            form.would = Some(said);
        }
        return Vec::new();
    };
    let what = deed.what.clone();
    match said {
        Ok(text) => {
            deed.result = Some(text.clone());
            if matches!(model.layers.last(), Some(Layer::Form(_))) {
                model.layers.pop();
            }
            model.say(format!("{what}: {text}"));
        }
        Err(fault) => {
            deed.result = Some(format!("failed: {}", fault.message));
            if let Some(Layer::Form(form)) = model.layers.last_mut() {
                form.is_sent = false;
                form.would = Some(Err(fault));
            } else {
                model.complain(format!("{what}: {}", fault.message));
            }
        }
    }
    Vec::new()
}

/// What a command answered, in words.
pub(super) fn told(value: &Value) -> String {
    for key in ["message", "would"] {
        if let Some(text) = value.get(key).and_then(Value::as_str) {
            return if key == "would" {
                format!("would {text}")
            } else {
                text.to_owned()
            };
        }
    }
    match value {
        Value::Null => "done".to_owned(),
        other => other.to_string(),
    }
}

fn leaving(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    let Some(Layer::Quit(focus)) = model.layers.last_mut() else {
        return Vec::new();
    };
    match (key, act) {
        (Key::Tab | Key::BackTab | Key::Left | Key::Right, _) => {
            *focus = if *focus == Focus::Run {
                Focus::Cancel
            } else {
                Focus::Run
            };
        }
        (Key::Enter, _) => {
            let leave = *focus == Focus::Run;
            model.layers.pop();
            if leave {
                return vec![Effect::Quit];
            }
        }
        (_, Some(Act::Back | Act::Quit)) => {
            model.layers.pop();
        }
        _ => {}
    }
    Vec::new()
}
