//! Bytes of a terminal as keys. Never waits for the end of what does not end: whoever reads says when enough time has
//! passed ([`Decoder::rest`]), and any control character ends a sequence, so that Ctrl-C is one at every moment.
//!
//! crossterm's own reader is not used because a sequence without an end, pasted or sent by a broken terminal, holds its
//! parser until the right letter comes (crossterm#1060 and its like), and because it spins when the terminal is gone.

use crate::keys::Key;

/// Bytes of parameters that a sequence we know may have; longer ones are read to their end and thrown away.
const PARAMS_MAX: usize = 32;

/// What has been read of a key that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After `ESC [`, with the parameters so far.
    Control(Vec<u8>),
    /// After `ESC [ [`: the function keys of the Linux console.
    LinuxFunction,
    /// After `ESC O`.
    Single,
    /// Inside a character of several bytes: those read, and how many it has.
    Char(Vec<u8>, usize),
}

/// Turns bytes into keys.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
}

impl Decoder {
    /// Whether the last byte ended a key.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Ground
    }

    /// Takes a byte; `tell` gets the keys that it ends.
    pub(super) fn take(&mut self, byte: u8, tell: &mut impl FnMut(Key)) {
        match std::mem::take(&mut self.state) {
            State::Ground => self.begin(byte, tell),
            State::Escape => match byte {
                b'[' => self.state = State::Control(Vec::new()),
                b'O' => self.state = State::Single,
                // Esc twice, or Esc and a key so close that the line carried them together. Alt and a key look the same;
                // nothing here is bound to it.
                _ => {
                    tell(Key::Esc);
                    self.begin(byte, tell);
                }
            },
            State::Control(mut params) => match byte {
                0x20..=0x3f => {
                    if params.len() <= PARAMS_MAX {
                        params.push(byte);
                    }
                    self.state = State::Control(params);
                }
                b'[' if params.is_empty() => self.state = State::LinuxFunction,
                0x40..=0x7e => {
                    if let Some(key) = control(&params, byte) {
                        tell(key);
                    }
                }
                // Not a part of any sequence: what came before is thrown away.
                _ => self.begin(byte, tell),
            },
            State::LinuxFunction => {
                if byte.is_ascii_control() {
                    self.begin(byte, tell);
                }
            }
            State::Single => match byte {
                b'M' => tell(Key::Enter),
                0x20..=0x7e => {
                    if let Some(key) = control(&[], byte) {
                        tell(key);
                    }
                }
                _ => self.begin(byte, tell),
            },
            State::Char(mut bytes, n) => {
                if byte & 0b1100_0000 != 0b1000_0000 {
                    return self.begin(byte, tell);
                }
                bytes.push(byte);
                if bytes.len() < n {
                    self.state = State::Char(bytes, n);
                } else if let Ok(text) = std::str::from_utf8(&bytes) {
                    text.chars()
                        .filter(|c| !c.is_control())
                        .for_each(|c| tell(Key::Char(c)));
                }
            }
        }
    }

    fn begin(&mut self, byte: u8, tell: &mut impl FnMut(Key)) {
        let key = match byte {
            0x1b => {
                self.state = State::Escape;
                return;
            }
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x7f | 0x08 => Key::Backspace,
            0x00 => Key::Ctrl(' '),
            0x01..=0x1a => Key::Ctrl(char::from(byte - 1 + b'a')),
            0x1c..=0x1f => Key::Ctrl(char::from(byte - 0x1c + b'\\')),
            0x20..=0x7e => Key::Char(char::from(byte)),
            0xc2..=0xdf => return self.state = State::Char(vec![byte], 2),
            0xe0..=0xef => return self.state = State::Char(vec![byte], 3),
            0xf0..=0xf4 => return self.state = State::Char(vec![byte], 4),
            // No beginning of any character.
            0x80..=0xc1 | 0xf5..=0xff => return,
        };
        tell(key);
    }

    /// Nothing more came for a while: what is begun is what it is.
    pub(super) fn rest(&mut self, tell: &mut impl FnMut(Key)) {
        match std::mem::take(&mut self.state) {
            State::Escape => tell(Key::Esc),
            State::Control(params) if params.is_empty() => {
                tell(Key::Esc);
                tell(Key::Char('['));
            }
            State::Single => {
                tell(Key::Esc);
                tell(Key::Char('O'));
            }
            State::Ground | State::Control(_) | State::LinuxFunction | State::Char(..) => {}
        }
    }
}

