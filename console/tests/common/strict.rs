//! A terminal that knows the few sequences the console may write, and remembers every other one.
//!
//! Shared by the tests of both packages (`#[path]`), so that what a session wrote is judged by one rule.

use unicode_width::UnicodeWidthChar as _;
use vte::{Params, Parser, Perform};

/// What was written, as a picture and as faults.
pub struct Strict {
    parser: Parser,
    screen: Screen,
    /// The beginning of a character whose rest has not come.
    partial: Vec<u8>,
}

/// The picture.
struct Screen {
    cells: Vec<Vec<String>>,
    at: (usize, usize),
    is_alternate: bool,
    is_cursor_shown: bool,
    copies: Vec<String>,
    colours: Vec<Vec<u16>>,
    faults: Vec<String>,
    n_bytes: u64,
}

impl Strict {
    pub fn new(columns: u16, rows: u16) -> Self {
        Self {
            parser: Parser::new(),
            screen: Screen {
                cells: blank(columns, rows),
                at: (0, 0),
                is_alternate: false,
                is_cursor_shown: true,
                copies: Vec::new(),
                colours: Vec::new(),
                faults: Vec::new(),
                n_bytes: 0,
            },
            partial: Vec::new(),
        }
    }

    /// Takes what was written.
    pub fn take(&mut self, bytes: &[u8]) {
        self.screen.n_bytes += bytes.len() as u64;
        self.partial.extend_from_slice(bytes);
        match std::str::from_utf8(&self.partial) {
            Ok(_) => self.partial.clear(),
            // Only its last character is not whole.
            Err(error) if error.error_len().is_none() => {
                self.partial.drain(..error.valid_up_to());
            }
            Err(_) => {
                self.screen
                    .fault(format!("bytes that are no UTF-8 in {bytes:?}"));
                self.partial.clear();
            }
        }
        self.parser.advance(&mut self.screen, bytes);
    }

    /// The picture is lost, as terminals may do when they change their size; what is drawn next is drawn whole.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.screen.cells = blank(columns, rows);
        self.screen.at = (0, 0);
    }

    /// The picture as lines.
    pub fn text(&self) -> String {
        let lines: Vec<String> = self.screen.cells.iter().map(|row| row.concat()).collect();
        lines.join("\n")
    }

    /// Whether the other screen is shown.
    pub fn is_alternate(&self) -> bool {
        self.screen.is_alternate
    }

    /// Whether the cursor is shown.
    pub fn is_cursor_shown(&self) -> bool {
        self.screen.is_cursor_shown
    }

    /// What was put on the clipboard, still encoded.
    pub fn copies(&self) -> &[String] {
        &self.screen.copies
    }

    /// Colours that were set, as the parameters of the sequences that did; going back to the terminal's own is none.
    pub fn colours(&self) -> &[Vec<u16>] {
        &self.screen.colours
    }

    /// Everything that the console has no business to write.
    pub fn faults(&self) -> &[String] {
        &self.screen.faults
    }

    /// Bytes so far.
    pub fn n_bytes(&self) -> u64 {
        self.screen.n_bytes
    }
}

fn blank(columns: u16, rows: u16) -> Vec<Vec<String>> {
    vec![vec![" ".to_owned(); usize::from(columns)]; usize::from(rows)]
}

/// Characters that show nothing, or move others.
fn is_hidden(c: char) -> bool {
    matches!(
        u32::from(c),
        0x200b..=0x200c | 0x200e..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe0000..=0xe007f | 0xe000..=0xf8ff
    )
}

impl Screen {
    fn fault(&mut self, what: String) {
        if self.faults.len() < 20 {
            self.faults.push(what);
        }
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        if c.is_control() || is_hidden(c) {
            self.fault(format!("printed {c:?}"));
        }
        let (x, y) = self.at;
        let width = c.width().unwrap_or(0);
        let Some(row) = self.cells.get_mut(y) else {
            return;
        };
        if width == 0 {
            if let Some(cell) = x.checked_sub(1).and_then(|x| row.get_mut(x)) {
                cell.push(c);
            }
            return;
        }
        if x + width > row.len() {
            return;
        }
        row[x] = c.to_string();
        for covered in &mut row[x + 1..x + width] {
            covered.clear();
        }
        self.at.0 += width;
    }

    fn execute(&mut self, byte: u8) {
        // Before and after the console the ordinary screen is written to by others.
        if self.is_alternate {
            self.fault(format!("control character {byte:#04x}"));
        }
    }

    fn csi_dispatch(
        &mut self,
        params: &Params,
        intermediates: &[u8],
        is_ignored: bool,
        action: char,
    ) {
        let numbers: Vec<Vec<u16>> = params.iter().map(<[u16]>::to_vec).collect();
        let first = numbers.first().and_then(|param| param.first()).copied();
        let second = numbers.get(1).and_then(|param| param.first()).copied();
        match (intermediates, action) {
            _ if is_ignored => self.fault(format!("overlong CSI {numbers:?} {action:?}")),
            (b"", 'H') => {
                let at = |n: Option<u16>| usize::from(n.unwrap_or(1).max(1)) - 1;
                self.at = (at(second), at(first));
            }
            (b"", 'm') => {
                let flat: Vec<u16> = numbers.concat();
                let is_colour = |n: &u16| matches!(n, 30..=38 | 40..=48 | 58 | 90..=97 | 100..=107);
                if flat.first().is_some_and(is_colour) && !self.colours.contains(&flat) {
                    self.colours.push(flat);
                }
            }
            (b"", 'J') if first == Some(2) => {
                for row in &mut self.cells {
                    row.fill(" ".to_owned());
                }
            }
            (b"?", 'h' | 'l') if numbers == [[1049]] => self.is_alternate = action == 'h',
            (b"?", 'h' | 'l') if numbers == [[25]] => self.is_cursor_shown = action == 'h',
            _ => self.fault(format!("CSI {intermediates:?} {numbers:?} {action:?}")),
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], is_bell_terminated: bool) {
        match params {
            [b"52", b"c", text] if is_bell_terminated => {
                self.copies.push(String::from_utf8_lossy(text).into_owned());
            }
            _ => self.fault(format!("OSC {params:?}")),
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        self.fault(format!("ESC {intermediates:?} {byte:#04x}"));
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        self.fault(format!("DCS {action:?}"));
    }
}
