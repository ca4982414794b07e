//! Tests of reading input, all formats in one file because they share their helpers and their hostile streams; hence its
//! length. The real files are read by `tests/real_lines.rs`.

use proptest::prelude::*;

use super::*;
use crate::rpc::Bytes;
use crate::untrusted::corpus;

type Pairs = Vec<(String, Bytes)>;

#[track_caller]
fn parser(format: Format, mappings: &[&str]) -> LineParser {
    let mappings = mappings.iter().map(|mapping| mapping.parse().unwrap());
    LineParser::new(format, mappings.collect(), "test").unwrap()
}

/// All events of a stream that is read `chunk` bytes at a time.
fn events(format: Format, mappings: &[&str], stream: &[u8], chunk: usize) -> Vec<IngestEvent> {
    let mut parser = parser(format, mappings);
    let mut splitter = Splitter::new(format);
    let mut events = Vec::new();
    for bytes in stream.chunks(chunk).map(Some).chain([None]) {
        match bytes {
            Some(bytes) => splitter.push(bytes),
            None => splitter.finish(),
        }
        while let Some(record) = splitter.next_record() {
            events.extend(parser.event(&record));
        }
    }
    events
}

/// Offset, length in the stream and kept bytes of each record.
fn records(format: Format, stream: &[u8], chunk: usize) -> Vec<(u64, u64, Vec<u8>)> {
    let mut splitter = Splitter::new(format);
    let mut records = Vec::new();
    let mut chunks = stream.chunks(chunk);
    loop {
        let bytes = chunks.next();
        match bytes {
            Some(bytes) => splitter.push(bytes),
            None => splitter.finish(),
        }
        while let Some(record) = splitter.next_record() {
            records.push((record.offset, record.size_bytes, record.bytes.to_vec()));
        }
        if bytes.is_none() {
            return records;
        }
    }
}

fn text_of(pairs: &Pairs) -> Vec<(&str, &str)> {
    fn text(pair: &(String, Bytes)) -> (&str, &str) {
        match &pair.1 {
            Bytes::Text(text) => (&pair.0, text),
            Bytes::Binary { .. } => (&pair.0, "(binary)"),
        }
    }
    pairs.iter().map(text).collect()
}

fn field<'e>(event: &'e IngestEvent, name: &str) -> Option<&'e Bytes> {
    event
        .fields
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, value)| value)
}

#[track_caller]
fn check(
    format: Format,
    mappings: &[&str],
    line: &str,
    roles: &[(&str, &str)],
    fields: &[(&str, &str)],
) {
    let mut parser = parser(format, mappings);
    let event = parser.parse(0, line.as_bytes()).unwrap();
    assert_eq!(
        (text_of(&event.roles), text_of(&event.fields)),
        (roles.to_vec(), fields.to_vec()),
        "{line}"
    );
}

#[track_caller]
fn check_unreadable(format: Format, mappings: &[&str], line: &[u8], reason: &str) {
    let event = parser(format, mappings).parse(7, line).unwrap();
    assert_eq!(event.id, event::id("test", 7, line), "the id is the line's");
    assert!(event.roles.is_empty() && event.fields.len() == 2);
    assert_eq!(field(&event, "raw").unwrap().decode().unwrap(), line);
    let Some(Bytes::Text(said)) = field(&event, "parse_error") else {
        panic!("no reason")
    };
    assert!(said.contains(reason), "{said}");
    assert!(!said.contains(char::is_control), "{said:?}");
}

const APACHE: &str = r#"83.149.9.216 - frank [17/May/2015:10:05:03 +0200] "GET /a/b.png?x=1&y HTTP/1.1" 200 203023 "http://r/" "Mozilla \"5\" (X)""#;

