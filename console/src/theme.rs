//! Looks: what a part of the picture means ([`Role`]) and how that looks in a terminal of given abilities ([`Theme`]).
//! Colour is never the only carrier: every role that matters has an attribute, a glyph or a word as well.

use ratatui::style::{Color, Modifier, Style};

/// What a piece of text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ordinary text.
    #[default]
    Plain,
    /// Less important, or old.
    Dim,
    /// Headings, names.
    Strong,
    /// Column titles, frames' titles.
    Title,
    /// Lines of frames and axes.
    Frame,
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Act on it.
    Bad,
    /// The row under the cursor.
    Cursor,
    /// A marked row.
    Mark,
    /// The bar at the top.
    Bar,
    /// The chosen one in a bar or menu.
    Chosen,
    /// A key to press.
    Key,
    /// A character that was replaced in untrusted text.
    Replaced,
    /// First series of a chart.
    First,
    /// Second series of a chart.
    Second,
    /// Behind the part of a chart in which a fault was in; says nothing where a terminal has few colours.
    Band,
    /// Shade of a heatmap, 1 to 4 of 4.
    Heat(u8),
}

/// Colours that the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// None, or none wanted (`NO_COLOR`).
    Mono,
    /// The 16 of the palette.
    Sixteen,
    /// The 256 of xterm.
    Many,
}

/// Characters that the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// Box lines, blocks, dots.
    Unicode,
    /// Seven bits.
    Ascii,
}

/// The looks in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Colours.
    pub(crate) depth: Depth,
    /// Characters.
    pub(crate) charset: Charset,
}

/// The part of the environment that decides the looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abilities {
    /// `TERM`
    pub(crate) term: String,
    /// `COLORTERM`
    pub(crate) colorterm: String,
    /// `LC_ALL`, else `LC_CTYPE`, else `LANG`.
    pub(crate) locale: String,
    /// `NO_COLOR` is set and not empty, or `--color never`.
    pub(crate) no_color: bool,
    /// `--ascii`, or the configuration.
    pub(crate) ascii: bool,
}

impl Theme {
    /// Decides by what the terminal says of itself.
    pub(crate) fn detect(abilities: &Abilities) -> Self {
        let term = abilities.term.as_str();
        let depth = if abilities.no_color || term == "dumb" {
            Depth::Mono
        } else if term.contains("256") || !abilities.colorterm.is_empty() || term.contains("kitty")
        {
            Depth::Many
        } else {
            Depth::Sixteen
        };
        let locale = abilities.locale.to_ascii_lowercase();
        let is_utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let charset = if abilities.ascii || !is_utf8 || matches!(term, "linux" | "dumb") {
            Charset::Ascii
        } else {
            Charset::Unicode
        };
        Self { depth, charset }
    }

    /// Whether only seven bits may be drawn.
    pub(crate) fn is_ascii(&self) -> bool {
        self.charset == Charset::Ascii
    }

    /// How a role looks.
    pub(crate) fn style(&self, role: Role) -> Style {
        let base = Style::default();
        let attributes = match role {
            Role::Plain | Role::Frame | Role::First | Role::Second | Role::Band => base,
            Role::Dim => base.add_modifier(Modifier::DIM),
            Role::Strong | Role::Title | Role::Key => base.add_modifier(Modifier::BOLD),
            Role::Good => base,
            Role::Warn => base.add_modifier(Modifier::BOLD),
            Role::Bad => base.add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Role::Cursor | Role::Bar | Role::Chosen => base.add_modifier(Modifier::REVERSED),
            Role::Mark => base.add_modifier(Modifier::BOLD),
            Role::Replaced => base.add_modifier(Modifier::UNDERLINED),
            Role::Heat(shade) if shade <= 1 => base.add_modifier(Modifier::DIM),
            Role::Heat(shade) if shade >= 4 => base.add_modifier(Modifier::BOLD),
            Role::Heat(_) => base,
        };
        match self.depth {
            Depth::Mono => attributes,
            Depth::Sixteen => Self::sixteen(role, attributes),
            Depth::Many => Self::many(role, attributes),
        }
    }

