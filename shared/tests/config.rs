//! What `pipeline.toml` may say, what is said about mistakes in it, and who wins over whom.

use std::path::Path;
use std::time::Duration;

use pipectl_shared::config::{
    self, Config, Fault, From, Input, Loaded, Operator, Origin, Secret, SourceKind, load,
};
use pipectl_shared::expression::Expression;
use proptest::prelude::*;

const SHIPPED: &str = include_str!("../../pipeline.toml");
/// The least that is a configuration.
const LEAST: &str = "name = \"shop\"\n[stage.enrich]\n";

fn input(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Input {
    Input {
        file_name: "pipeline.toml".to_owned(),
        text: text.to_owned(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
    }
}

#[track_caller]
fn loaded(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Loaded {
    load(&input(text, env, sets)).unwrap_or_else(|faults| panic!("{}", listed(&faults)))
}

#[track_caller]
fn config(text: &str) -> Config {
    loaded(text, &[], &[]).config
}

fn listed(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

/// Faults, or the warnings of a configuration that has none.
fn said(input: &Input) -> String {
    match load(input) {
        Err(faults) => listed(&faults),
        Ok(loaded) => loaded
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}\n"))
            .collect(),
    }
}

/// Each `NAME.toml` of the folder has what is said about it beside it, in `NAME.expected`.
///
/// Lines `#! set KEY=VALUE` and `#! env NAME=VALUE` of a file are given as flags and environment.
#[test]
fn every_broken_file_is_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_config");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    let mut differing = String::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let overrides = |word: &str| -> Vec<String> {
            let marked = text.lines().filter_map(|line| line.strip_prefix("#! "));
            let given = marked.filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
            given.map(str::to_owned).collect()
        };
        let input = Input {
            file_name: "pipeline.toml".to_owned(),
            env: overrides("env")
                .iter()
                .map(|line| line.split_once('=').unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            sets: overrides("set"),
            text,
        };
        let said = said(&input);
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        assert!(
            !said.contains("hunter2") && !said.contains("HUNTER"),
            "{said}"
        );
        if said != expected {
            let name = path.file_stem().unwrap().to_string_lossy();
            differing.push_str(&format!("=== {name} ===\n{said}"));
        }
    }
    assert!(
        differing.is_empty(),
        "these say something else:\n{differing}"
    );
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let text = "name = \"shop\"\n[stage.enrich]\nworkers = 2\nbatch = 20\nprefetch = 2\n";
    let env = [
        ("PIPELINED__STAGE__ENRICH__WORKERS", "3"),
        ("PIPELINED__STAGE__ENRICH__BATCH", "30"),
    ];
    let loaded = loaded(text, &env, &["stage.enrich.workers=4"]);
    let stage = &loaded.config.stages[0];
    assert_eq!((stage.workers, stage.batch, stage.prefetch), (4, 30, 2));
    let origin = |key: &str| {
        let line = loaded.origins.iter().find(|line| line.key == key).unwrap();
        (
            line.value.clone().unwrap(),
            line.origin.clone(),
            line.position,
        )
    };
    assert_eq!(
        origin("stage.enrich.workers"),
        ("4".to_owned(), Origin::Flag, None)
    );
    assert_eq!(
        origin("stage.enrich.batch"),
        (
            "30".to_owned(),
            Origin::Env("PIPELINED__STAGE__ENRICH__BATCH".to_owned()),
            None
        )
    );
    assert_eq!(
        origin("stage.enrich.prefetch"),
        (
            "2".to_owned(),
            Origin::File("pipeline.toml".to_owned()),
            Some((5, 12))
        )
    );
    assert_eq!(
        origin("stage.enrich.timeout"),
        ("\"30s\"".to_owned(), Origin::Default, None)
    );
}

#[test]
fn explained_keys_are_the_file_again() {
    // What `explain` lists, without operators (whose keys have indices), gives the same configuration as a file.
    let shipped = loaded(
        SHIPPED,
        &[],
        &["stage.enrich.operators=[]", "stage.correlate.operators=[]"],
    );
    let text: String = shipped
        .origins
        .iter()
        .filter_map(|line| Some(format!("{} = {}\n", line.key, line.value.as_ref()?)))
        .collect();
    assert_eq!(config(&text), shipped.config);
    let again = loaded(SHIPPED, &[], &[]);
    let lists = again
        .origins
        .iter()
        .filter(|line| line.key.ends_with(".operators"));
    assert_eq!(lists.count(), 0);
}

#[test]
fn of_several_flags_for_one_key_the_last_counts() {
    let loaded = loaded(LEAST, &[], &["redis.timeout=1s", "redis.timeout=2s"]);
    assert_eq!(loaded.config.redis.timeout, Duration::from_secs(2));
}

#[test]
fn overrides_need_no_quotes_and_may_be_lists_and_tables() {
    let cases: &[(&str, &str)] = &[
        ("a duration without quotes", "stage.enrich.timeout=5s"),
        ("a duration with quotes", "stage.enrich.timeout=\"5s\""),
        ("a table in braces", "stage.enrich={ timeout = \"5s\" }"),
    ];
    for (desc, set) in cases {
        let config = loaded(LEAST, &[], &[set]).config;
        assert_eq!(config.stages[0].timeout, Duration::from_secs(5), "{desc}");
    }
    let named = loaded(LEAST, &[], &["name=2024", "stage.enrich.group=true"]).config;
    assert_eq!(
        (named.name.as_str(), named.stages[0].group.as_str()),
        ("2024", "true")
    );
    let chain = "stage.enrich.operators=[{ kind = \"validate\", required = [\"id\"] }]";
    let config = loaded(
        LEAST,
        &[("PIPELINED__EVENT__DEDUPE__MAX_IDS", "2_000")],
        &[chain],
    )
    .config;
    assert_eq!(config.stages[0].operators.len(), 1);
    assert_eq!(config.event.dedupe_max_ids, 2_000);
}

#[test]
fn a_table_in_a_flag_leaves_the_keys_that_it_does_not_name() {
    let text = format!("{LEAST}[event.dedupe]\nmax_ids = 5_000\n");
    let config = loaded(&text, &[], &["event.dedupe={ window = \"2h\" }"]).config;
    assert_eq!(config.event.dedupe_max_ids, 5_000);
    assert_eq!(config.event.dedupe_window, Duration::from_secs(7_200));
}

#[test]
fn a_variable_reaches_a_stage_whose_name_has_a_hyphen() {
    let text = "name = \"shop\"\n[stage.to-report]\n";
    let env = [("PIPELINED__STAGE__TO_REPORT__WORKERS", "5")];
    let config = loaded(text, &env, &[]).config;
    assert_eq!(config.stages.len(), 1);
    assert_eq!(config.stages[0].workers, 5);
}

#[test]
fn other_variables_are_not_ours() {
    let env = [
        ("PIPELINED_SOCKET", "x"),
        ("PIPELINED", "x"),
        ("REDIS__URL", "x"),
        ("PATH", "x"),
    ];
    assert_eq!(loaded(LEAST, &env, &[]).config, config(LEAST));
}

#[test]
fn a_generator_is_turned_off_by_a_flag() {
    let config = loaded(SHIPPED, &[], &["source.users.enabled=false"]).config;
    assert!(!config.sources[0].enabled);
}

#[test]
fn stages_come_after_what_they_read_from() {
    let text =
        "name = \"shop\"\n[stage.c]\nfrom = \"b\"\n[stage.b]\nfrom = \"a\"\n[stage.z]\n[stage.a]\n";
    let config = config(text);
    let names: Vec<&str> = config
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(names, ["z", "a", "b", "c"]);
    assert_eq!(config.stages[3].from, From::Stage("b".to_owned()));
}

#[test]
fn only_the_first_stage_on_the_source_stream_has_the_default_group() {
    let text =
        "name = \"shop\"\n[stage.c]\nfrom = \"b\"\n[stage.b]\n[stage.a]\nfrom = \"events\"\n";
    let config = config(text);
    let groups: Vec<(&str, &str)> = config
        .stages
        .iter()
        .map(|stage| (stage.name.as_str(), stage.group.as_str()))
        .collect();
    assert_eq!(groups, [("b", "event_group"), ("c", "c"), ("a", "a")]);
}

#[test]
fn a_renamed_source_stream_is_what_stages_read() {
    let text =
        "name = \"shop\"\n[event]\nstream = \"orders:eu\"\n[stage.events]\nfrom = \"orders:eu\"\n";
    assert_eq!(config(text).stages[0].from, From::Source);
}

#[test]
fn secrets_stay_references() {
    let text = format!(
        "{LEAST}[redis]\nurl = \"rediss://db.example:6380/1\"\npassword = \"env:REDIS_PASSWORD\"\n"
    );
    let loaded = loaded(&text, &[], &[]);
    assert_eq!(
        loaded.config.redis.password,
        Some(Secret::Env("REDIS_PASSWORD".to_owned()))
    );
    let line = loaded
        .origins
        .iter()
        .find(|line| line.key == "redis.password")
        .unwrap();
    assert_eq!(line.value.as_deref(), Some("\"env:REDIS_PASSWORD\""));
    let file = load(&input(
        LEAST,
        &[],
        &["redis.password=file:/run/secrets/redis"],
    ))
    .unwrap();
    assert_eq!(
        file.config.redis.password,
        Some(Secret::File("/run/secrets/redis".to_owned()))
    );
}

#[test]
fn servers_are_named_by_url() {
    let good = [
        "managed",
        "redis://localhost",
        "redis://db.example:6379",
        "redis://10.0.0.1:6379/15",
        "rediss://db.example:6380",
        "redis://[::1]:6379",
        "redis+unix:///run/redis/redis.sock",
        "redis+unix:///run/redis/redis.sock?db=3",
    ];
    for url in good {
        let config = loaded(LEAST, &[("PIPELINED__REDIS__URL", url)], &[]).config;
        assert_eq!(config.redis.url, url);
    }
    let bad = [
        "",
        "redis://",
        "redis://:6379",
        "redis://0:6379",
        "redis://[::]:6379",
        "redis://[::1",
        "redis://host:0",
        "redis://host:port",
        "redis://host/1?protocol=3",
        "redis://h#x",
        "redis+unix://",
        "redis+unix:///",
        "redis+unix:///s?timeout=5",
        "unix:///run/redis.sock",
        "redis+cluster://a,b",
        "Managed",
    ];
    for url in bad {
        assert!(
            load(&input(LEAST, &[("PIPELINED__REDIS__URL", url)], &[])).is_err(),
            "{url}"
        );
    }
}

#[test]
fn a_wrong_expression_is_pointed_at_inside_its_quotes() {
    let broken = (1..6)
        .map(|n| "(".repeat(n))
        .chain(["?".to_owned(), "a ?? b".to_owned()])
        .find_map(|text| Expression::parse(&text).err().map(|error| (text, error)));
    let (text, error) = broken.expect("one of these is no expression");
    let file = format!("{LEAST}operators = [\n  {{ kind = \"filter\", keep = '{text}' }},\n]\n");
    let faults = load(&input(&file, &[], &[])).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", listed(&faults));
    assert_eq!(
        faults[0].what,
        format!("`stage.enrich.operators[0].keep`: {}", error.message)
    );
    // Behind `  { kind = "filter", keep = ` stands the quote, in column 29.
    let inside = u32::try_from(error.at.min(text.len())).unwrap();
    let col = if inside == 0 { 29 } else { 30 + inside };
    assert_eq!((faults[0].line, faults[0].col), (Some(4), Some(col)));
}

#[test]
fn columns_count_characters_not_bytes() {
    let faults = load(&input("\"Ünïcödé\" = 1\n", &[], &[])).unwrap_err();
    assert_eq!(faults[0].line, Some(1));
    let text = format!("{LEAST}operators = [{{ kind = \"é\", x = 1 }}, 5]\n");
    let faults = load(&input(&text, &[], &[])).unwrap_err();
    let cols: Vec<_> = faults.iter().map(|fault| fault.col.unwrap()).collect();
    assert_eq!(cols, [23, 37]);
}

#[test]
fn the_name_of_a_file_cannot_drive_the_terminal() {
    let mut given = input("", &[], &[]);
    given.file_name = "\u{1b}[2J\u{202e}.toml".to_owned();
    let faults = load(&given).unwrap_err();
    assert_eq!(faults[0].file, "\\x1b[2J\\u{202e}.toml");
}

#[test]
fn more_stages_and_operators_than_one_process_can_run_are_refused() {
    let stages: String = (0..100).map(|i| format!("[stage.s{i}]\n")).collect();
    let faults = load(&input(&format!("name = \"shop\"\n{stages}"), &[], &[])).unwrap_err();
    assert_eq!(
        listed(&faults),
        "pipeline.toml:66:8: more than 64 tables [stage.NAME]\n"
    );
    let chain = "{ kind = \"lookup\", key = \"id\" },".repeat(100);
    let text = format!("{LEAST}operators = [{chain}]\n");
    let faults = load(&input(&text, &[], &[])).unwrap_err();
    assert_eq!(faults.len(), 1, "{}", listed(&faults));
    assert!(
        faults[0].what.ends_with("more than 64 operators"),
        "{}",
        faults[0]
    );
}

#[test]
fn an_oversized_override_is_refused() {
    let long = "x".repeat(70_000);
    let deep = vec!["a"; 100_000].join(".");
    for set in [format!("name={long}"), format!("{deep}=1")] {
        let faults = load(&input(LEAST, &[], &[&set])).unwrap_err();
        assert!(faults[0].what.starts_with("longer than"), "{}", faults[0]);
        assert!(faults[0].to_string().len() < 300);
    }
}

#[test]
fn waits_between_tries_double_up_to_the_longest() {
    let mut retry = config(LEAST).retry;
    assert_eq!(config::backoff_sum(&retry), Duration::from_millis(1_500));
    retry.attempts = 8;
    assert_eq!(
        config::backoff_sum(&retry),
        Duration::from_millis(100 + 200 + 400 + 800 + 1_600 + 3_200 + 5_000)
    );
    retry.attempts = 1;
    assert_eq!(config::backoff_sum(&retry), Duration::ZERO);
}

#[test]
fn a_flood_of_faults_is_cut_and_does_not_take_long() {
    let mut text = String::from("x = { ");
    for i in 0..20_000 {
        text.push_str(&format!("k{i} = 1, "));
    }
    text.push_str("z = 1 }\n");
    for i in 0..20_000 {
        text.push_str(&format!("k{i} = 1\n"));
    }
    let faults = load(&input(&text, &[], &[])).unwrap_err();
    assert_eq!(faults.len(), 101);
    assert!(faults[100].what.starts_with("and "), "{}", faults[100]);
}

#[test]
fn an_oversized_or_deep_file_is_refused() {
    let faults = load(&input(&"#".repeat((1 << 20) + 1), &[], &[])).unwrap_err();
    assert!(faults[0].what.contains("bytes long"), "{}", faults[0]);
    for deep in [
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("a = {}", "{a=".repeat(100_000)),
    ] {
        assert!(load(&input(&deep, &[], &[])).is_err());
        assert!(
            load(&input(
                LEAST,
                &[],
                &[&format!("stage.enrich.operators={deep}")]
            ))
            .is_err()
        );
    }
}

fn words() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "name",
        "stage",
        "source",
        "redis",
        "event",
        "operators",
        "kind",
        "enrich",
        "from",
        "group",
        "dedupe",
        "window",
        "cache",
        "=",
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ".",
        ",",
        "\n",
        " ",
        "#",
        "1",
        "-5",
        "1.5",
        "true",
        "\"5s\"",
        "\"validate\"",
        "\"lookup\"",
        "\"events\"",
        "é",
        "\u{1b}",
        "\\",
        "\"\"\"",
        "1979-05-27",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Nothing panics, faults come in order, and no message can drive a terminal.
fn check_any(input: &Input) {
    let faults = match load(input) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => {
            assert!(!faults.is_empty());
            faults
        }
    };
    for fault in &faults {
        let printed = fault.to_string().replace("\n  hint: ", "");
        assert!(!printed.chars().any(char::is_control), "{printed:?}");
        assert!(!fault.what.is_empty());
    }
    let places: Vec<_> = faults
        .iter()
        .filter_map(|fault| fault.line.zip(fault.col))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}", env in ".{0,20}", set in ".{0,40}") {
        check_any(&input(&text, &[(&format!("PIPELINED__{env}"), &set)], &[&set]));
    }

    #[test]
    fn no_toml_like_text_panics(text in words(), value in words()) {
        let set = format!("stage.enrich.operators={value}");
        check_any(&input(&text, &[("PIPELINED__EVENT__DEDUPE", &value)], &[&set]));
    }

    #[test]
    fn no_mutation_of_the_shipped_file_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, words()), 1..4),
    ) {
        let mut chars: Vec<char> = SHIPPED.chars().collect();
        for (at, len, with) in cuts {
            let at = at.index(chars.len());
            let end = (at + len).min(chars.len());
            chars.splice(at..end, with.chars());
        }
        check_any(&input(&chars.iter().collect::<String>(), &[], &[]));
    }

    #[test]
    fn a_value_put_into_any_key_never_panics_and_keeps_secrets(value in words(), at in any::<prop::sample::Index>()) {
        let keys = config::catalogue::KEYS;
        let path = keys[at.index(keys.len())].path.replace(".*", ".enrich");
        let set = format!("{path}={value}hunter2");
        let given = input(LEAST, &[], &[&set]);
        check_any(&given);
        let is_secret = path == "redis.password" || path == "redis.url";
        if let (true, Err(faults)) = (is_secret, load(&given)) {
            assert!(!listed(&faults).contains("hunter2"));
        }
    }
}

