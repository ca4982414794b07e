//! The words of the help: what the screen shows, what can be done now, every screen, every key; from the tables that keys
//! are handled by.

use unicode_width::UnicodeWidthStr as _;

use super::{in_group, of};
use crate::keys::{Act, BINDINGS};
use crate::model::Model;
use crate::output::clean;
use crate::place::Group;
use crate::theme::Role;

/// One line of the help.
pub(crate) struct GuideLine {
    /// Keys in front; empty in the second line of something long.
    pub(crate) keys: String,
    /// Cells that the keys take.
    pub(crate) indent: u16,
    /// What it says; untrusted.
    pub(crate) text: String,
    /// How it looks.
    pub(crate) role: Role,
}

/// All lines, broken for so many cells.
pub(crate) fn guide(model: &Model, width: u16) -> Vec<GuideLine> {
    let screen = of(model.screen);
    let keymap = &model.options.keymap;
    let mut lines = Vec::new();
    let keys_width = 13.min(width / 3);
    let mut say = |keys: &str, text: &str, role| {
        let indent = if keys.is_empty() { 0 } else { keys_width };
        for (n, part) in broken(text, width.saturating_sub(indent))
            .into_iter()
            .enumerate()
        {
            lines.push(GuideLine {
                keys: if n == 0 {
                    keys.to_owned()
                } else {
                    String::new()
                },
                indent,
                text: part,
                role,
            });
        }
    };
    say("", screen.about, Role::Strong);
    for text in screen.legend {
        say("", text, Role::Plain);
    }
    let items = (screen.items)(model);
    if !items.is_empty() {
        let key = keymap.label(Act::Menu).unwrap_or_default();
        say("", &format!("Now, with {key}:"), Role::Title);
        for item in items {
            say(&item.letter.to_string(), &item.label, Role::Plain);
        }
    }
    say("", "Screens:", Role::Title);
    for group in Group::ALL {
        for screen in in_group(group) {
            let keys = format!("{} {}", group.digit(), screen.letter);
            let text = format!("{}: {}", screen.name, screen.about);
            say(&keys, &text, Role::Plain);
        }
    }
    say(
        "",
        "Keys, and their names in the settings file:",
        Role::Title,
    );
    for binding in BINDINGS {
        let keys: Vec<String> = keymap
            .keys_of(binding.act)
            .iter()
            .map(ToString::to_string)
            .collect();
        let help = format!("{} ({})", binding.help, binding.name);
        say(&keys.join(" "), &help, Role::Plain);
    }
    lines
}

/// A text over lines of so many cells, broken at blanks; a longer word has a line of its own.
fn broken(text: &str, width: u16) -> Vec<String> {
    let text = clean::line(text);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("it begins with one");
        if !last.is_empty() && last.width() + 1 + word.width() > usize::from(width) {
            lines.push(word.to_owned());
            continue;
        }
        if !last.is_empty() {
            last.push(' ');
        }
        last.push_str(word);
    }
    lines
}
