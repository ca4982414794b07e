//! What `INFO` says, as names and values. It comes from a process that we do not control, so it is bounded, and whatever
//! is shown of it is cleaned.

use std::collections::HashMap;

use crate::logging::clean;

/// Longest value kept; the longest that we use is a run id of 40 characters.
const VALUE_CHARS_MAX: usize = 200;

/// Names kept; Redis 7 says about 200.
const NAMES_MAX: usize = 2_000;

/// One answer to `INFO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    /// Reads `name:value` lines; what is no such line is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines
            .filter_map(|line| line.split_once(':'))
            .take(NAMES_MAX);
        Self(
            pairs
                .map(|(name, value)| {
                    (
                        name.to_owned(),
                        value.chars().take(VALUE_CHARS_MAX).collect(),
                    )
                })
                .collect(),
        )
    }

    /// The value, cleaned; empty when it was not said.
    pub(super) fn text(&self, name: &str) -> String {
        clean(self.0.get(name).map_or("", |value| value.trim_end()))
    }

    /// The value as a whole number; `None` when it was not said or is none.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.trim().parse().ok()
    }

    /// Whether it was said.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// While the server loads its data: how far it is, for a person. `None` when it is ready.
    pub(super) fn loading(&self) -> Option<String> {
        if self.number("loading") != Some(1) {
            return None;
        }
        let share = self.text("loading_loaded_perc");
        let left = self.text("loading_eta_seconds");
        match (share.is_empty(), left.is_empty()) {
            (false, false) => Some(format!("{share} % read, about {left} s left")),
            (false, true) => Some(format!("{share} % read")),
            (true, _) => Some("just begun".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_cleaned() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:ab\x1b]c\r\nused_memory:12\r\nnonsense\r\n",
        );
        assert_eq!(info.text("redis_version"), "7.0.15");
        assert_eq!(info.text("run_id"), "ab\\x1b]c");
        assert_eq!(info.number("used_memory"), Some(12));
        assert_eq!(info.number("redis_version"), None);
        assert_eq!(info.text("absent"), "");
        assert_eq!(info.loading(), None);
    }

    #[test]
    fn a_flood_is_bounded() {
        let text = (0..100_000)
            .map(|n| format!("k{n}:{}\n", "v".repeat(300)))
            .collect::<String>();
        let info = Info::parse(&text);
        assert_eq!(info.0.len(), NAMES_MAX);
        assert_eq!(info.text("k1").len(), VALUE_CHARS_MAX);
    }

    #[test]
    fn loading_says_how_far() {
        let info = Info::parse("loading:1\nloading_loaded_perc:43.10\nloading_eta_seconds:7\n");
        assert_eq!(
            info.loading().as_deref(),
            Some("43.10 % read, about 7 s left")
        );
    }
}
