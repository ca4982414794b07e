//! What people write for durations, sizes, rates and shares, what they are told when it is wrong, and what they read.

use std::time::Duration;

use pipectl_shared::units::*;
use proptest::prelude::*;

#[test]
fn durations_are_read_with_their_units() {
    let cases = [
        ("0s", 0),
        ("100ms", 100),
        ("5s", 5_000),
        ("1h30m", 5_400_000),
        ("1s500ms", 1_500),
        ("14d", 14 * 86_400_000),
        ("1d1h1m1s1ms", 90_061_001),
    ];
    for (text, ms) in cases {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_millis(ms)),
            "{text}"
        );
        assert_eq!(print_duration(Duration::from_millis(ms)), text);
    }
}

#[test]
fn a_wrong_duration_says_what_to_write() {
    let cases = [
        (
            "",
            "\"\" is no duration: write a number and a unit, such as \"5s\"",
        ),
        (
            "5",
            "\"5\" has no unit: write one of d, h, m, s, ms, us, ns, such as \"5s\"",
        ),
        (
            "5 s",
            "\"5 s\" has an unknown unit: the units are d, h, m, s, ms, us, ns",
        ),
        (
            "5sec",
            "\"5sec\" has an unknown unit: the units are d, h, m, s, ms, us, ns",
        ),
        (
            "1.5s",
            "\"1.5s\" has a fraction: write smaller units, such as \"1s500ms\"",
        ),
        (
            "-5s",
            "\"-5s\" is no duration: write a number and a unit, such as \"5s\" or \"1h30m\"",
        ),
        (
            "1m1h",
            "\"1m1h\" has its units out of order: the longest comes first, such as \"1h30m\"",
        ),
        (
            "1s1s",
            "\"1s1s\" has its units out of order: the longest comes first, such as \"1h30m\"",
        ),
        (
            "99999999999999999999999d",
            "\"99999999999999999999999d\" is too long a time",
        ),
        (
            "\u{1b}[2J",
            "\"\\x1b[2J\" is no duration: write a number and a unit, such as \"5s\" or \"1h30m\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn ranges_need_two_ends_in_order() {
    let (from, to) = parse_duration_range("100ms..5s").unwrap();
    assert_eq!(
        (from, to),
        (Duration::from_millis(100), Duration::from_secs(5))
    );
    assert!(
        parse_duration_range("5s")
            .unwrap_err()
            .to_string()
            .contains("two dots")
    );
    assert!(
        parse_duration_range("5s..1s")
            .unwrap_err()
            .to_string()
            .contains("starts above its end")
    );
    assert!(
        parse_duration_range("5s..")
            .unwrap_err()
            .to_string()
            .contains("is no duration")
    );
}

#[test]
fn sizes_are_read_binary_and_decimal() {
    let cases = [
        ("512", 512),
        ("513B", 513),
        ("64KiB", 65_536),
        ("1MB", 1_000_000),
        ("1mib", 1 << 20),
        ("1TiB", 1 << 40),
        ("0", 0),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    assert_eq!(print_size(65_536), "64KiB");
    assert_eq!(print_size(1_000_000), "1MB");
    assert_eq!(print_size(513), "513B");
    for text in [
        "",
        "KiB",
        "1.5KiB",
        "-1",
        "64K",
        "1 KiB",
        "99999999TiB",
        "18446744073709551616",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn rates_and_shares_are_read_and_printed() {
    assert_eq!(parse_rate("1000/s"), Ok(1000.0));
    assert_eq!(parse_rate("60/m"), Ok(1.0));
    assert_eq!(print_rate(parse_rate("1/m").unwrap()), "1/m");
    assert_eq!(print_rate(1000.0), "1000/s");
    assert_eq!(print_rate(0.5), "30/m");
    for text in [
        "", "1000", "/s", "1000/d", "-1/s", "1e3/s", "nan/s", "inf/s", "1.2.3/s",
    ] {
        assert!(parse_rate(text).is_err(), "{text}");
    }
    assert_eq!(parse_percent("85%"), Ok(0.85));
    assert_eq!(print_percent(0.85), "85%");
    assert_eq!(print_percent(parse_percent("99.95%").unwrap()), "99.95%");
    for text in ["", "85", "0.85", "101%", "-1%", "%", "nan%"] {
        assert!(parse_percent(text).is_err(), "{text}");
    }
}

#[test]
fn people_read_short_forms() {
    let durations = [
        (Duration::ZERO, "0ms"),
        (Duration::from_micros(320), "320us"),
        (Duration::from_millis(850), "850ms"),
        (Duration::from_millis(1_290), "1.2s"),
        (Duration::from_secs(42), "42s"),
        (Duration::from_secs(372), "6m12s"),
        (Duration::from_secs(362), "6m02s"),
        (Duration::from_secs(7_500), "2h05m"),
        (Duration::from_secs(3 * 86_400 + 4 * 3_600 + 3_599), "3d04h"),
    ];
    for (duration, text) in durations {
        assert_eq!(human_duration(duration), text);
    }
    let sizes = [
        (0, "0"),
        (1_023, "1023"),
        (1_024, "1.0k"),
        (1_229, "1.2k"),
        (10_240, "10k"),
        (1_048_575, "1.0M"),
        (38_797_312, "37M"),
        (2_040_109_466, "1.9G"),
        (u64::MAX, "16E"),
    ];
    for (bytes, text) in sizes {
        assert_eq!(human_bytes(bytes), text, "{bytes}");
    }
    let counts = [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (1_234_567, "1,234,567"),
    ];
    for (n, text) in counts {
        assert_eq!(human_count(n), text);
    }
}

proptest! {
    #[test]
    fn a_printed_duration_is_read_back(seconds: u64, nanos in 0u32..1_000_000_000) {
        let duration = Duration::new(seconds, nanos);
        prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
    }

    #[test]
    fn a_printed_range_is_read_back(a in 0u64..u64::MAX / 2, more in 0u64..u64::MAX / 2) {
        let range = (Duration::from_millis(a), Duration::from_millis(a + more));
        prop_assert_eq!(parse_duration_range(&print_duration_range(range)), Ok(range));
    }

    #[test]
    fn a_printed_size_is_read_back(n: u64, shift in 0u32..50) {
        let bytes = n >> shift << shift;
        prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
    }

    #[test]
    fn a_printed_rate_is_read_back(tenths in 1u32..10_000_000, per in prop::sample::select(vec!["s", "m", "h"])) {
        let rate = parse_rate(&format!("{}/{per}", f64::from(tenths) / 10.0)).unwrap();
        prop_assert_eq!(parse_rate(&print_rate(rate)), Ok(rate));
    }

    #[test]
    fn a_printed_share_is_read_back(millionths in 0u32..=100_000_000) {
        let share = f64::from(millionths) / 1e6 / 100.0;
        let back = parse_percent(&print_percent(share)).unwrap();
        prop_assert!((back - share).abs() < 1e-12);
    }

    #[test]
    fn no_text_panics_and_no_error_carries_control_characters(text: String) {
        let errors = [
            parse_duration(&text).err(),
            parse_duration_range(&text).err(),
            parse_size(&text).err(),
            parse_rate(&text).err(),
            parse_percent(&text).err(),
        ];
        for error in errors.into_iter().flatten() {
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn human_forms_stay_narrow(bytes: u64, seconds in 0u64..86_400 * 999) {
        prop_assert!(human_bytes(bytes).len() <= 5);
        prop_assert!(human_duration(Duration::from_secs(seconds)).len() <= 7);
    }
}
