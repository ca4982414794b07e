//! Decimal text to scaled integers, exactly: no float is on the way, so `0.29` at two places is 29 and stays 29.
//!
//! Grammar: `[+-] digits [. digits] [e [+-] digits]`, with a digit on at least one side of the point, ASCII only and no
//! blanks. It covers every JSON number. Called by the aggregate (money) and by validate (is it a number at all).

/// Greatest absolute value that [`scaled`] returns: 10^15.
///
/// Far below `i64::MAX` on purpose. Values are summed in a 64-bit counter of the store, and a sum that would overflow
/// stops the whole stage; with this bound that takes at least 9,223 absurd entries instead of two. At two decimal places
/// it is ten trillion, above any amount that a real event carries.
pub const SCALED_MAX: i64 = 1_000_000_000_000_000;

/// Why a text is no scaled integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// It does not follow the grammar.
    #[error("is no number")]
    NotANumber,
    /// Its absolute value is above [`SCALED_MAX`] once scaled.
    #[error("is out of range")]
    OutOfRange,
}

/// `text` times 10^`scale`, rounded half away from zero: `scaled(b"23.45", 2)` is 2345, `scaled(b"-0.125", 2)` is -13.
pub fn scaled(text: &[u8], scale: u32) -> Result<i64, DecimalError> {
    let number = Number::parse(text).ok_or(DecimalError::NotANumber)?;
    // Digits kept, counted from the first: those before the point, moved by the exponent and by the scale.
    let n_before = i64::try_from(number.before.len()).map_err(|_| DecimalError::OutOfRange)?;
    let n_kept = n_before + number.exponent + i64::from(scale);
    if n_kept < 0 {
        return Ok(0);
    }
    let mut sum: i64 = 0;
    let mut n_taken: i64 = 0;
    let mut digits = number
        .before
        .iter()
        .chain(number.after)
        .map(|digit| i64::from(digit - b'0'));
    while n_taken < n_kept {
        let Some(digit) = digits.next() else { break };
        sum = sum * 10 + digit;
        n_taken += 1;
        if sum > SCALED_MAX {
            return Err(DecimalError::OutOfRange);
        }
    }
    // The text ended before the point did (`5`, `5e3`): zeros follow, and 0 stays 0 however many there are.
    while n_taken < n_kept && sum != 0 {
        sum *= 10;
        n_taken += 1;
        if sum > SCALED_MAX {
            return Err(DecimalError::OutOfRange);
        }
    }
    // The first dropped digit alone decides a half away from zero.
    if digits.next().is_some_and(|digit| digit >= 5) {
        sum += 1;
    }
    if sum > SCALED_MAX {
        return Err(DecimalError::OutOfRange);
    }
    Ok(if number.negative { -sum } else { sum })
}

/// Whether the text is a number by the grammar above and small enough for a finite `f64`.
pub fn is_number(text: &[u8]) -> bool {
    let finite = || {
        let text = std::str::from_utf8(text).ok()?;
        Some(text.parse::<f64>().ok()?.is_finite())
    };
    Number::parse(text).is_some() && finite() == Some(true)
}

/// Whether the text is a whole number that fits 64 bits: `[+-] digits`.
pub fn is_integer(text: &[u8]) -> bool {
    let (_, digits) = split_sign(text);
    // `i64::from_str` takes the same grammar; the digits are looked at first because it would read other bytes as text.
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// A number taken apart, not valued yet.
struct Number<'a> {
    negative: bool,
    before: &'a [u8],
    after: &'a [u8],
    exponent: i64,
}

impl<'a> Number<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = split_sign(text);
        let (before, rest) = split_digits(rest);
        let (after, rest) = match rest.split_first() {
            Some((b'.', rest)) => split_digits(rest),
            _ => (&rest[..0], rest),
        };
        if before.is_empty() && after.is_empty() {
            return None;
        }
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', rest)) => exponent(rest)?,
            Some(_) => return None,
        };
        Some(Self {
            negative,
            before,
            after,
            exponent,
        })
    }
}

