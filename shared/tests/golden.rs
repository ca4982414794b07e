//! One golden file for each kind of frame in `rpc`: the bytes on the wire are a promise to other versions.
//!
//! Each test value is encoded, compared with `golden/<name>.json`, and read back from it. After a change that is
//! meant, `PIPELINED_BLESS=1 cargo test -p pipectl-shared --test golden` writes the files anew; the diff is the review.

#![allow(clippy::unwrap_used)] // Clippy knows only functions marked #[test] as tests, not their helpers.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use pipectl_shared::chaos;
use pipectl_shared::plan::{Action, PlanParams, Selection};
use pipectl_shared::rpc::*;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use pipectl_shared::wire::{self, Decoder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Encodes, compares, decodes; remembers the name, so that a file without a test is found.
struct Golden {
    names: BTreeSet<String>,
}

impl Golden {
    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + Debug>(&mut self, name: &str, value: &T) {
        let file = format!("{name}.json");
        let path = folder().join(&file);
        let line = wire::encode(value).unwrap();
        if std::env::var_os("PIPELINED_BLESS").is_some() {
            std::fs::write(&path, &line).unwrap();
        }
        let golden =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            String::from_utf8_lossy(&line),
            String::from_utf8_lossy(&golden),
            "{file}"
        );
        let mut decoder = Decoder::new();
        decoder.push(&golden);
        let frame = decoder
            .next_line()
            .unwrap()
            .expect("a golden file is one line");
        assert!(!decoder.is_within_line(), "{file} holds more than one line");
        let back: T = frame.parse().unwrap();
        assert_eq!(format!("{back:?}"), format!("{value:?}"), "{file}");
        self.names.insert(file);
    }
}

fn request(id: Option<u64>, method: &str, params: Value) -> Request {
    Request {
        jsonrpc: "2.0".to_owned(),
        id: id.map(Value::from),
        method: method.to_owned(),
        params,
    }
}

fn response(result: Option<Value>, error: Option<Error>) -> Response {
    Response {
        jsonrpc: "2.0".to_owned(),
        id: json!(7),
        result,
        error,
    }
}

fn hello() -> Hello {
    let spec = Spec {
        name: "stage.scale".to_owned(),
        summary: "Change how many workers a stage has.".to_owned(),
        params: vec![
            Param {
                name: "stage".to_owned(),
                summary: "The stage.".to_owned(),
                kind: ParamKind::Stage,
                default: None,
            },
            Param {
                name: "workers".to_owned(),
                summary: "Workers, 1 to 64.".to_owned(),
                kind: ParamKind::Integer { min: 1, max: 64 },
                default: Some("1".to_owned()),
            },
            Param {
                name: "how".to_owned(),
                summary: "When surplus workers stop.".to_owned(),
                kind: ParamKind::Choice(vec!["drain".to_owned(), "now".to_owned()]),
                default: Some("drain".to_owned()),
            },
        ],
        scope: Scope::Stage,
        risk: Risk::Medium,
        role: Role::Operator,
    };
    Hello {
        protocol: PROTOCOL,
        version: "0.1.0".to_owned(),
        config_hash: "0123456789abcdef".to_owned(),
        role: Role::Operator,
        identity: Identity {
            uid: 1_000,
            gid: 1_000,
            pid: Some(4_242),
            user: "ada".to_owned(),
        },
        pipeline: "user-events".to_owned(),
        pid: 4_200,
        time: "2025-01-02T03:04:05.678Z".to_owned(),
        specs: vec![spec],
        experiments: Vec::new(),
        rights: vec!["chaos".to_owned()],
    }
}

fn selection() -> Selection {
    Selection {
        stage: Some("enrich".to_owned()),
        ids: vec!["1640995200000-0".to_owned()],
        consumer: Some("i-enrich-1".to_owned()),
        min_idle_ms: Some(60_000),
        min_tries: Some(3),
        cause: Some("a1b2c3".to_owned()),
        matching: Some("value > 200".to_owned()),
        all: true,
    }
}

fn page() -> (Option<String>, u32) {
    (Some("1640995200000-0".to_owned()), 50)
}

#[test]
fn every_kind_of_frame_has_its_golden_file() {
    let mut golden = Golden {
        names: BTreeSet::new(),
    };
    messages(&mut golden);
    reading(&mut golden);
    acting(&mut golden);
    ingest(&mut golden);
    experiments(&mut golden);
    let files = std::fs::read_dir(folder()).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        files, golden.names,
        "a file without a frame, or a frame without a file"
    );
}

