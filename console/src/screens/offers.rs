//! Everything that can be chosen by name: every screen, every item of the screen's menu, every command of the daemon.

use super::{SCREENS, of};
use crate::model::{Item, ItemKind, Model};

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
    items
}
