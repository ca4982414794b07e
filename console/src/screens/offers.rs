//! Everything that can be chosen by name: every screen, every item of the screen's menu, every command of the daemon.

use super::{SCREENS, of};
use crate::model::{Item, ItemKind, Model};
use crate::place::Id;

/// What fits what is typed: each word must occur, in any order; names that begin with it come first.
pub(crate) fn matches(model: &Model, typed: &str) -> Vec<Item> {
    let typed = typed.to_lowercase();
    let words: Vec<&str> = typed.split_whitespace().collect();
    let mut found: Vec<(bool, Item)> = everything(model)
        .into_iter()
        .filter_map(|item| {
            let label = item.label.to_lowercase();
            let fits = words.iter().all(|word| label.contains(word));
            fits.then(|| (!label.starts_with(typed.trim()), item))
        })
        .collect();
    found.sort_by_key(|(is_later, _)| *is_later);
    found.into_iter().map(|(_, item)| item).collect()
}

fn everything(model: &Model) -> Vec<Item> {
    let mut items: Vec<Item> = SCREENS
        .iter()
        .map(|screen| Item {
            letter: ' ',
            label: format!("{} -- {}", screen.name.to_lowercase(), screen.about),
            kind: ItemKind::Screen(screen.id),
        })
        .collect();
    items.extend((of(model.screen).items)(model));
    let specs = model.facts.hello.iter().flat_map(|hello| &hello.specs);
    items.extend(specs.map(|spec| Item {
        letter: ' ',
        label: format!("{} -- {}", spec.name, spec.summary),
        kind: ItemKind::Command {
            name: spec.name.clone(),
            given: Vec::new(),
        },
    }));
    items.extend(drill(model));
    items
}

/// Experiments by name, the stop and the lever, from any screen but the one whose menu has them.
fn drill(model: &Model) -> Vec<Item> {
    let item = |label: String, kind| Item {
        letter: ' ',
        label,
        kind,
    };
    let mut items = Vec::new();
    if model.screen != Id::Chaos {
        items.push(item(
            "chaos.stop -- stop the experiment that is under way: revert, then count".to_owned(),
            ItemKind::Stop,
        ));
        let is_pulled = model.pulled_lever().is_some();
        let what = if is_pulled {
            "take it back: experiments may run again"
        } else {
            "pull it: stop what runs, block every experiment"
        };
        items.push(item(
            format!("chaos.lever -- {what}"),
            ItemKind::Lever(!is_pulled),
        ));
    }
    let specs = model
        .facts
        .hello
        .iter()
        .flat_map(|hello| &hello.experiments);
    items.extend(specs.map(|spec| {
        item(
            format!("chaos.run {} -- {}", spec.name, spec.summary),
            ItemKind::Experiment(spec.name.clone()),
        )
    }));
    items
}
