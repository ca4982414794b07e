//! For tests of the keeper and of doors: a small catalogue, hands that remember, a guard that is a shell script.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pipectl_shared::chaos::{Phase, Progress, Run, Running, Verdict};
use pipectl_shared::config::Config;
use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};

use super::{DaemonAt, GuardCommand, Hands, ServerAt, Setup, Timing};
use crate::chaos::{Hits, Order, Point, Shown};
use crate::experiments::{Act, Experiment, Method, Params, Revert, Scene, Step};
use crate::observe::Observer;
use crate::plans::testkit::{Bench, WORKER};

/// Remembers what it was ordered.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) orders: Mutex<Vec<Order>>,
    pub(crate) clears: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) no_network: Mutex<Option<String>>,
}

impl Recorder {
    pub(crate) fn n_clears(&self) -> u64 {
        self.clears.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Hands for Recorder {
    fn begin(&self, _seed: u64) {
        self.orders.lock().unwrap().clear();
    }

    async fn obey(&self, order: Order) -> Result<Hits, String> {
        if order == Order::FlushCaches {
            return Err("no stage has a lookup".to_owned());
        }
        if matches!(order, Order::HoldServer { .. }) {
            std::future::pending::<()>().await;
        }
        let mut orders = self.orders.lock().unwrap();
        orders.push(order);
        Ok(Hits {
            parks: orders.len() as u64,
            ..Hits::default()
        })
    }

    fn clear(&self) {
        self.clears.fetch_add(1, Ordering::SeqCst);
    }

    fn network_refused(&self) -> Option<String> {
        self.no_network.lock().unwrap().clone()
    }
}

fn spec(name: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        summary: "Hurts.".to_owned(),
        params: vec![Param {
            name: "count".to_owned(),
            summary: "How many.".to_owned(),
            kind: ParamKind::Integer { min: 1, max: 8 },
            default: Some("1".to_owned()),
        }],
        scope: Scope::Daemon,
        risk: Risk::Low,
        role: Role::Viewer,
    }
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let n = params.number("count");
    let order = Order::Park {
        consumer: WORKER.to_owned(),
        point: Point::AfterRead,
    };
    Ok(Method {
        targets: vec![format!("{n} of {} stages", scene.stages.len())],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Inside(order),
        }],
        for_ms: params.for_ms.unwrap_or(1_000),
        reverts: vec![Revert::Inside],
        ..Method::default()
    })
}

const fn experiment(
    spec: fn() -> Spec,
    copy_only: bool,
    managed_only: bool,
    method: fn(&Scene, &Params<'_>) -> Result<Method, String>,
) -> Experiment {
    Experiment {
        spec,
        claim: "It holds.",
        copy_only,
        managed_only,
        method,
    }
}

/// One of each kind.
pub(crate) static GALLERY: &[Experiment] = &[
    experiment(|| spec("worker.test"), false, false, method),
    experiment(|| spec("net.test"), false, false, method),
    experiment(|| spec("redis.test"), false, true, method),
    experiment(|| spec("data.burn"), true, false, method),
    experiment(
        || spec("cache.none"),
        false,
        false,
        |_, _| Err("no stage has a lookup".to_owned()),
    ),
];

/// A guard that runs this script; `$1` is a folder of the test's own. `$folder` and `$id` are those of the job.
pub(crate) fn script(dir: &Path, text: &str) -> GuardCommand {
    let head = r#"IFS= read -r job
field() { printf '%s' "$job" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
id=$(printf '%s' "$job" | sed 's/^{"id":"\([^"]*\)".*/\1/')
folder=$(printf '%s' "$job" | sed 's/^[^}]*"folder":"\([^"]*\)".*/\1/' | head -c 4000)
"#;
    let words = [
        "-c",
        &format!("{head}{text}"),
        "guard",
        &dir.display().to_string(),
    ];
    GuardCommand {
        exe: "/bin/sh".into(),
        args: words.map(str::to_owned).to_vec(),
    }
}

/// Makes the stages of a bench look as if their workers read.
pub(crate) fn make_well(bench: &Bench) {
    for stage in bench.setup.handle.stages.iter() {
        // Ahead of a clock that a test sets by hours.
        let now_ms = bench.setup.clock.now_ms() + 7 * 86_400_000;
        stage.meter.last_read_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// What a keeper needs, on a bench.
pub(crate) fn setup(
    bench: &Bench,
    config: &Arc<Config>,
    observer: &Observer,
    guard: GuardCommand,
) -> (Setup, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let recovers = Arc::clone(&recorder);
    let setup = Setup {
        config: Arc::clone(config),
        config_hash: "0123456789abcdef".into(),
        layout: Arc::clone(&bench.setup.layout),
        handle: bench.setup.handle.clone(),
        observer: observer.clone(),
        journal: bench.setup.journal.clone(),
        audit: bench.setup.audit.clone(),
        clock: Arc::clone(&bench.setup.clock),
        inside: Arc::clone(&recorder) as Arc<dyn Hands>,
        shown: Shown::default(),
        guard,
        daemon: DaemonAt {
            pid: std::process::id(),
            socket: bench.dir.path().join("control.sock"),
            exe: "/bin/false".into(),
            args: vec!["run".to_owned()],
            folder: "/".into(),
        },
        server: ServerAt {
            url: "redis+unix:///nowhere".to_owned(),
            username: None,
            password: None,
            tls_ca: None,
            timeout_ms: 1_000,
            managed: false,
        },
        recover: Arc::new(move || {
            let recovers = Arc::clone(&recovers);
            Box::pin(async move {
                recovers.recovered.fetch_add(1, Ordering::SeqCst);
            })
        }),
        timing: Timing::default(),
        seed: 1,
        experiments: GALLERY,
    };
    (setup, recorder)
}

pub(crate) fn running(id: &str) -> Running {
    Running {
        id: id.to_owned(),
        experiment: "worker.test".to_owned(),
        phase: Phase::During,
        started_ms: 1,
        injected_ms: Some(2),
        reverted_ms: None,
        until_ms: None,
        targets: vec!["a-enrich-0".to_owned()],
        by: "ann".to_owned(),
    }
}

pub(crate) fn progress(id: &str) -> Progress {
    Progress {
        running: running(id),
        seed: 7,
        verdict: None,
        why: String::new(),
        marks: Vec::new(),
        slots: Vec::new(),
        run: None,
    }
}

pub(crate) fn run(id: &str, verdict: Verdict) -> Run {
    let running = running(id);
    Run {
        id: id.to_owned(),
        experiment: running.experiment,
        claim: "It holds.".to_owned(),
        params: serde_json::Map::new(),
        targets: running.targets,
        seed: 7,
        rate: 200,
        started_ms: 1,
        ended_ms: 9,
        injected_t_ms: Some(1),
        reverted_t_ms: Some(3),
        verdict,
        why: "it held".to_owned(),
        hypothesis: Vec::new(),
        measurements: pipectl_shared::chaos::Measurements::default(),
        ledger_before: None,
        ledger_after: None,
        timeline: Vec::new(),
        reverted: Vec::new(),
        judged_by: Vec::new(),
        examples: Vec::new(),
        for_ms: 0,
        compared: None,
        by: "ann".to_owned(),
        versions: std::collections::BTreeMap::new(),
        config_hash: String::new(),
        folder: String::new(),
    }
}