fn messages(golden: &mut Golden) {
    golden.check("request", &request(Some(7), "status.get", Value::Null));
    golden.check(
        "notification",
        &FromServer::Notification(request(None, "stats", json!({"seq": 1}))),
    );
    golden.check(
        "response_result",
        &FromServer::Response(response(Some(json!({"settled": true})), None)),
    );
    let error = Error::new(
        Code::Refused,
        "plan \"8f21c0\": 12 entries match, 10 were confirmed",
    )
    .hint("run `pipectl plan show 8f21c0`");
    golden.check(
        "response_error",
        &FromServer::Response(response(None, Some(error))),
    );
    let unread = Response {
        id: Value::Null,
        ..response(None, Some(Error::new(Code::Parse, "no JSON")))
    };
    golden.check("response_unread", &FromServer::Response(unread));
    golden.check("hello", &hello());
}

fn reading(golden: &mut Golden) {
    let (cursor, limit) = page();
    golden.check(
        "watch_params",
        &WatchParams {
            interval_ms: 2_000,
            preset: Preset::Overview,
        },
    );
    golden.check(
        "pending_params",
        &PendingParams {
            select: selection(),
            cursor: cursor.clone(),
            limit,
            in_flight: true,
        },
    );
    let show = ShowParams {
        stage: Some("enrich".to_owned()),
        id: "1640995200000-0".to_owned(),
        field: Some("product".to_owned()),
        offset: 16_384,
    };
    golden.check("show_params", &show);
    golden.check(
        "dead_params",
        &DeadParams {
            select: Selection::default(),
            cursor: cursor.clone(),
            limit,
        },
    );
    golden.check(
        "aggregates_params",
        &AggregatesParams {
            session: Some("session_456".to_owned()),
            product: None,
        },
    );
    golden.check(
        "latency_params",
        &LatencyParams {
            stage: Some("pipeline".to_owned()),
        },
    );
    golden.check(
        "latency_slots_params",
        &LatencySlotsParams {
            stage: Some("enrich".to_owned()),
            measure: Some("service".to_owned()),
            after_ms: 1_640_995_200_000,
        },
    );
    golden.check(
        "history_params",
        &HistoryParams {
            from_ms: Some(1_640_995_200_000),
            to_ms: None,
            points: 720,
        },
    );
    golden.check(
        "tap_params",
        &TapParams {
            stage: None,
            per_s: 20,
            matching: Some("has session_id".to_owned()),
        },
    );
    golden.check("page_params", &PageParams { cursor, limit });
}

fn acting(golden: &mut Golden) {
    let plan = PlanParams {
        action: Action::Claim,
        select: selection(),
        to: Some("i-enrich-2".to_owned()),
    };
    golden.check("plan_params", &plan);
    let run = PlanRunParams {
        id: "8f21c0".to_owned(),
        ids_hash: "00".repeat(32),
        confirm: Some(12),
        reason: Some("worker 1 hangs".to_owned()),
    };
    golden.check("plan_run_params", &run);
    golden.check(
        "plan_id_params",
        &PlanIdParams {
            id: "8f21c0".to_owned(),
        },
    );
    let params = json!({"stage": "enrich", "workers": 4});
    let command = CommandParams {
        name: "stage.scale".to_owned(),
        params: params.as_object().cloned().unwrap(),
        reason: None,
        dry_run: true,
    };
    golden.check("command_params", &command);
}

fn ingest(golden: &mut Golden) {
    golden.check(
        "ingest_open_params",
        &IngestOpenParams {
            name: "access.log".to_owned(),
        },
    );
    golden.check(
        "ingest_opened",
        &IngestOpened {
            session: "s1".to_owned(),
        },
    );
    let text = |name: &str, value: &str| (name.to_owned(), Bytes::Text(value.to_owned()));
    let read = IngestEvent {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        roles: vec![
            text("key", "83.149.9.216"),
            text("type", "GET"),
            text("time", "1431849903000"),
        ],
        fields: vec![text("agent", "\u{1b}[31m é \"quoted\"")],
    };
    let unread = IngestEvent {
        id: "ffeeddccbbaa99887766554433221100".to_owned(),
        roles: Vec::new(),
        fields: vec![
            ("raw".to_owned(), Bytes::from(b"\xff\x00".as_slice())),
            text("parse_error", "expected the host at byte 0"),
        ],
    };
    golden.check(
        "ingest_push_params",
        &IngestPushParams {
            session: "s1".to_owned(),
            events: vec![read, unread],
        },
    );
    let pushed = IngestPushed {
        accepted: 3,
        deduplicated: 1,
        rejected: 2,
        retry_after_ms: 250,
        reason: Some("the first stage lags".to_owned()),
        first_rejected: Some(3),
    };
    golden.check("ingest_pushed", &pushed);
    golden.check(
        "ingest_close_params",
        &IngestCloseParams {
            session: "s1".to_owned(),
            wait: true,
        },
    );
    let closed = IngestClosed {
        accepted: 3,
        deduplicated: 1,
        rejected: 2,
        dead: 1,
        settled: true,
    };
    golden.check("ingest_closed", &closed);
}

