//! Numbers as fields and literals write them. Not for money: `value_scale` of the configuration is.

use std::cmp::Ordering;

/// A finite number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// Digits with an optional sign, at most what 128 bits hold.
    Integer(i128),
    /// Everything else; finite.
    Float(f64),
}

impl Number {
    /// Reads `[+-] digits [. digits] [e [+-] digits]` with at least one digit before the exponent, and nothing around
    /// it; so neither `inf`, `nan`, `0x10` nor ` 1` is a number.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let is_possible =
            |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        if text.len() > MOST_BYTES || !text.iter().all(is_possible) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(integer) = text.parse::<i128>() {
            return Some(Self::Integer(integer));
        }
        let float = text.parse::<f64>().ok()?;
        float.is_finite().then_some(Self::Float(float))
    }

    /// Orders by value. Two integers compare exactly, any other pair as 64-bit floats.
    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(&right),
            (left, right) => left
                .as_float()
                .partial_cmp(&right.as_float())
                .expect("finite floats have an order"),
        }
    }

    fn as_float(self) -> f64 {
        match self {
            // Loses digits past 2^53, which the module's documentation says.
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

/// Longer texts are no numbers that anybody wrote; it bounds the cost of looking at a field of a megabyte. Arbitrary.
const MOST_BYTES: usize = 400;