    fn sixteen(role: Role, style: Style) -> Style {
        match role {
            Role::Good => style.fg(Color::Green),
            Role::Warn => style.fg(Color::Yellow),
            Role::Bad => style.fg(Color::Red),
            Role::Title | Role::Key | Role::First => style.fg(Color::Cyan),
            Role::Mark | Role::Second => style.fg(Color::Magenta),
            Role::Replaced => style.fg(Color::Magenta),
            Role::Heat(_) => style.fg(Color::Cyan),
            Role::Plain
            | Role::Dim
            | Role::Strong
            | Role::Frame
            | Role::Cursor
            | Role::Bar
            | Role::Band
            | Role::Chosen => style,
        }
    }

    // Blue against orange: told apart by colour-blind eyes, unlike green against red. The heat ramp has one hue whose
    // lightness grows (after viridis, van der Walt and Smith 2015).
    fn many(role: Role, style: Style) -> Style {
        let plain = Style::default();
        match role {
            Role::Good => style.fg(Color::Indexed(79)),
            Role::Warn => style.fg(Color::Indexed(214)),
            Role::Bad => plain
                .fg(Color::Indexed(231))
                .bg(Color::Indexed(160))
                .add_modifier(Modifier::BOLD),
            Role::Title | Role::Key => style.fg(Color::Indexed(75)),
            Role::First => style.fg(Color::Indexed(75)),
            Role::Second => style.fg(Color::Indexed(214)),
            Role::Mark => style.fg(Color::Indexed(213)),
            Role::Replaced => style.fg(Color::Indexed(213)),
            Role::Frame => style.fg(Color::Indexed(240)),
            Role::Dim => plain.fg(Color::Indexed(245)),
            Role::Bar => plain.bg(Color::Indexed(236)).fg(Color::Indexed(252)),
            Role::Chosen => plain
                .bg(Color::Indexed(75))
                .fg(Color::Indexed(16))
                .add_modifier(Modifier::BOLD),
            Role::Cursor => plain.bg(Color::Indexed(238)).add_modifier(Modifier::BOLD),
            Role::Heat(shade) => plain.fg(Color::Indexed(match shade {
                0 | 1 => 24,
                2 => 31,
                3 => 79,
                _ => 228,
            })),
            Role::Band => plain.bg(Color::Indexed(52)),
            Role::Plain | Role::Strong => style,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(term: &str, locale: &str) -> Theme {
        Theme::detect(&Abilities {
            term: term.to_owned(),
            locale: locale.to_owned(),
            ..Abilities::default()
        })
    }

    #[test]
    fn the_looks_follow_what_the_terminal_says() {
        let table = [
            ("xterm-256color", "C.UTF-8", Depth::Many, Charset::Unicode),
            ("xterm", "en_GB.utf8", Depth::Sixteen, Charset::Unicode),
            ("linux", "C.UTF-8", Depth::Sixteen, Charset::Ascii),
            ("dumb", "C.UTF-8", Depth::Mono, Charset::Ascii),
            ("xterm-256color", "C", Depth::Many, Charset::Ascii),
            ("", "", Depth::Sixteen, Charset::Ascii),
        ];
        for (term, locale, depth, charset) in table {
            assert_eq!(
                theme(term, locale),
                Theme { depth, charset },
                "{term} {locale}"
            );
        }
    }

    #[test]
    fn without_colour_nothing_has_a_colour_and_the_cursor_is_still_seen() {
        let theme = Theme::detect(&Abilities {
            no_color: true,
            term: "xterm-256color".to_owned(),
            ..Abilities::default()
        });
        for role in [
            Role::Bad,
            Role::Cursor,
            Role::Chosen,
            Role::Bar,
            Role::Heat(3),
            Role::Good,
        ] {
            let style = theme.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
        }
        assert!(
            theme
                .style(Role::Cursor)
                .add_modifier
                .contains(Modifier::REVERSED)
        );
        assert!(
            theme
                .style(Role::Bad)
                .add_modifier
                .contains(Modifier::REVERSED)
        );
    }
}