fn experiment() -> Spec {
    let param = |name: &str, kind, default: &str| Param {
        name: name.to_owned(),
        summary: format!("The {name}."),
        kind,
        default: Some(default.to_owned()),
    };
    Spec {
        name: "net.latency".to_owned(),
        summary: "Delays what goes between the daemon and Redis.".to_owned(),
        params: vec![
            param(
                "delay",
                ParamKind::Span {
                    min_ms: 1,
                    max_ms: 2_000,
                },
                "100ms",
            ),
            param("share", ParamKind::Share { min: 1, max: 100 }, "30%"),
        ],
        scope: Scope::Daemon,
        risk: Risk::Medium,
        role: Role::Viewer,
    }
}

fn running() -> chaos::Running {
    chaos::Running {
        id: "20220101T000000-1".to_owned(),
        experiment: "net.latency".to_owned(),
        phase: chaos::Phase::During,
        started_ms: 1_640_995_200_000,
        injected_ms: Some(1_640_995_207_000),
        reverted_ms: None,
        until_ms: Some(1_640_995_237_000),
        targets: vec!["30% of connections to Redis".to_owned()],
        by: "ada".to_owned(),
    }
}

fn run() -> chaos::Run {
    let params = json!({"delay": "100ms", "share": 30});
    let quantiles = chaos::Quantiles {
        n: 120,
        p50: Some(3.5),
        p95: Some(8.0),
        p99: None,
        max: Some(12.0),
    };
    chaos::Run {
        id: "20220101T000000-1".to_owned(),
        experiment: "net.latency".to_owned(),
        claim: "Slower answers of Redis cost time and no events.".to_owned(),
        params: params.as_object().cloned().unwrap(),
        targets: running().targets,
        seed: 42,
        rate: 200,
        started_ms: 1_640_995_200_000,
        ended_ms: 1_640_995_290_000,
        injected_t_ms: Some(7_000),
        reverted_t_ms: Some(37_000),
        verdict: chaos::Verdict::Deviated,
        why: "recovered 9.1 s after the fault, 5 s are tolerated".to_owned(),
        hypothesis: vec![chaos::Check {
            name: "lost".to_owned(),
            tolerance: "= 0".to_owned(),
            before: None,
            during: None,
            after: Some("0".to_owned()),
            held: Some(true),
        }],
        measurements: chaos::Measurements {
            detect_ms: Some(412.0),
            detected_by: Some("stage.slow".to_owned()),
            recover_ms: Some(9_100.0),
            availability: Some(0.999),
            probes_good: 899,
            probes: 900,
            unavailable_ms: 100.0,
            freshness_worst_ms: Some(2_300.0),
            lost: Some(0),
            duplicated: Some(0),
            peak_lag: Some(1_200),
            faults_injected: 7,
            acknowledged: 17_000,
            latency_ms: [("before".to_owned(), quantiles)].into(),
            ..chaos::Measurements::default()
        },
        ledger_before: Some(pipectl_shared::snapshot::Ledger::default()),
        ledger_after: None,
        timeline: vec![mark()],
        reverted: vec![chaos::Reverted {
            what: "faults in the daemon".to_owned(),
            ok: true,
            found: "none is set".to_owned(),
        }],
        judged_by: vec!["the run's own ledger".to_owned()],
        examples: vec!["chaos-1-e7 is not in events:count".to_owned()],
        for_ms: 30_000,
        compared: Some(chaos::Compared {
            id: "20211231T000000-7".to_owned(),
            recover_ms: Some(2_000.0),
            availability: Some(1.0),
            worse: vec!["recovery 2.0 s -> 9.1 s".to_owned()],
        }),
        by: "ada".to_owned(),
        versions: [("pipelined".to_owned(), "0.1.0".to_owned())].into(),
        config_hash: "0123456789abcdef".to_owned(),
        folder: "/var/lib/pipelined/chaos/20220101T000000-1".to_owned(),
    }
}

