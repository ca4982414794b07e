//! A line of text that is being typed. What is typed is the operator's, what is pasted may be anybody's: only printable
//! characters get in, and no more than a line needs.

use crate::keys::Key;
use crate::message::PASTE_MAX;

/// Text and cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TextField {
    text: String,
    /// Byte offset, on a boundary.
    at: usize,
}

impl TextField {
    /// With the cursor behind the text.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            at: text.len(),
        }
    }

    /// What stands in it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What stands before the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        &self.text[..self.at]
    }

    /// Takes an editing key; `false` when it is none.
    pub(crate) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => self.insert(c),
            Key::Backspace | Key::Ctrl('h') => {
                if let Some(c) = self.before_cursor().chars().next_back() {
                    self.at -= c.len_utf8();
                    self.text.remove(self.at);
                }
            }
            Key::Delete => {
                if self.at < self.text.len() {
                    self.text.remove(self.at);
                }
            }
            Key::Left => {
                if let Some(c) = self.before_cursor().chars().next_back() {
                    self.at -= c.len_utf8();
                }
            }
            Key::Right => {
                if let Some(c) = self.text[self.at..].chars().next() {
                    self.at += c.len_utf8();
                }
            }
            Key::Home | Key::Ctrl('a') => self.at = 0,
            Key::End | Key::Ctrl('e') => self.at = self.text.len(),
            Key::Ctrl('u') => {
                self.text.drain(..self.at);
                self.at = 0;
            }
            Key::Ctrl('w') => {
                let before = self.before_cursor().trim_end();
                let start = before.rfind(char::is_whitespace).map_or(0, |space| {
                    space + before[space..].chars().next().map_or(1, char::len_utf8)
                });
                self.text.drain(start..self.at);
                self.at = start;
            }
            _ => return false,
        }
        true
    }

    /// Puts pasted text in, as far as it fits.
    pub(crate) fn paste(&mut self, text: &str) {
        for c in text.chars() {
            self.insert(c);
        }
    }

    fn insert(&mut self, c: char) {
        if c.is_control() || self.text.len() + c.len_utf8() > PASTE_MAX {
            return;
        }
        self.text.insert(self.at, c);
        self.at += c.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_the_line() {
        let mut field = TextField::new("idle>60s tries");
        for key in [
            Key::Ctrl('w'),
            Key::Char('ä'),
            Key::Left,
            Key::Char('x'),
            Key::End,
            Key::Backspace,
        ] {
            assert!(field.press(key));
        }
        assert_eq!(field.text(), "idle>60s x");
        assert!(!field.press(Key::Enter) && !field.press(Key::Esc) && !field.press(Key::Tab));
        field.press(Key::Ctrl('u'));
        assert_eq!((field.text(), field.before_cursor()), ("", ""));
        for key in [
            Key::Backspace,
            Key::Delete,
            Key::Left,
            Key::Right,
            Key::Ctrl('w'),
        ] {
            field.press(key);
        }
        assert_eq!(field.text(), "");
    }

    #[test]
    fn a_paste_brings_no_control_characters_and_no_megabytes() {
        let mut field = TextField::default();
        field.paste(&"a\x1b[2Jb\n".repeat(1_000_000));
        assert!(field.text().len() <= PASTE_MAX);
        assert!(field.text().starts_with("a[2Jba[2Jb"));
    }
}