#[test]
fn the_shipped_pipeline_is_the_one_that_the_documents_describe() {
    let loaded = loaded(SHIPPED, &[], &[]);
    assert!(loaded.warnings.is_empty(), "{}", listed(&loaded.warnings));
    let config = loaded.config;
    assert_eq!(config.name, "shop");
    assert_eq!(config.redis.url, "managed");
    let SourceKind::Generator(generator) = &config.sources[0].kind;
    assert_eq!((generator.rate, generator.seed), (1000.0, 7));
    assert_eq!(
        (generator.users, generator.products, generator.limit),
        (1_000, 200, None)
    );
    let [enrich, correlate] = &config.stages[..] else {
        panic!("{:?}", config.stages)
    };
    assert_eq!(
        (enrich.name.as_str(), enrich.group.as_str(), enrich.workers),
        ("enrich", "event_group", 2)
    );
    assert_eq!(correlate.from, From::Stage("enrich".to_owned()));
    let [Operator::Validate(validate), Operator::Lookup(lookup)] = &enrich.operators[..] else {
        panic!("{:?}", enrich.operators)
    };
    assert_eq!(
        validate.required,
        ["event_id", "user_id", "event_type", "ts"]
    );
    assert_eq!(validate.integers, ["ts"]);
    assert_eq!(
        (lookup.key.as_str(), lookup.into.as_str()),
        ("user_id", "profile")
    );
    let [Operator::Aggregate(aggregate)] = &correlate.operators[..] else {
        panic!("{:?}", correlate.operators)
    };
    assert_eq!(aggregate.by.len(), 3);
}