fn mark() -> chaos::Mark {
    chaos::Mark {
        seq: 3,
        t_ms: 7_000,
        kind: "fault".to_owned(),
        text: "100 ms on 30% of connections".to_owned(),
    }
}

/// The words of `chaos.*`, questions and answers.
fn experiments(golden: &mut Golden) {
    let id = || Some("20220101T000000-1".to_owned());
    let reason = || Some("drill of the first quarter".to_owned());
    golden.check(
        "chaos_run_params",
        &chaos::RunParams {
            name: "net.latency".to_owned(),
            params: run().params,
            lasts: Some("30s".to_owned()),
            rate: Some(200),
            seed: Some(42),
            dry_run: true,
            reason: reason(),
        },
    );
    golden.check(
        "chaos_get_params",
        &chaos::GetParams {
            id: id(),
            after_mark: 3,
            after_t_ms: 7_000,
        },
    );
    golden.check("chaos_stop_params", &chaos::StopParams { reason: reason() });
    golden.check(
        "chaos_lever_params",
        &chaos::LeverParams {
            pull: true,
            reason: reason(),
        },
    );
    golden.check(
        "chaos_history_params",
        &chaos::HistoryParams {
            name: Some("net.latency".to_owned()),
            limit: Some(20),
            before: id(),
        },
    );
    golden.check(
        "chaos_report_params",
        &chaos::ReportParams {
            id: id(),
            form: chaos::Form::Junit,
        },
    );
    experiments_told(golden);
}

fn experiments_told(golden: &mut Golden) {
    let summary = chaos::Summary {
        id: "20220101T000000-1".to_owned(),
        experiment: "net.latency".to_owned(),
        started_ms: 1_640_995_200_000,
        ended_ms: Some(1_640_995_290_000),
        seed: 42,
        verdict: Some(chaos::Verdict::Deviated),
        why: run().why,
        by: "ada".to_owned(),
        recover_ms: Some(9_100.0),
        availability: Some(0.999),
        lost: Some(0),
        duplicated: None,
    };
    let catalogue = chaos::Catalogue {
        enabled: true,
        rows: vec![chaos::Experiment {
            spec: experiment(),
            claim: run().claim,
            copy_only: false,
            refused: Some("another experiment runs".to_owned()),
            last: Some(summary),
        }],
        lever: chaos::Lever {
            pulled: true,
            by: Some("ada".to_owned()),
            reason: Some("the sale".to_owned()),
            since_ms: Some(1_640_995_100_000),
        },
        running: Some(running()),
        schedule: Some(chaos::Scheduled {
            at_ms: 1_640_998_800_000,
            name: "worker.kill".to_owned(),
            seed: 7,
        }),
    };
    golden.check("chaos_catalogue", &catalogue);
    golden.check(
        "chaos_started",
        &chaos::Started {
            id: "20220101T000000-1".to_owned(),
            seed: 42,
        },
    );
    golden.check(
        "chaos_preview",
        &chaos::Preview {
            experiment: "net.latency".to_owned(),
            claim: run().claim,
            params: run().params,
            targets: running().targets,
            steps: vec!["0 s: 100 ms on 30% of connections".to_owned()],
            reverts: vec!["the network is as before".to_owned()],
            hypothesis: vec![("lost".to_owned(), "= 0".to_owned())],
            stop_when: vec!["availability over 10 s < 50%".to_owned()],
            for_ms: 30_000,
            about_ms: 60_000,
            rate: 200,
            seed: 42,
            refused: None,
        },
    );
    golden.check(
        "chaos_progress",
        &chaos::Progress {
            running: running(),
            seed: 42,
            verdict: Some(chaos::Verdict::Deviated),
            why: run().why,
            marks: vec![mark()],
            slots: vec![chaos::Slot {
                t_ms: 8_000,
                phase: chaos::Phase::During,
                in_per_s: 200.0,
                out_per_s: Some(190.0),
                lag: Some(10),
                p99_ms: None,
                fresh_ms: Some(812.0),
                good: 9,
                probes: 10,
            }],
            run: Some(Box::new(run())),
        },
    );
    golden.check(
        "chaos_report",
        &chaos::Report {
            id: "20220101T000000-1".to_owned(),
            text: "# net.latency: deviated\n".to_owned(),
        },
    );
}
