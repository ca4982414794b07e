//! A way out that ends after some bytes, for a file that nobody rotates: it says where the log goes on, and is silent.

use std::io::{self, Write};

/// Passes lines on until they would be more than the limit.
#[derive(Debug)]
pub(super) struct Capped<W> {
    inner: W,
    // None once the last word was said.
    left: Option<usize>,
    is_json: bool,
}

impl<W> Capped<W> {
    /// At most `bytes_max` of log lines, and one line that says that there will be no more.
    pub(super) fn new(inner: W, bytes_max: usize, is_json: bool) -> Self {
        Self {
            inner,
            left: Some(bytes_max),
            is_json,
        }
    }
}

impl<W: Write> Write for Capped<W> {
    /// Each write is a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left else {
            return Ok(line.len());
        };
        self.left = left.checked_sub(line.len());
        if self.left.is_some() {
            self.inner.write_all(line)?;
        } else {
            let text = "this file ends here; the log goes on in pipelined.<date>.log beside it";
            if self.is_json {
                writeln!(self.inner, "{{\"message\":\"{text}\"}}")?;
            } else {
                writeln!(self.inner, "{text}")?;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_a_word_and_whole_lines() {
        for is_json in [false, true] {
            let mut out = Vec::new();
            let mut capped = Capped::new(&mut out, 9, is_json);
            for line in ["1234\n", "abc\n", "too much\n", "x\n"] {
                capped.write_all(line.as_bytes()).unwrap();
            }
            let text = String::from_utf8(out).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[..2], ["1234", "abc"]);
            assert!(lines.len() == 3 && lines[2].contains("goes on"), "{text}");
            if is_json {
                serde_json::from_str::<serde_json::Value>(lines[2]).unwrap();
            }
        }
    }
}