#[test]
fn combined_lines_have_their_roles() {
    check(
        Format::Combined,
        &[],
        APACHE,
        &[
            ("key", "83.149.9.216"),
            ("type", "GET"),
            ("time", "1431849903000"), // 08:05:03 UTC
            ("value", "203023"),
            ("product", "/a/b.png"),
        ],
        &[
            ("user", "frank"),
            ("query", "x=1&y"),
            ("protocol", "HTTP/1.1"),
            ("status", "200"),
            ("referer", "http://r/"),
            ("agent", r#"Mozilla \"5\" (X)"#),
        ],
    );
}

#[test]
fn a_mapping_overrides_a_role_of_the_combined_format_and_nothing_is_lost() {
    check(
        Format::Combined,
        &["type=status", "session=agent"],
        r#"::1 - - [29/Feb/2024:23:59:60 -0130] "POST / HTTP/2.0" 201 - "-" "curl""#,
        &[
            ("key", "::1"),
            ("type", "201"),
            ("time", "1709256599000"), // 1 March, 01:29:59 UTC
            ("value", "0"),
            ("product", "/"),
            ("session", "curl"),
        ],
        &[
            ("method", "POST"),
            ("protocol", "HTTP/2.0"),
            ("status", "201"),
            ("referer", "-"),
            ("agent", "curl"),
        ],
    );
}

#[test]
fn requests_that_are_none_are_carried() {
    let line =
        |request: &str| format!(r#"h - - [17/May/2015:10:05:03 +0000] "{request}" 400 1 "-" "-""#);
    for (request, expected) in [
        ("-", vec![("request", "-")]),
        (r"\x16\x03\x01", vec![("request", r"\x16\x03\x01")]),
        (r"\x16 x", vec![("request", r"\x16 x")]),
        ("GET /old", vec![("method", "GET"), ("path", "/old")]),
        (
            "GET /a b HTTP/1.0",
            vec![
                ("method", "GET"),
                ("path", "/a b"),
                ("protocol", "HTTP/1.0"),
            ],
        ),
        (
            "GET /?",
            vec![("method", "GET"), ("path", "/"), ("query", "")],
        ),
    ] {
        let mut parser = parser(Format::Combined, &["type=host", "product=host"]);
        let event = parser.parse(0, line(request).as_bytes()).unwrap();
        let fields = text_of(&event.fields);
        let shown: Vec<_> = fields
            .into_iter()
            .filter(|(name, _)| !["status", "referer", "agent"].contains(name))
            .collect();
        assert_eq!(shown, expected, "{request}");
    }
}

#[test]
fn broken_combined_lines_say_what_is_missing() {
    let rest = r#"[17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "-""#;
    for (line, reason) in [
        ("".to_owned() + "x", "expected the host"),
        ("h - -".to_owned(), "expected the user and the ["),
        (
            "h - - [17/May/2015:10:05:03 +0000".to_owned(),
            "expected the time and the ]",
        ),
        (
            "h - - [17/Mai/2015:10:05:03 +0000] \"\" 200 1 \"-\" \"-\"".to_owned(),
            "a time that is not like",
        ),
        (
            "h - - [31/Feb/2015:10:05:03 +0000] \"\" 200 1 \"-\" \"-\"".to_owned(),
            "a time that is not like",
        ),
        (
            "h - - [1/May/2015:10:05:03 +0000] \"\" 200 1 \"-\" \"-\"".to_owned(),
            "a time that is not like",
        ),
        (
            format!("h - - {}", rest.replace("200", "2x0")),
            "three digits",
        ),
        (
            format!("h - - {}", rest.replace(" 1 ", " 1k ")),
            "neither digits nor -",
        ),
        (
            format!("h - - {}", &rest[..rest.len() - 1]),
            "no closing quote for the agent, which begins at byte 63",
        ),
        (
            format!("h - - {rest} 0.3"),
            "text behind the agent at byte 65",
        ),
        (
            format!("h - - {}", &rest[..50]),
            "expected the bytes and the quote of the referer",
        ),
        (
            format!("h - - {}", rest.replace("1.1\"", "1.1\\\"")),
            "unexpected text behind the request",
        ),
    ] {
        check_unreadable(Format::Combined, &[], line.as_bytes(), reason);
    }
}

#[test]
fn json_values_keep_their_text() {
    check(
        Format::Ndjson,
        &["key=user", "value=amount", "time=ts"],
        r#" {"user":"u\u00e9\n","amount":1.10,"big":123456789012345678901234567890,"e":1E+2,"ok":true,"none":null,
            "nested":{ "a" : [1, "x \" y"] },"ts":1640995200000,"user2":""}"#,
        &[
            ("key", "ué\n"),
            ("time", "1640995200000"),
            ("value", "1.10"),
        ],
        &[
            ("big", "123456789012345678901234567890"),
            ("e", "1E+2"),
            ("ok", "true"),
            ("nested", r#"{"a":[1,"x \" y"]}"#),
            ("user2", ""),
        ],
    );
}

#[test]
fn of_repeated_json_keys_the_last_wins() {
    check(
        Format::Ndjson,
        &[],
        r#"{"a":1,"b":2,"a":3}"#,
        &[],
        &[("a", "3"), ("b", "2")],
    );
    check(
        Format::Ndjson,
        &[],
        r#"{"a":1,"b":2,"a":null}"#,
        &[],
        &[("b", "2")],
    );
}

#[test]
fn times_become_milliseconds() {
    for (time, expected) in [
        ("1640995200000", "1640995200000"),
        ("-5", "-5"),
        ("\"1640995200000\"", "1640995200000"),
        ("\"2022-01-01T00:00:00Z\"", "1640995200000"),
        ("\"2022-01-01T01:00:00.1239+01:00\"", "1640995200123"),
    ] {
        check(
            Format::Ndjson,
            &["time=t"],
            &format!("{{\"t\":{time}}}"),
            &[("time", expected)],
            &[],
        );
    }
    check(Format::Ndjson, &["time=t"], r#"{"t":""}"#, &[], &[]);
    for time in [
        "1.5",
        "\"yesterday\"",
        "true",
        "\"2022-01-01\"",
        "{}",
        "1e400",
        "\"\\u001b[2J\"",
    ] {
        check_unreadable(
            Format::Ndjson,
            &["time=t"],
            format!("{{\"t\":{time}}}").as_bytes(),
            "the time in field \"t\"",
        );
    }
}

#[test]
fn what_is_no_json_object_is_carried_raw() {
    let many = (0..=MAX_FIELDS)
        .map(|n| format!("\"{n}\":1"))
        .collect::<Vec<_>>()
        .join(",");
    for (line, reason) in [
        (b"not json".as_slice(), "it does not begin with {"),
        (b"[1]", "it does not begin with {"),
        (b"{\"a\":1", "at byte 6"),
        (b"{\"a\":1} x", "trailing characters at byte 9"),
        (b"{\"a\":\"\xff\"}", "no UTF-8 at byte 6"),
        (b"{\"a\":1,\"b\":\"\\ud800\"}", "at byte"),
        (b"{\"a\":01}", "at byte 7"),
        (
            b"{\"a\":\"\x1b\"}",
            r"(\u0000-\u001F) found while parsing a string at byte 6",
        ),
        (format!("{{{many}}}").as_bytes(), "more than 1000 fields"),
    ] {
        check_unreadable(Format::Ndjson, &[], line, reason);
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let event = parser(Format::Ndjson, &[])
        .parse(0, deep.as_bytes())
        .unwrap();
    assert!(
        field(&event, "a").is_some(),
        "depth inside a value is only text"
    );
}

#[test]
fn csv_rows_take_their_names_from_the_header() {
    let stream = "\u{feff}\"user\",n,,n,n.2\r\n1,2,3,4,5\r\n\r\n\"a\"\"b,\nc\",,\"\",x,\" \"\r\n";
    for chunk in 1..stream.len() {
        let events = events(Format::Csv, &["key=user"], stream.as_bytes(), chunk);
        assert_eq!(events.len(), 2);
        assert_eq!(text_of(&events[0].roles), [("key", "1")]);
        assert_eq!(
            text_of(&events[0].fields),
            [("n", "2"), ("column_3", "3"), ("n.2", "4"), ("n.2.2", "5")]
        );
        assert_eq!(text_of(&events[1].roles), [("key", "a\"b,\nc")]);
        assert_eq!(
            text_of(&events[1].fields),
            [("n", ""), ("column_3", ""), ("n.2", "x"), ("n.2.2", " ")]
        );
        assert_eq!(events[0].id, event::id("test", 20, b"1,2,3,4,5"));
    }
}

#[test]
fn csv_bytes_that_are_no_text_are_kept() {
    let events = events(Format::Csv, &["key=k"], b"k,v\xff\n\xff,\xfe\n", 3);
    assert_eq!(events[0].roles[0].1.decode().unwrap(), b"\xff");
    assert_eq!(events[0].fields[0].0, r"v\xff");
    assert_eq!(events[0].fields[0].1.decode().unwrap(), b"\xfe");
}

#[test]
fn a_broken_quote_costs_one_line() {
    let mut stream = b"a,b\n1,\"open\n".to_vec();
    for _ in 0..200_000 {
        stream.extend_from_slice(b"2,fine row\n");
    }
    stream.extend_from_slice(b"3,\"x\" y\n4,in\"side\n5,ok\n6,\"cut");
    for chunk in [1_000, 65_536, stream.len()] {
        let events = events(Format::Csv, &[], &stream, chunk);
        assert_eq!(events.len(), 1 + 200_000 + 4);
        let faults: Vec<_> = events
            .iter()
            .filter(|event| field(event, "parse_error").is_some())
            .map(|event| text_of(&event.fields))
            .collect();
        assert_eq!(
            faults,
            [
                [
                    ("raw", "1,\"open"),
                    ("parse_error", "no closing quote for the field at byte 2")
                ],
                [
                    ("raw", "3,\"x\" y"),
                    ("parse_error", "text behind the closing quote at byte 5")
                ],
                [
                    ("raw", "4,in\"side"),
                    (
                        "parse_error",
                        "a quote within a field without quotes at byte 4"
                    )
                ],
                [
                    ("raw", "6,\"cut"),
                    ("parse_error", "no closing quote for the field at byte 2")
                ],
            ]
        );
    }
}

#[test]
fn a_quote_that_another_line_closes_costs_one_line_too() {
    let stream = b"a,b\n1,\"open\n2,\"x\"\n3,y\n";
    let events = events(Format::Csv, &[], stream, 4);
    let shown: Vec<_> = events
        .iter()
        .map(|event| text_of(&event.fields)[0])
        .collect();
    assert_eq!(shown, [("raw", "1,\"open"), ("a", "2"), ("a", "3")]);
    let stream = b"a,b\n1,\"open\n2,\"x\n3,y\n";
    let events = self::events(Format::Csv, &[], stream, 4);
    let shown: Vec<_> = events
        .iter()
        .map(|event| text_of(&event.fields)[0])
        .collect();
    assert_eq!(shown, [("raw", "1,\"open"), ("raw", "2,\"x"), ("a", "3")]);
}

#[test]
fn hostile_quotes_do_not_make_reading_quadratic() {
    // Each record looks open up to the limit; were each looked at that far, this would take hours.
    for line in [
        "a\",\"x\n",
        "\"x\n",
        "\"x\"\"\n",
        "\",\n",
        "\"\n\"y\n",
        "\"\"\"\n,\n",
    ] {
        let stream = line.repeat(3 * MAX_RECORD / line.len());
        let records = records(Format::Csv, stream.as_bytes(), 1 << 16);
        let n_carried: u64 = records.iter().map(|(_, size_bytes, _)| size_bytes).sum();
        assert!(n_carried > stream.len() as u64 / 2, "{line:?}");
    }
}

#[test]
fn rows_that_do_not_fit_the_header_are_carried_raw() {
    let events = events(Format::Csv, &[], b"a,b\n1\n1,2,3\n1,2\n", 100);
    let faults: Vec<_> = events
        .iter()
        .map(|event| field(event, "parse_error").is_some())
        .collect();
    assert_eq!(faults, [true, true, false]);
}

#[test]
fn without_a_header_no_row_is_lost() {
    let events = events(Format::Csv, &[], b"a,b\"c\n1,2\n", 100);
    assert_eq!(text_of(&events[0].fields)[0], ("raw", "a,b\"c"));
    assert_eq!(text_of(&events[1].fields)[0], ("raw", "1,2"));
    assert!(
        text_of(&events[1].fields)[1]
            .1
            .contains("for lack of a header")
    );
}

#[test]
fn columns_that_a_mapping_names_in_vain_can_be_asked_for() {
    let mut parser = parser(Format::Csv, &["key=user", "value=n"]);
    assert!(parser.missing_columns().is_empty());
    assert_eq!(parser.parse(0, b"n,m"), None);
    assert_eq!(parser.missing_columns(), ["user"]);
}

#[test]
fn a_line_over_the_limit_is_cut_and_says_so() {
    let long = MAX_RECORD + 5_000;
    let mut stream = b"{\"a\":1}\n".to_vec();
    stream.extend("é".repeat(long / 2).bytes());
    stream.extend_from_slice(b"\n{\"a\":2}\n");
    stream.extend(vec![b'x'; long]);
    for chunk in [777, 65_536, stream.len()] {
        let events = events(Format::Ndjson, &[], &stream, chunk);
        assert_eq!(events.len(), 4, "in reads of {chunk}");
        assert_eq!(text_of(&events[2].fields), [("a", "2")]);
        assert_eq!(
            field(&events[1], "raw"),
            Some(&Bytes::Text("é".repeat(KEPT_BYTES / 2)))
        );
        assert_eq!(
            field(&events[3], "raw"),
            Some(&Bytes::Text("x".repeat(KEPT_BYTES)))
        );
        let reason = format!(
            "a record of {long} bytes; at most {MAX_RECORD} are read; raw holds the first {KEPT_BYTES} of {long} bytes"
        );
        assert_eq!(field(&events[1], "parse_error"), Some(&Bytes::Text(reason)));
        assert_ne!(events[1].id, events[3].id);
    }
}

#[test]
fn the_longest_line_is_read_and_one_byte_more_is_not() {
    for (extra, is_cut) in [(0, false), (1, true)] {
        for end in ["", "\n", "\r\n"] {
            let line = "x".repeat(MAX_RECORD + extra) + end;
            for format in [Format::Ndjson, Format::Csv] {
                for chunk in [100_000, MAX_RECORD, line.len()] {
                    let found = records(format, line.as_bytes(), chunk);
                    assert_eq!(found.len(), 1);
                    assert_eq!(
                        found[0].1 != found[0].2.len() as u64,
                        is_cut,
                        "{format:?} {extra} {end:?} {chunk}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_flood_is_not_kept() {
    for (format, flood) in [
        (Format::Ndjson, b"x"),
        (Format::Csv, b"x"),
        (Format::Csv, b"\""),
    ] {
        let mut splitter = Splitter::new(format);
        for n in 0..40 {
            splitter.push(&if n == 0 {
                [flood[0]; 1 << 16]
            } else {
                [b'y'; 1 << 16]
            });
            while splitter.next_record().is_some() {}
        }
        assert!(
            splitter.kept_bytes() <= MAX_RECORD + (1 << 17),
            "{format:?}"
        );
    }
}

#[test]
fn every_event_fits_a_push() {
    // JSON writes a control character with six bytes, so even lines within the limit can be too long to be sent whole.
    let control = "\u{1}".repeat(MAX_RECORD - 10);
    let valid = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD - 100));
    let binary = vec![0xff; MAX_RECORD];
    for line in [control.as_bytes(), valid.as_bytes(), &binary] {
        let event = parser(Format::Ndjson, &[]).parse(0, line).unwrap();
        let size_bytes = encoded_len(&event);
        assert_eq!(size_bytes, serde_json::to_vec(&event).unwrap().len() + 1);
        assert!(size_bytes <= MAX_EVENT, "{size_bytes}");
        let Some(Bytes::Text(reason)) = field(&event, "parse_error") else {
            panic!("no reason")
        };
        assert!(
            reason.contains("raw holds the first 65536 of 1048"),
            "{reason}"
        );
    }
    let readable = format!("{{\"a\":\"{}\"}}", "x".repeat(400_000));
    let event = parser(Format::Ndjson, &[])
        .parse(0, readable.as_bytes())
        .unwrap();
    assert!(field(&event, "a").is_some());
    let unreadable = "x".repeat(400_000);
    check_unreadable(Format::Ndjson, &[], unreadable.as_bytes(), "does not begin");
}

#[test]
fn ids_depend_on_name_offset_and_line() {
    // printf 'test\0\x07\0\0\0\0\0\0\0\0{}' | sha256sum | cut -c1-32
    let id = event::id("test", 7, b"{}");
    assert_eq!(id, "3b13ba7146f9b071dab8cbb54a0d692e");
    let others = [
        event::id("test2", 7, b"{}"),
        event::id("test", 8, b"{}"),
        event::id("test", 7, b"{ }"),
    ];
    assert!(others.iter().all(|other| *other != id && other.len() == 32));
    assert_eq!(parser(Format::Ndjson, &[]).parse(7, b"{}").unwrap().id, id);
}

#[test]
fn an_id_of_the_input_is_taken_or_hashed() {
    for (given, expected) in [
        (
            "00112233445566778899AABBCCDDEEFF",
            "00112233445566778899aabbccddeeff",
        ),
        ("sixteen bytes ok", "7369787465656e206279746573206f6b"),
        ("7f3a", "e691d0079f79eca4304219d11ee5e5ff"), // printf 7f3a | sha256sum | cut -c1-32
    ] {
        let mut parser = parser(Format::Ndjson, &["id=i"]);
        let event = parser
            .parse(0, format!("{{\"i\":\"{given}\"}}").as_bytes())
            .unwrap();
        assert_eq!(event.id, expected);
        assert!(event.roles.is_empty() && event.fields.is_empty());
    }
    for line in [b"{\"i\":\"\"}".as_slice(), b"{}"] {
        let event = parser(Format::Ndjson, &["id=i"]).parse(0, line).unwrap();
        assert_eq!(event.id, event::id("test", 0, line));
    }
}

#[test]
fn mappings_are_checked_before_anything_is_read() {
    let new = |format, mappings: &[&str]| {
        let mappings: Result<Vec<Mapping>, _> =
            mappings.iter().map(|mapping| mapping.parse()).collect();
        mappings.and_then(|mappings| LineParser::new(format, mappings, "x").map(drop))
    };
    assert_eq!(new(Format::Ndjson, &["key=a=b", "type=a=b"]), Ok(()));
    for (format, mappings, part) in [
        (Format::Ndjson, ["key", "key=a"], "is not role=field"),
        (Format::Ndjson, ["key=", "key=a"], "is not role=field"),
        (Format::Ndjson, ["kee=a", "key=a"], "no role \"kee\""),
        (Format::Ndjson, ["\u{1b}=a", "key=a"], r#"no role "\x1b""#),
        (
            Format::Ndjson,
            ["key=a", "key=b"],
            "role \"key\" is mapped twice",
        ),
        (
            Format::Combined,
            ["key=hots", "type=status"],
            "no field \"hots\"",
        ),
    ] {
        let message = new(format, &mappings).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains(char::is_control));
    }
    for word in Format::WORDS {
        assert_eq!(word.parse::<Format>().unwrap().word(), word);
    }
    assert!("CSV".parse::<Format>().is_err());
}

#[test]
fn hostile_input_is_carried_and_its_reasons_are_clean() {
    for corpus::Hostile { desc, bytes } in corpus::hostile() {
        for format in [Format::Ndjson, Format::Csv, Format::Combined] {
            for event in events(format, &[], &bytes, 4_096) {
                assert!(encoded_len(&event) <= MAX_EVENT, "{desc}");
                if let Some(Bytes::Text(reason)) = field(&event, "parse_error") {
                    assert!(!reason.contains(char::is_control), "{desc}: {reason:?}");
                }
            }
        }
    }
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "a",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        "{\"a\":1}",
        "\u{feff}",
        "x,y\n",
        "\"q\",",
        "é",
    ]);
    prop_oneof![
        prop::collection::vec(parts, 0..60).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..100),
    ]
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Ndjson, Format::Csv, Format::Combined])
}

proptest! {
    #[test]
    fn how_a_stream_is_read_does_not_matter(stream in streams(), format in formats(), chunk in 1_usize..20) {
        prop_assert_eq!(records(format, &stream, chunk), records(format, &stream, usize::MAX));
    }

    #[test]
    fn records_hold_every_byte_but_line_ends(stream in streams(), format in formats()) {
        let mut covered = 0;
        for (offset, size_bytes, bytes) in records(format, &stream, 7) {
            let from = usize::try_from(offset).unwrap();
            prop_assert!(from >= covered);
            let between = &stream[covered..from];
            let is_line_end = |byte: &u8| b"\r\n\xef\xbb\xbf".contains(byte);
            prop_assert!(between.iter().all(is_line_end), "left out {:?}", between);
            prop_assert_eq!(&stream[from..from + bytes.len()], &bytes[..]);
            prop_assert_eq!(size_bytes, bytes.len() as u64);
            covered = from + bytes.len();
        }
        prop_assert!(stream[covered..].iter().all(|byte| b"\r\n\xef\xbb\xbf".contains(byte)));
    }

    #[test]
    fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..200), format in formats()) {
        let mut parser = parser(format, &[]);
        parser.parse(0, &line);
        parser.parse(1, &line);
    }

    #[test]
    fn almost_combined_lines_are_read_or_carried(cut in 0..APACHE.len(), byte: u8, at in 0..APACHE.len()) {
        let mut line = APACHE.as_bytes().to_vec();
        line[at] = byte;
        let cut = &line[..cut];
        for line in [&line[..], cut] {
            let event = parser(Format::Combined, &[]).parse(0, line).unwrap();
            let raw = field(&event, "raw").map(|raw| raw.decode().unwrap());
            prop_assert!(raw.is_none_or(|raw| raw == line));
        }
    }

    #[test]
    fn csv_fields_come_back(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 2..5)) {
        let quoted: Vec<Vec<u8>> = values.iter().map(|value| {
            let doubled = value.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
            [b'"'].into_iter().chain(doubled).chain([b'"']).collect()
        }).collect();
        let header: Vec<u8> = (0..values.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(",").into_bytes();
        let stream = [header, quoted.join(&b',')].join(&b'\n');
        let events = events(Format::Csv, &[], &stream, 5);
        prop_assert_eq!(events.len(), 1);
        let back: Vec<Vec<u8>> = events[0].fields.iter().map(|(_, value)| value.decode().unwrap()).collect();
        prop_assert_eq!(back, values);
    }
}
