//! Tests of the language: what holds, what is written how, what is refused where.

use proptest::prelude::*;

use super::*;

const ENTRY: [(&[u8], &[u8]); 7] = [
    (b"value", b"250"),
    (b"price", b"19.90"),
    (b"event_type", b"purchase"),
    (b"product", b"x y"),
    (b"empty", b""),
    (b"binary", b"\xff\x00end"),
    (b"big", b"9007199254740993"),
];

fn entry_field(name: &[u8]) -> Option<&'static [u8]> {
    let found = ENTRY.iter().find(|(field, _)| *field == name)?;
    Some(found.1)
}

#[track_caller]
fn check(source: &str, expected: bool) {
    let expression = Expression::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    assert_eq!(expression.holds(entry_field), expected, "{source}");
}

#[test]
fn comparisons_hold_for_numbers_and_for_bytes() {
    let table = [
        ("value > 200", true),
        ("value > 1000", false), // As bytes it would hold.
        ("value = 250.0", true),
        ("value = '250.0'", false), // Quoted: bytes.
        ("value >= 250 and value <= 2.5e2", true),
        ("value < 250", false),
        ("price < 20", true),
        ("price != 19.9", false),
        ("event_type = purchase", true),
        ("event_type == \"purchase\"", true),
        ("event_type < q", true),
        ("event_type > 5", true), // Not both numbers: bytes.
        ("product = 'x y'", true),
        ("empty = ''", true),
        ("empty < 1", true),
        ("big = 9007199254740993", true),
        ("big = 9007199254740992", false), // Equal as floats.
        ("value = inf", false),
        ("value < 1e999", false), // Overflows a float, hence bytes, and "2" is above "1".
    ];
    for (source, expected) in table {
        check(source, expected);
    }
}

#[test]
fn a_missing_field_makes_every_comparison_false() {
    for operator in ["=", "!=", "<", "<=", ">", ">=", "~"] {
        check(&format!("nothing {operator} 1"), false);
        check(&format!("not (nothing {operator} 1)"), true);
    }
    check("has nothing", false);
    check("has empty", true);
    check("not has nothing", true);
}

#[test]
fn contains_looks_anywhere_byte_by_byte() {
    for (source, expected) in [
        ("event_type ~ chas", true),
        ("event_type ~ Chas", false),
        ("product ~ ' '", true),
        ("empty ~ ''", true),
        ("empty ~ a", false),
        ("value ~ 5", true),
        ("value ~ 250.0", false),
        ("binary ~ end", true),
        ("binary ~ '\\x00e'", true),
    ] {
        check(source, expected);
    }
}

#[test]
fn not_binds_tighter_than_and_which_binds_tighter_than_or() {
    check("has value or has x and has x", true);
    check("(has value or has x) and has x", false);
    check("not has x and has x", false);
    check("not (has x and has x)", true);
    check(
        "value > 200 and (event_type = purchase or not product = 'x y')",
        true,
    );
}

#[test]
fn canonical_form_is_one_for_all_spellings() {
    for (source, canonical) in [
        ("a=b", "a = b"),
        ("  a\t==\n'b' ", "a = b"),
        ("(a=1 or (b=2 or c=3))", "a = 1 or b = 2 or c = 3"),
        (
            "((a=1 and b=2) or c=3) and d=4",
            "(a = 1 and b = 2 or c = 3) and d = 4",
        ),
        ("not(not(a=1))", "not not a = 1"),
        ("not (a=1 and b=2)", "not (a = 1 and b = 2)"),
        ("a='1'", "a = '1'"),
        ("a~'1'", "a ~ 1"),
        ("'and' = \"it's\"", "'and' = 'it\\'s'"),
        ("a = '\u{1b}[2J\u{202e}'", "a = '\\x1b[2J\\u{202e}'"),
        ("größe > 3", "größe > 3"),
        ("has 'x y'", "has 'x y'"),
    ] {
        let expression = Expression::parse(source).unwrap();
        assert_eq!(expression.to_string(), canonical);
        assert_eq!(
            Expression::parse(canonical).unwrap(),
            expression,
            "{canonical}"
        );
    }
}