/// The key of a sequence, as xterm, the Linux console, rxvt, screen and tmux send them; shift, alt and control with such a
/// key make no difference.
fn control(params: &[u8], last: u8) -> Option<Key> {
    // Private ones are answers and reports that nobody asked for.
    if params.len() > PARAMS_MAX || !params.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';')) {
        return None;
    }
    let first = params.split(|byte| *byte == b';').next().unwrap_or(params);
    Some(match (last, first) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'Z', _) => Key::BackTab,
        (b'~', b"3") => Key::Delete,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        let mut keys = Vec::new();
        for byte in bytes {
            decoder.take(*byte, &mut |key| keys.push(key));
        }
        decoder.rest(&mut |key| keys.push(key));
        assert!(decoder.is_whole());
        keys
    }

    #[test]
    fn bytes_are_the_keys_that_people_press() {
        use Key::{
            BackTab, Backspace, Char, Ctrl, Delete, Down, End, Enter, Esc, Home, Left, PageDown,
            PageUp, Right, Tab, Up,
        };
        let table: &[(&str, &[u8], &[Key])] = &[
            ("letters", b"aG:", &[Char('a'), Char('G'), Char(':')]),
            (
                "umlaut and emoji",
                "ä😀".as_bytes(),
                &[Char('ä'), Char('😀')],
            ),
            (
                "named",
                b"\r\n\t\x7f\x08",
                &[Enter, Enter, Tab, Backspace, Backspace],
            ),
            (
                "control",
                b"\x03\x04\x0c\x1c",
                &[Ctrl('c'), Ctrl('d'), Ctrl('l'), Ctrl('\\')],
            ),
            ("escape alone", b"\x1b", &[Esc]),
            ("escape twice", b"\x1b\x1b", &[Esc, Esc]),
            ("escape and a letter at once", b"\x1bx", &[Esc, Char('x')]),
            (
                "arrows",
                b"\x1b[A\x1b[B\x1bOC\x1bOD",
                &[Up, Down, Right, Left],
            ),
            (
                "arrows with shift or control",
                b"\x1b[1;2A\x1b[1;5D",
                &[Up, Left],
            ),
            (
                "home and end of four terminals",
                b"\x1b[H\x1b[1~\x1b[7~\x1bOH\x1b[F\x1b[4~",
                &[Home, Home, Home, Home, End, End],
            ),
            (
                "pages",
                b"\x1b[5~\x1b[6~\x1b[3~",
                &[PageUp, PageDown, Delete],
            ),
            ("back tab", b"\x1b[Z", &[BackTab]),
            ("keypad enter", b"\x1bOM", &[Enter]),
            ("function keys do nothing", b"\x1bOP\x1b[15~\x1b[[A", &[]),
            (
                "answers nobody asked for do nothing",
                b"\x1b[?62;22c\x1b[<0;3;4M\x1b[>1;2c",
                &[],
            ),
            ("a position report does nothing", b"\x1b[12;40R", &[]),
            ("control-c inside a sequence", b"\x1b[?12\x03", &[Ctrl('c')]),
            (
                "a key after a sequence without an end",
                b"\x1b[<0;3\x1b[A",
                &[Up],
            ),
            (
                "broken utf-8",
                b"\xff\xc3x\xe2\x82y",
                &[Char('x'), Char('y')],
            ),
            (
                "c1 as utf-8",
                "\u{9b}2J".as_bytes(),
                &[Char('2'), Char('J')],
            ),
        ];
        for (desc, bytes, want) in table {
            assert_eq!(keys(bytes), *want, "{desc}");
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 5_000], b"A"].concat();
        assert_eq!(
            keys(&long),
            [],
            "too long to be a key, and no digits either"
        );
    }

    #[test]
    fn a_sequence_without_an_end_is_over_when_time_has_passed() {
        for begun in [
            &b"\x1b[?12"[..],
            b"\x1b[<",
            b"\x1b[200",
            b"\x1b[[",
            b"\xe2\x82",
        ] {
            let mut decoder = Decoder::default();
            for byte in begun {
                decoder.take(*byte, &mut |key| panic!("{begun:?}: {key}"));
            }
            decoder.rest(&mut |key| panic!("{begun:?}: {key}"));
            let mut after = Vec::new();
            decoder.take(b'q', &mut |key| after.push(key));
            assert_eq!(after, [Key::Char('q')], "{begun:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_control_c_is_heard_and_memory_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            let mut n = 0;
            for byte in &bytes {
                decoder.take(*byte, &mut |_| n += 1);
            }
            prop_assert!(n <= 2 * bytes.len());
            let mut last = None;
            decoder.take(0x03, &mut |key| last = Some(key));
            prop_assert_eq!(last, Some(Key::Ctrl('c')));
            prop_assert!(decoder.is_whole());
        }
    }
}
