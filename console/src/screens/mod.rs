//! Gallery of screens. `screen.rs` is the contract, one file per screen, the slice below is the catalogue in the order of
//! the bar.

mod alerts;
mod audit;
mod balance;
mod body;
mod canvas;
mod causes;
mod chaos;
mod consumers;
mod dead;
mod events;
mod guide;
mod latency;
mod offers;
mod overview;
mod owner;
mod pending;
mod pressure;
mod results;
mod runs;
mod screen;
#[cfg(test)]
mod sizes;
mod stages;
mod system;
mod topology;
mod trends;

pub(crate) use chaos::{
    RunLine, allowed, covered_by_run, rehearsal_lines, run_command, run_lines, running_words,
};
pub(crate) use guide::guide;
pub(crate) use latency::{chosen_series, is_told as is_latency_told};
pub(crate) use offers::matches;
pub(crate) use screen::{Screen, Source};
pub(crate) use stages::{state_role, state_word};

use crate::place::{Group, Id};

/// Every screen.
pub(crate) static SCREENS: &[Screen] = &[
    overview::SCREEN,
    topology::SCREEN,
    pending::SCREEN,
    dead::SCREEN,
    causes::SCREEN,
    consumers::SCREEN,
    results::SCREEN,
    latency::SCREEN,
    chaos::SCREEN,
    runs::SCREEN,
    events::SCREEN,
    alerts::SCREEN,
    audit::SCREEN,
    system::SCREEN,
];

/// The screen with this name; the first of the gallery for one that is not registered.
pub(crate) fn of(id: Id) -> &'static Screen {
    SCREENS
        .iter()
        .find(|screen| screen.id == id)
        .unwrap_or(&SCREENS[0])
}

/// The screens of a group, in the order of the bar.
pub(crate) fn in_group(group: Group) -> impl Iterator<Item = &'static Screen> {
    SCREENS.iter().filter(move |screen| screen.group == group)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::keys::{Key, Keymap};

    #[test]
    fn every_screen_is_registered_once_with_a_letter_of_its_own() {
        let keymap = Keymap::default();
        for id in Id::ALL {
            assert_eq!(
                SCREENS.iter().filter(|screen| screen.id == id).count(),
                1,
                "{id:?}"
            );
        }
        for group in Group::ALL {
            let mut letters = HashSet::new();
            for screen in in_group(group) {
                assert!(letters.insert(screen.letter), "{}", screen.name);
                assert!(
                    screen.name.to_lowercase().contains(screen.letter),
                    "{} does not hold {}",
                    screen.name,
                    screen.letter
                );
                assert_eq!(
                    keymap.act(Key::Char(screen.letter)),
                    None,
                    "{}",
                    screen.name
                );
            }
        }
    }

    #[test]
    fn the_readme_has_every_screen_and_every_key() {
        let page = include_str!("../../../README.md");
        let section = page.split("\n## The console\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for screen in SCREENS {
            let row = format!("| `{}` {} |", screen.group.digit(), screen.group.name());
            let row = section.lines().find(|line| line.starts_with(&row)).unwrap();
            let entry = format!("{} `{}`", screen.name, screen.letter);
            assert!(row.contains(&entry), "{entry}");
        }
        for binding in crate::keys::BINDINGS {
            for key in binding.keys {
                let key = format!("`{key}`");
                assert!(section.contains(&key), "{}: {key}", binding.name);
            }
        }
    }
}