#[test]
fn serializes_as_its_source() {
    let expression = Expression::parse("a=1").unwrap();
    assert_eq!(serde_json::to_string(&expression).unwrap(), r#""a = 1""#);
}

#[test]
fn fields_are_named_once_in_order() {
    let expression = Expression::parse("b = 1 and (a = 2 or has b) and not c ~ x").unwrap();
    assert_eq!(expression.fields(), ["b", "a", "c"]);
}

#[test]
fn faults_say_where_and_what() {
    for (source, at, part) in [
        ("", 0, "ends where a field"),
        ("   ", 3, "ends where a field"),
        ("a", 1, "ends where one of ="),
        ("a =", 3, "ends where a value"),
        (
            "a = 1 b = 2",
            6,
            "expected `and`, `or` or the end, found `b`",
        ),
        ("a = 1, b = 2", 5, "write `and`"),
        ("a = 1 AND b = 2", 6, "found `AND`"),
        ("a = and", 4, "quote it"),
        ("(a = 1", 6, "for the `(` at byte 0"),
        ("a = 1)", 5, "found `)`"),
        ("a = 'x", 4, "no closing '"),
        ("a = '\\q'", 5, "no such escape"),
        ("a = '\\x80'", 5, "no such escape"),
        ("a = '\\u{d800}'", 5, "no such escape"),
        ("a = '\\u{1234567}'", 5, "no such escape"),
        ("'' = 1", 0, "never empty"),
        ("a ! 1", 2, "write `not`"),
        ("a = \u{202e}", 4, "\\u{202e}"),
        ("has and", 4, "expected a field after `has`"),
        ("a = 1 \u{1b}", 6, "\\x1b"),
    ] {
        let error = Expression::parse(source).expect_err(source);
        assert_eq!(error.at, at, "{source}: {error}");
        assert!(error.message.contains(part), "{source}: {error}");
        assert!(!error.message.contains(char::is_control), "{source}");
    }
}

#[test]
fn depth_and_length_have_limits() {
    let nested = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(Expression::parse(&nested(MAX_DEPTH)).is_ok());
    let error = Expression::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert!(error.message.contains("nested deeper"), "{error}");
    let negated = format!("{} a = 1", "not ".repeat(MAX_DEPTH + 1));
    assert!(Expression::parse(&negated).is_err());
    let long = format!("a = {}", "x".repeat(MAX_BYTES - 4));
    assert!(Expression::parse(&long).is_ok());
    assert!(Expression::parse(&format!("{long}x")).is_err());
    let padded = format!("a = 1{}", " ".repeat(MAX_BYTES));
    assert!(Expression::parse(&padded).is_err());
    // Short as given, too long when the private-use characters are written as escapes.
    let grows = format!("a = '{}'", "\u{e000}".repeat(1_000));
    assert!(grows.len() < MAX_BYTES && Expression::parse(&grows).is_err());
    let flat = vec!["a=1"; 400].join(" or ");
    assert!(Expression::parse(&flat).is_ok());
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c_.]{1,4}",
        "[0-9]{1,3}(\\.[0-9])?",
        "and|or|not|has",
        "\\PC{1,6}",
        any::<String>()
    ]
}

/// Fully parenthesised source of a random tree.
fn source() -> impl Strategy<Value = String> {
    let quote = |word: &String| format!("'{}'", untrusted::escape(word).replace('\'', "\\'"));
    let literal = word().prop_flat_map(move |word| {
        let quoted = quote(&word);
        let bare = if parse::is_bare_word(&word) {
            word
        } else {
            quoted.clone()
        };
        prop_oneof![Just(bare), Just(quoted)]
    });
    let field = word()
        .prop_filter("a field has a name", |word| !word.is_empty())
        .prop_map(move |word| quote(&word))
        .boxed();
    let operator = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">=", "~"]);
    let leaf = prop_oneof![
        (field.clone(), operator, literal)
            .prop_map(|(field, operator, literal)| format!("{field}{operator}{literal}")),
        field.prop_map(|field| format!("has {field}")),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|node| format!("not ({node})")),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|nodes| format!("({})", nodes.join(") and ("))),
            prop::collection::vec(inner, 1..4)
                .prop_map(|nodes| format!("({})", nodes.join(") or ("))),
        ]
    })
}

proptest! {
    #[test]
    fn no_source_panics(source in any::<String>()) {
        let _ = Expression::parse(&source);
    }

    #[test]
    fn no_soup_of_tokens_panics(tokens in prop::collection::vec(
        prop::sample::select(vec!["a", "1", "=", "~", "!", "(", ")", "not", "has", "and", "or", "'", "\"", "\\", " ", "é"]), 0..40,
    )) {
        if let Ok(expression) = Expression::parse(&tokens.concat()) {
            prop_assert_eq!(Expression::parse(&expression.to_string()), Ok(expression));
        }
    }

    #[test]
    fn what_is_printed_parses_to_an_equal_expression(source in source()) {
        let expression = match Expression::parse(&source) {
            Ok(expression) => expression,
            Err(error) if error.message.contains("bytes") => return Ok(()), // Too long.
            Err(error) => return Err(TestCaseError::fail(format!("{source}: {error}"))),
        };
        let printed = expression.to_string();
        prop_assert!(!printed.contains(char::is_control));
        prop_assert_eq!(Expression::parse(&printed), Ok(expression));
    }
}
