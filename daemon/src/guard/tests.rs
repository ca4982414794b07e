//! The keeper with guards that are shell scripts: ones that do as they should, and ones that lie, flood, hang and die.
//!
//! Past 500 lines because each way in which a guard can misbehave is a test of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipectl_shared::chaos::{
    Form, GetParams, HistoryParams, Phase, ReportParams, RunParams, Verdict,
};
use pipectl_shared::config::Config;
use pipectl_shared::rpc::Code;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::testkit::{self, Recorder, progress, run, script};
use super::{GuardCommand, Keeper, Setup};
use crate::chaos::{Order, Shown};
use crate::observe::{Inputs, Observer};
use crate::plans::testkit::{Bench, config};

/// Ten times what anything here should take.
const SOON: Duration = Duration::from_secs(20);

struct House {
    bench: Bench,
    folder: PathBuf,
    setup: Setup,
    hands: Arc<Recorder>,
    _tasks: JoinSet<()>,
}

impl House {
    async fn new(guard: &str) -> Self {
        Self::with(guard, |_| {}).await
    }

    async fn with(guard: &str, set: impl FnOnce(&mut Config)) -> Self {
        let bench = Bench::new().await;
        let mut config = config();
        config.chaos.enabled = true;
        config.chaos.allow = ["worker", "net", "redis", "data", "cache"]
            .map(str::to_owned)
            .to_vec();
        set(&mut config);
        let config = Arc::new(config);
        let (observer, sampler) = Observer::new(Inputs {
            config: Arc::clone(&config),
            layout: Arc::clone(&bench.setup.layout),
            admin: Arc::clone(&bench.setup.admin),
            handle: bench.setup.handle.clone(),
            journal: bench.setup.journal.clone(),
            clock: Arc::clone(&bench.setup.clock),
            instance: "a".to_owned(),
            chaos: Shown::default(),
            data: bench.dir.path().to_owned(),
        });
        testkit::make_well(&bench);
        let mut tasks = JoinSet::new();
        tasks.spawn(sampler.run(CancellationToken::new()));
        let mut ticks = observer.watch();
        timeout(SOON, ticks.wait_for(|s| s.status.healthy))
            .await
            .expect("the bench is not well")
            .unwrap();
        let folder = bench.dir.path().join("chaos");
        fs::create_dir(&folder).unwrap();
        let guard = script(bench.dir.path(), guard);
        let (setup, hands) = testkit::setup(&bench, &config, &observer, guard);
        Self {
            bench,
            folder,
            setup,
            hands,
            _tasks: tasks,
        }
    }

    fn keeper(&self) -> Keeper {
        Keeper::open(&self.folder, self.setup.clone()).unwrap()
    }

    /// Files that a script may copy into its folder.
    fn lay(&self, verdict: Verdict) {
        let put =
            |name: &str, text: String| fs::write(self.bench.dir.path().join(name), text).unwrap();
        put("progress.json", json!(progress("x")).to_string());
        put("run.json", json!(run("x", verdict)).to_string());
    }

    /// A run in the folder that nobody of this process started.
    fn put_run(&self, id: &str) -> PathBuf {
        let folder = self.folder.join(id);
        fs::create_dir(&folder).unwrap();
        fs::write(
            folder.join("progress.json"),
            json!(progress(id)).to_string(),
        )
        .unwrap();
        folder
    }

