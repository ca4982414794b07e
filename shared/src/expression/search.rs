//! Finding a text in bytes in linear time: Knuth, Morris and Pratt, "Fast pattern matching in strings", SIAM Journal on
//! Computing 6(2), 1977. The plain nested loop is quadratic, and a field of a megabyte may come from a hostile hand.

/// A text to look for, with its table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Needle {
    text: String,
    /// For each length of a matched prefix: the length of its longest proper border. As long as the text.
    borders: Vec<u16>,
}

impl Needle {
    /// `text` comes from an expression's source and is therefore shorter than 64 KiB.
    pub(super) fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut borders = vec![0_u16; bytes.len()];
        let mut n_matched = 0;
        for idx in 1..bytes.len() {
            while n_matched > 0 && bytes[idx] != bytes[n_matched] {
                n_matched = usize::from(borders[n_matched - 1]);
            }
            if bytes[idx] == bytes[n_matched] {
                n_matched += 1;
            }
            borders[idx] = u16::try_from(n_matched).expect("a source is at most 4 KiB");
        }
        Self { text, borders }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_in(&self, haystack: &[u8]) -> bool {
        let bytes = self.text.as_bytes();
        if bytes.is_empty() {
            return true;
        }
        let mut n_matched = 0;
        for byte in haystack {
            while n_matched > 0 && *byte != bytes[n_matched] {
                n_matched = usize::from(self.borders[n_matched - 1]);
            }
            if *byte == bytes[n_matched] {
                n_matched += 1;
            }
            if n_matched == bytes.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_the_plain_search_finds(needle in "[ab]{0,6}", haystack in "[ab]{0,60}") {
            prop_assert_eq!(Needle::new(needle.clone()).is_in(haystack.as_bytes()), haystack.contains(&needle));
        }
    }
}