/// Beyond a million every exponent means "out of range" or "zero" alike; clamping keeps the sums small.
const EXPONENT_MAX: i64 = 1_000_000;

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    let (digits, rest) = split_digits(digits);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| {
        (value * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX)
    });
    Some(if negative { -value } else { value })
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let n_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(n_digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_become_scaled_integers_exactly() {
        use DecimalError::{NotANumber, OutOfRange};
        let table: &[(&str, &str, u32, Result<i64, DecimalError>)] = &[
            ("two places", "23.45", 2, Ok(2345)),
            ("a float would make 28", "0.29", 2, Ok(29)),
            ("a float would make 100", "1.005", 2, Ok(101)),
            ("no fraction", "7", 2, Ok(700)),
            ("one place", "7.5", 2, Ok(750)),
            ("scale 0 rounds up at half", "2.5", 0, Ok(3)),
            ("half away from zero, negative", "-2.5", 0, Ok(-3)),
            ("below half", "2.49999", 0, Ok(2)),
            ("more decimals than kept", "0.125", 2, Ok(13)),
            ("rounds into the next digit", "9.999", 2, Ok(1000)),
            ("less than a unit", "0.004", 2, Ok(0)),
            ("half a unit", "0.005", 2, Ok(1)),
            ("leading zeros", "0000000000000000000000001.50", 2, Ok(150)),
            ("plus", "+1.5", 2, Ok(150)),
            ("point first", ".5", 2, Ok(50)),
            ("point last", "5.", 2, Ok(500)),
            ("minus zero", "-0", 2, Ok(0)),
            ("exponent", "1.5e3", 2, Ok(150_000)),
            ("negative exponent", "150e-2", 2, Ok(150)),
            ("capital exponent", "1E+2", 0, Ok(100)),
            (
                "zero with an absurd exponent",
                "0e999999999999999999999",
                2,
                Ok(0),
            ),
            ("vanishing", "9e-999999999999999999999", 2, Ok(0)),
            ("greatest", "10000000000000.00", 2, Ok(SCALED_MAX)),
            (
                "above the greatest",
                "10000000000000.01",
                2,
                Err(OutOfRange),
            ),
            (
                "rounded above the greatest",
                "10000000000000.005",
                2,
                Err(OutOfRange),
            ),
            (
                "beyond 64 bits",
                "99999999999999999999999999",
                2,
                Err(OutOfRange),
            ),
            (
                "absurd exponent",
                "1e999999999999999999999",
                0,
                Err(OutOfRange),
            ),
            ("empty", "", 2, Err(NotANumber)),
            ("sign only", "-", 2, Err(NotANumber)),
            ("point only", ".", 2, Err(NotANumber)),
            ("two points", "1.2.3", 2, Err(NotANumber)),
            ("two signs", "--1", 2, Err(NotANumber)),
            ("blank before", " 1", 2, Err(NotANumber)),
            ("blank after", "1 ", 2, Err(NotANumber)),
            ("newline after", "1\n", 2, Err(NotANumber)),
            ("comma", "1,5", 2, Err(NotANumber)),
            ("exponent without digits", "1e", 2, Err(NotANumber)),
            ("hexadecimal", "0x10", 2, Err(NotANumber)),
            ("infinity", "inf", 2, Err(NotANumber)),
            ("not a number", "NaN", 2, Err(NotANumber)),
            ("arabic digits", "\u{661}", 2, Err(NotANumber)),
        ];
        for (desc, text, scale, want) in table {
            assert_eq!(scaled(text.as_bytes(), *scale), *want, "{desc}: {text}");
        }
        assert_eq!(scaled(b"\xff\xfe", 2), Err(NotANumber), "no UTF-8");
    }

    #[test]
    fn a_megabyte_of_digits_is_refused_and_not_summed() {
        let text = vec![b'9'; 1 << 20];
        assert_eq!(scaled(&text, 2), Err(DecimalError::OutOfRange));
        assert!(!is_integer(&text));
        assert!(!is_number(&text), "it is no finite f64");
        assert_eq!(scaled(&vec![b'0'; 1 << 20], 2), Ok(0));
    }

    #[test]
    fn numbers_and_integers_are_told_apart() {
        let table: &[(&str, bool, bool)] = &[
            ("0", true, true),
            ("-17", true, true),
            ("+17", true, true),
            ("1640995200000", true, true),
            ("9223372036854775807", true, true),
            ("9223372036854775808", false, true),
            ("1.0", false, true),
            ("1e3", false, true),
            ("1e999", false, false),
            ("inf", false, false),
            ("nan", false, false),
            ("", false, false),
            ("-", false, false),
            ("1_000", false, false),
            (" 1", false, false),
        ];
        for (text, integer, number) in table {
            assert_eq!(is_integer(text.as_bytes()), *integer, "integer: {text:?}");
            assert_eq!(is_number(text.as_bytes()), *number, "number: {text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_with_the_scale_is_read_back(value in -SCALED_MAX..=SCALED_MAX, scale in 0_u32..=6) {
            let unit = 10_i64.pow(scale);
            let sign = if value < 0 { "-" } else { "" };
            let (whole, part) = (value.abs() / unit, value.abs() % unit);
            let width = scale as usize;
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part:0width$}") };
            prop_assert_eq!(scaled(text.as_bytes(), scale), Ok(value));
        }

        #[test]
        fn rounding_is_half_away_from_zero(value in -1_000_000_000_i64..1_000_000_000, dropped in 1_u32..=6) {
            let unit = 10_i64.pow(dropped);
            let sign = if value < 0 { "-" } else { "" };
            let (whole, part) = (value.abs() / unit, value.abs() % unit);
            let width = dropped as usize;
            let rounded = whole + i64::from(part * 2 >= unit);
            let text = format!("{sign}{whole}.{part:0width$}");
            prop_assert_eq!(scaled(text.as_bytes(), 0), Ok(if value < 0 { -rounded } else { rounded }));
        }

        #[test]
        fn any_bytes_are_answered(text in proptest::collection::vec(any::<u8>(), 0..40), scale in 0_u32..=6) {
            if let Ok(value) = scaled(&text, scale) {
                prop_assert!(value.abs() <= SCALED_MAX);
            }
            // Whole numbers are numbers.
            prop_assert!(!is_integer(&text) || is_number(&text));
        }
    }
}