    fn events(&self, name: &str) -> Vec<String> {
        let all = self.bench.setup.journal.last(1_000).into_iter();
        all.filter(|event| event.name == name)
            .map(|event| event.message)
            .collect()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !holds() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: {:?}",
                self.bench.setup.journal.last(20)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn order(name: &str) -> RunParams {
    RunParams {
        name: name.to_owned(),
        ..RunParams::default()
    }
}

/// Asks for a worker to be parked, keeps the answer, shows its progress.
const PARK: &str = r#"cp "$1/progress.json" "$folder/progress.json"
echo '{"n":1,"order":{"park":{"consumer":"a-enrich-0","point":"after_read"}},"limit_ms":60000}'
IFS= read -r told
printf '%s\n' "$told" >> "$1/told"
"#;
/// Keeps everything that is said, to the end of the pipe.
const LISTEN: &str = r#"while IFS= read -r told; do printf '%s\n' "$told" >> "$1/told"; done
"#;
const REPORT: &str = r#"cp "$1/run.json" "$folder/run.json"
echo "all is well" > "$folder/report.md"
"#;

#[tokio::test]
async fn orders_are_obeyed_and_what_came_of_it_is_told() {
    let house = House::new(&format!("{PARK}sleep 1\n{REPORT}")).await;
    house.lay(Verdict::Pass);
    let keeper = house.keeper();
    let started = keeper
        .run(
            RunParams {
                seed: Some(5),
                ..order("worker.test")
            },
            "ann",
        )
        .await
        .unwrap();
    assert_eq!(started.seed, 5);
    let busy = keeper.run(order("worker.test"), "bob").await.unwrap_err();
    assert!(
        busy.is(Code::Refused) && busy.message.contains(&started.id),
        "{busy:?}"
    );
    house
        .until("the fault is told", || {
            house.events("chaos.injected").len() == 1
        })
        .await;
    let shown = house.setup.shown.get().unwrap();
    assert_eq!(
        (shown.id.as_str(), shown.phase, shown.by.as_str()),
        (started.id.as_str(), Phase::During, "ann")
    );
    let live = keeper.get(GetParams::default()).await.unwrap();
    assert_eq!((live.verdict, live.running.id), (None, "x".to_owned()));
    house.until("it ends", || keeper.running().is_none()).await;
    assert!(matches!(
        &house.hands.orders.lock().unwrap()[..],
        [Order::Park { .. }]
    ));
    let told = fs::read_to_string(house.bench.dir.path().join("told")).unwrap();
    assert!(
        told.starts_with(r#"{"done":{"n":1,"hits":{"kills":0,"parks":1"#),
        "{told}"
    );
    assert!(house.hands.n_clears() >= 1);
    assert_eq!(house.hands.recovered.load(Ordering::SeqCst), 0);
    assert_eq!(house.setup.shown.get(), None);
    assert_eq!(house.events("chaos.started").len(), 1);
    assert!(house.events("chaos.ended")[0].contains("pass: it held"));
    let ended = keeper
        .get(GetParams {
            id: Some(started.id.clone()),
            ..GetParams::default()
        })
        .await
        .unwrap();
    assert_eq!(
        (ended.verdict, ended.running.phase),
        (Some(Verdict::Pass), Phase::Ended)
    );
    let rows = keeper.history(HistoryParams::default()).await.unwrap().rows;
    assert_eq!(
        (rows.len(), rows[0].verdict, &rows[0].id),
        (1, Some(Verdict::Pass), &started.id)
    );
    let catalogue = keeper.catalogue().await.unwrap();
    assert_eq!(catalogue.rows[0].last.as_ref().unwrap().id, started.id);
    let report = keeper.report(ReportParams::default()).await.unwrap();
    assert_eq!(
        (report.id, report.text.as_str()),
        (started.id, "all is well\n")
    );
    let none = keeper
        .report(ReportParams {
            form: Form::Junit,
            ..ReportParams::default()
        })
        .await;
    assert!(none.unwrap_err().is(Code::NotFound));
}

#[tokio::test]
async fn a_run_is_refused_with_the_next_step_and_a_dry_run_says_the_same() {
    type Change = fn(&mut Setup);
    fn of(setup: &mut Setup, change: impl FnOnce(&mut Config)) {
        let mut config = (*setup.config).clone();
        change(&mut config);
        setup.config = Arc::new(config);
    }
    let table: [(&str, RunParams, Change, &str); 9] = [
        (
            "off",
            order("worker.test"),
            |s| of(s, |c| c.chaos.enabled = false),
            "experiments are off",
        ),
        (
            "family",
            order("worker.test"),
            |s| of(s, |c| c.chaos.allow.clear()),
            "chaos.allow has no worker",
        ),
        ("no copy", order("data.burn"), |_| {}, "destroys data"),
        (
            "not ours",
            order("redis.test"),
            |_| {},
            "not managed by the daemon",
        ),
        (
            "too long",
            RunParams {
                lasts: Some("3m".to_owned()),
                ..order("worker.test")
            },
            |_| {},
            "longer than chaos.max_duration (2m)",
        ),
        (
            "draining",
            order("worker.test"),
            |s| s.handle.draining.store(true, Ordering::Relaxed),
            "drains",
        ),
        (
            "paused",
            order("worker.test"),
            |s| {
                s.handle.draining.store(false, Ordering::Relaxed);
                s.handle.stages[1].paused.set(true);
            },
            "stage count is paused",
        ),
        (
            "no way",
            order("cache.none"),
            |s| s.handle.stages[1].paused.set(false),
            "no stage has a lookup",
        ),
        ("unknown is not refused", order("worker.test"), |_| {}, ""),
    ];
    let house = House::new(REPORT).await;
    for (desc, params, change, expected) in table {
        let mut setup = house.setup.clone();
        change(&mut setup);
        let keeper = Keeper::open(&house.folder, setup).unwrap();
        let preview = keeper
            .preview(RunParams {
                dry_run: true,
                ..params.clone()
            })
            .await
            .unwrap();
        if expected.is_empty() {
            assert_eq!(preview.refused, None, "{desc}");
            assert_eq!(
                preview.steps,
                ["0s after the begin: worker a-enrich-0 stops after it has read entries"]
            );
            continue;
        }
        let error = keeper.run(params, "ann").await.unwrap_err();
        assert!(error.is(Code::Refused), "{desc}: {error:?}");
        assert!(error.message.contains(expected), "{desc}: {error:?}");
        let hint = error.data.unwrap().hint.unwrap();
        // What cannot be done promises nothing.
        let promises = preview.hypothesis.is_empty() && preview.about_ms == 0;
        assert_eq!(promises, desc == "no way", "{desc}");
        assert!(!hint.is_empty(), "{desc}");
        let refused = preview.refused.unwrap_or_default();
        assert!(
            refused.contains(expected) && refused.contains(&hint),
            "{desc}: {refused}"
        );
    }
    assert_eq!(
        fs::read_dir(&house.folder).unwrap().count(),
        0,
        "nothing was begun"
    );
    *house.hands.no_network.lock().unwrap() = Some("TLS goes around the proxy".to_owned());
    let error = house
        .keeper()
        .run(order("net.test"), "ann")
        .await
        .unwrap_err();
    assert!(error.message.contains("TLS"), "{error:?}");
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_told_apart_from_refusals() {
    let house = House::new(REPORT).await;
    let keeper = house.keeper();
    let with = |value: serde_json::Value| RunParams {
        params: value.as_object().cloned().unwrap(),
        ..order("worker.test")
    };
    let table = [
        (with(json!({"count": 9})), Code::InvalidParams),
        (with(json!({"cuont": 1})), Code::InvalidParams),
        (
            RunParams {
                lasts: Some("soon".to_owned()),
                ..order("worker.test")
            },
            Code::InvalidParams,
        ),
        (
            RunParams {
                lasts: Some("1ms".to_owned()),
                ..order("worker.test")
            },
            Code::InvalidParams,
        ),
        (
            RunParams {
                rate: Some(0),
                ..order("worker.test")
            },
            Code::InvalidParams,
        ),
        (
            RunParams {
                rate: Some(50_001),
                ..order("worker.test")
            },
            Code::InvalidParams,
        ),
        (order("worker.tset"), Code::NotFound),
    ];
    for (params, code) in table {
        let error = keeper.run(params.clone(), "ann").await.unwrap_err();
        assert!(error.is(code), "{params:?}: {error:?}");
    }
    for id in ["../../etc", "2/x", "", ".", "..", "\u{1b}[2J"] {
        let asked = keeper
            .get(GetParams {
                id: Some(id.to_owned()),
                ..GetParams::default()
            })
            .await;
        assert!(asked.unwrap_err().is(Code::InvalidParams), "{id}");
        let asked = keeper
            .report(ReportParams {
                id: Some(id.to_owned()),
                ..ReportParams::default()
            })
            .await;
        assert!(asked.unwrap_err().is(Code::InvalidParams), "{id}");
    }
    assert!(
        keeper
            .get(GetParams::default())
            .await
            .unwrap_err()
            .is(Code::NotFound)
    );
}

/// Whatever a guard does: nothing stays set, what it left is taken back, the next may come.
async fn check_bad_guard(desc: &str, guard: &str, broken: bool) {
    let house = House::new(guard).await;
    house.lay(Verdict::Pass);
    let keeper = house.keeper();
    keeper
        .run(order("worker.test"), "ann")
        .await
        .unwrap_or_else(|e| panic!("{desc}: {e:?}"));
    house.until(desc, || keeper.running().is_none()).await;
    assert!(house.hands.n_clears() >= 1, "{desc}");
    assert_eq!(house.hands.recovered.load(Ordering::SeqCst), 1, "{desc}");
    assert_eq!(
        !house.events("chaos.guard_broken").is_empty(),
        broken,
        "{desc}"
    );
    assert!(
        house.events("chaos.ended")[0].contains("its guard died"),
        "{desc}"
    );
    assert_eq!(house.setup.shown.get(), None, "{desc}");
    let rows = keeper.history(HistoryParams::default()).await.unwrap().rows;
    assert!(
        rows.iter().all(|row| row.verdict.is_none()),
        "{desc}: {rows:?}"
    );
}

#[tokio::test]
async fn a_guard_that_dies_leaves_nothing_set() {
    check_bad_guard("dies", &format!("{PARK}kill -9 $$\n"), false).await;
}

#[tokio::test]
async fn a_guard_that_talks_nonsense_is_ended() {
    let garbage = format!("{PARK}printf 'what \\033[2J is this\\n'\n{LISTEN}");
    check_bad_guard("lies", &garbage, true).await;
    let order =
        format!("{PARK}echo '{{\"n\":2,\"order\":{{\"rm\":\"-rf\"}},\"limit_ms\":1}}'\n{LISTEN}");
    check_bad_guard("an order that is none", &order, true).await;
}

#[tokio::test]
async fn a_guard_that_floods_is_ended() {
    let flood = format!(
        "{PARK}while echo '{{\"n\":2,\"order\":\"count\",\"limit_ms\":1}}'; do IFS= read -r told; done\n"
    );
    check_bad_guard("floods", &flood, true).await;
    let long = format!("{PARK}head -c 3000000 /dev/zero | tr '\\0' 'x'\n{LISTEN}");
    check_bad_guard("a line without an end", &long, true).await;
}

#[tokio::test]
async fn a_guard_that_cannot_be_started_leaves_nothing_behind() {
    let mut house = House::new("").await;
    house.setup.guard = GuardCommand {
        exe: "/nowhere/guard".into(),
        args: Vec::new(),
    };
    let keeper = house.keeper();
    let error = keeper.run(order("worker.test"), "ann").await.unwrap_err();
    assert!(
        error.is(Code::Internal) && error.message.contains("/nowhere/guard"),
        "{error:?}"
    );
    assert!(keeper.running().is_none());
    assert_eq!(fs::read_dir(&house.folder).unwrap().count(), 0);
}

#[tokio::test]
async fn the_lever_stops_what_runs_and_blocks_what_comes_also_after_a_restart() {
    let house = House::new(&format!(
        "{PARK}IFS= read -r told\nprintf '%s\\n' \"$told\" >> \"$1/told\"\n{REPORT}"
    ))
    .await;
    house.lay(Verdict::Aborted);
    let keeper = house.keeper();
    keeper.run(order("worker.test"), "ann").await.unwrap();
    house
        .until("it begins", || !house.events("chaos.injected").is_empty())
        .await;
    keeper
        .lever(true, "bob", Some("the sale".to_owned()))
        .await
        .unwrap();
    house.until("it ends", || keeper.running().is_none()).await;
    let told = fs::read_to_string(house.bench.dir.path().join("told")).unwrap();
    assert!(
        told.contains(r#"{"stop":{"why":"stopped by bob: the lever: the sale"}}"#),
        "{told}"
    );
    let again = house.keeper();
    for keeper in [&keeper, &again] {
        let error = keeper.run(order("worker.test"), "ann").await.unwrap_err();
        assert!(
            error.is(Code::Refused) && error.message.contains("the sale"),
            "{error:?}"
        );
        assert!(keeper.catalogue().await.unwrap().lever.pulled);
    }
    again.lever(false, "bob", None).await.unwrap();
    assert!(!house.keeper().catalogue().await.unwrap().lever.pulled);
    assert!(
        again.stop("ann", "").await.unwrap_err().is(Code::Refused),
        "nothing runs"
    );
}

#[tokio::test]
async fn a_guard_is_told_when_the_daemon_ends() {
    let house = House::new(&format!("{PARK}{LISTEN}")).await;
    house.lay(Verdict::Aborted);
    let keeper = house.keeper();
    keeper.run(order("worker.test"), "ann").await.unwrap();
    house
        .until("it begins", || !house.events("chaos.injected").is_empty())
        .await;
    // This guard never ends by itself: the closing waits a moment only.
    timeout(SOON, keeper.close())
        .await
        .expect("the end waits for a guard for ever");
    let told = fs::read_to_string(house.bench.dir.path().join("told")).unwrap();
    assert!(told.contains("\"leaving\""), "{told}");
    assert!(house.hands.n_clears() >= 1);
    let error = keeper.run(order("worker.test"), "ann").await.unwrap_err();
    assert!(error.is(Code::Refused), "{error:?}");
}

#[tokio::test]
async fn a_guard_that_outlived_its_daemon_is_watched_and_can_be_stopped() {
    let house = House::new(REPORT).await;
    let id = "20250101T000000.000Z-worker.test";
    let folder = house.put_run(id);
    let lock = File::create(folder.join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let keeper = house.keeper();
    assert_eq!(keeper.running().unwrap().id, id);
    assert_eq!(house.setup.shown.get().unwrap().id, id);
    let error = keeper.run(order("worker.test"), "ann").await.unwrap_err();
    assert!(error.message.contains(id), "{error:?}");
    assert_eq!(keeper.stop("ann", "enough").await.unwrap(), id);
    assert_eq!(
        fs::read_to_string(folder.join("stop")).unwrap(),
        "stopped by ann: enough"
    );
    fs::write(
        folder.join("run.json"),
        json!(run(id, Verdict::Aborted)).to_string(),
    )
    .unwrap();
    drop(lock);
    house.until("it ends", || keeper.running().is_none()).await;
    assert_eq!(house.hands.recovered.load(Ordering::SeqCst), 0);
    assert!(house.events("chaos.ended")[0].contains("aborted"));
    assert!(
        house.events("chaos.injected").is_empty(),
        "that was before this daemon began"
    );
}

#[tokio::test]
async fn only_the_last_runs_are_kept_and_only_the_last_ledgers() {
    let house = House::new(REPORT).await;
    for n in 0..230 {
        let id = format!("2025{n:04}T000000.000Z-worker.test");
        let folder = house.put_run(&id);
        fs::write(
            folder.join("run.json"),
            json!(run(&id, Verdict::Pass)).to_string(),
        )
        .unwrap();
        fs::write(folder.join("ledger.csv"), "x").unwrap();
    }
    fs::create_dir(house.folder.join("not a run")).unwrap();
    let keeper = house.keeper();
    let page = keeper
        .history(HistoryParams {
            limit: Some(200),
            ..HistoryParams::default()
        })
        .await
        .unwrap();
    assert_eq!((page.rows.len(), page.next), (200, None));
    assert!(page.rows[0].id > page.rows[1].id, "newest first");
    assert!(page.rows.last().unwrap().id.starts_with("20250030"));
    let ledgers = page
        .rows
        .iter()
        .filter(|row| house.folder.join(&row.id).join("ledger.csv").exists());
    assert_eq!(ledgers.count(), 20);
    assert!(house.folder.join("not a run").exists());
    let two = HistoryParams {
        limit: Some(2),
        before: Some(page.rows[0].id.clone()),
        ..HistoryParams::default()
    };
    let page = keeper.history(two).await.unwrap();
    assert_eq!(
        (page.rows.len(), page.next.as_ref()),
        (2, Some(&page.rows[1].id))
    );
}

#[tokio::test]
async fn the_schedule_runs_what_is_due_and_leaves_out_what_may_not_run() {
    let house = House::with(&format!("{PARK}{REPORT}"), |config| {
        config.chaos.allow = vec!["worker".to_owned()];
        config.chaos.schedule = pipectl_shared::config::Schedule {
            every: Duration::from_secs(3_600),
            from_hour: 0,
            to_hour: 24,
            seed: 3,
        };
    })
    .await;
    house.lay(Verdict::Pass);
    let keeper = house.keeper();
    let next = async || loop {
        if let Some(next) = keeper.catalogue().await.unwrap().schedule {
            return next;
        }
        tokio::task::yield_now().await;
    };
    let first = timeout(SOON, next()).await.unwrap();
    assert_eq!(first.name, "worker.test", "the only one that is allowed");
    let now = house.bench.setup.clock.now_ms();
    assert!(
        (now + 1_800_000..now + 5_400_000).contains(&first.at_ms),
        "{first:?}"
    );
    house.bench.clock.advance_ms(7_200_000);
    house
        .until("it is run", || house.events("chaos.ended").len() == 1)
        .await;
    assert!(house.events("chaos.started")[0].contains(&format!("seed {}", first.seed)));
    keeper.lever(true, "ann", None).await.unwrap();
    house.bench.clock.advance_ms(7_200_000);
    house
        .until("it is left out", || {
            !house.events("chaos.skipped").is_empty()
        })
        .await;
    let rows: Vec<_> = house
        .bench
        .audit_rows()
        .into_iter()
        .map(|row| (row.user, row.action, row.result))
        .collect();
    assert!(rows.len() >= 2, "{rows:?}");
    assert!(
        rows.iter()
            .all(|(user, action, _)| user == "schedule" && action == "chaos.run")
    );
    assert!(
        rows[0].2.starts_with("ok") && rows[1].2.starts_with("refused: the lever"),
        "{rows:?}"
    );
    keeper.close().await;
    // Another start goes on where this one was.
    let place = fs::read_to_string(house.folder.join("schedule.json")).unwrap();
    assert!(
        !place.contains("\"n\":0") && place.contains("last_ms"),
        "{place}"
    );
}

#[tokio::test]
async fn a_run_of_two_experiments_is_found_by_its_id() {
    let house = House::new(REPORT).await;
    house.lay(Verdict::Pass);
    let keeper = house.keeper();
    let started = keeper
        .run(order("worker.test+net.test"), "ann")
        .await
        .unwrap();
    house.until("it ends", || keeper.running().is_none()).await;
    let asked = GetParams {
        id: Some(started.id.clone()),
        ..GetParams::default()
    };
    assert_eq!(
        keeper.get(asked).await.unwrap().verdict,
        Some(Verdict::Pass)
    );
    let report = keeper.report(ReportParams::default()).await.unwrap();
    assert_eq!(report.id, started.id);
}
