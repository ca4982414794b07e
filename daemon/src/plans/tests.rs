//! The life of plans against the store in memory: made, run, confirmed, cancelled, expired, interrupted.

use pipectl_shared::plan::{Outcome, PlanEntry, Selection};

use tokio::time::Instant;

use super::testkit::{Bench, WORKER, ann};
use super::*;
use crate::store::PendingQuery;
use crate::store::memory::Meddler;

fn select(set: impl FnOnce(&mut Selection)) -> Selection {
    let mut select = Selection::default();
    set(&mut select);
    select
}

fn all() -> Selection {
    select(|s| s.all = true)
}

fn params(action: Action, select: Selection) -> PlanParams {
    PlanParams {
        action,
        select,
        to: None,
    }
}

/// The request that runs a plan as it was shown.
fn as_shown(plan: &Plan) -> PlanRunParams {
    PlanRunParams {
        id: plan.id.clone(),
        ids_hash: plan.ids_hash.clone(),
        confirm: plan.bulk.then_some(plan.matched),
        reason: Some("because".to_owned()),
    }
}

/// Runs to the end, however long the first answer takes.
async fn run(plans: &Plans, plan: &Plan) -> Plan {
    let mut now = plans.run(&as_shown(plan), &ann()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while now.state == State::Running {
        assert!(Instant::now() < deadline, "the plan does not end: {now:?}");
        tokio::task::yield_now().await;
        now = plans.show(&plan.id).await.unwrap();
    }
    now
}

async fn n_pending(bench: &Bench) -> usize {
    let query = PendingQuery {
        n_max: 10_000,
        ..PendingQuery::default()
    };
    bench
        .setup
        .admin
        .pending(0, &query)
        .await
        .unwrap()
        .rows
        .len()
}

#[tokio::test]
async fn each_action_does_its_work_once_and_leaves_one_row() {
    type Counter = fn(&Outcome) -> u64;
    let table: [(Action, Counter, &str); 4] = [
        (Action::Claim, |o| o.applied, "applied 250"),
        (Action::Retry, |o| o.applied, "applied 250"),
        (Action::Ack, |o| o.applied, "applied 250"),
        (Action::Dead, |o| o.dead, "dead 250"),
    ];
    for (action, counter, words) in table {
        let mut bench = Bench::new().await;
        bench.worker();
        bench.add_pending(250, "gone").await;
        let plans = bench.plans();
        let plan = plans.create(params(action, all()), &ann()).await.unwrap();
        assert_eq!(
            (plan.matched, plan.state, plan.bulk),
            (250, State::Ready, true),
            "{action:?}"
        );
        assert_eq!(
            n_pending(&bench).await,
            250,
            "{action:?}: making a plan does nothing"
        );
        assert!(
            bench.audit_rows().is_empty(),
            "{action:?}: making a plan is no act"
        );

        let done = run(&plans, &plan).await;
        let result = done.result.clone().unwrap();
        assert_eq!(
            (done.state, done.progress),
            (State::Done, 250),
            "{action:?}"
        );
        assert_eq!(counter(&result), 250, "{action:?}: {result:?}");
        assert_eq!(n_pending(&bench).await, 0, "{action:?}");

        // Asked again, it is answered and not done again.
        let again = plans.run(&as_shown(&plan), &ann()).await.unwrap();
        assert_eq!(again.result, done.result, "{action:?}");
        let rows = bench.audit_rows();
        assert_eq!(rows.len(), 2, "{action:?}: {rows:?}");
        assert!(
            rows[0].result.contains(words),
            "{action:?}: {}",
            rows[0].result
        );
        assert_eq!(
            (rows[0].user.as_str(), rows[0].reason.as_deref()),
            ("ann", Some("because"))
        );
        assert!(
            rows[1].result.contains("nothing done"),
            "{}",
            rows[1].result
        );
    }
}

#[tokio::test]
async fn dead_letters_are_redriven_once_and_purged_without_touching_the_ledger() {
    let mut bench = Bench::new().await;
    bench.worker();
    bench.add_dead(120, "aaaa").await;
    bench.add_dead(5, "bbbb").await;
    let plans = bench.plans();
    let by_cause = |cause: &str| select(|s| s.cause = Some(cause.to_owned()));

    let plan = plans
        .create(params(Action::Redrive, by_cause("aaaa")), &ann())
        .await
        .unwrap();
    assert_eq!(plan.matched, 120);
    assert_eq!(run(&plans, &plan).await.result.unwrap().applied, 120);
    let plan = plans
        .create(params(Action::Redrive, all()), &ann())
        .await
        .unwrap();
    assert_eq!(
        (plan.matched, plan.skipped.len()),
        (5, 120),
        "redriven ones are passed over"
    );
    assert!(plan.skipped.iter().all(|s| s.reason == "already redriven"));

    let before = bench.setup.admin.depth().await.unwrap().ledger;
    let plan = plans
        .create(params(Action::Purge, all()), &ann())
        .await
        .unwrap();
    assert_eq!(run(&plans, &plan).await.result.unwrap().applied, 125);
    assert_eq!(bench.setup.admin.depth().await.unwrap().ledger, before);
}

#[tokio::test]
async fn selections_choose_and_say_what_they_pass_over() {
    let bench = Bench::new().await;
    let ids = bench.add_pending(10, "gone").await;
    bench.clock.advance_ms(60_000);
    let late = bench.add_pending(5, "slow").await;
    let plans = bench.plans();
    let absent = "1-1".to_owned();
    let table: [(&str, Selection, u64, usize); 8] = [
        (
            "a stage",
            select(|s| s.stage = Some("enrich".into())),
            15,
            0,
        ),
        (
            "another stage",
            select(|s| s.stage = Some("count".into())),
            0,
            0,
        ),
        (
            "a consumer",
            select(|s| s.consumer = Some("slow".into())),
            5,
            0,
        ),
        (
            "idle for a while",
            select(|s| s.min_idle_ms = Some(30_000)),
            10,
            0,
        ),
        ("tries", select(|s| s.min_tries = Some(1)), 0, 0),
        (
            "an expression",
            select(|s| s.matching = Some("n < 3".into())),
            6,
            0,
        ),
        (
            "ids, one absent, one twice",
            select(|s| s.ids = vec![ids[0].to_string(), ids[0].to_string(), absent.clone()]),
            1,
            1,
        ),
        (
            "ids that another selector passes over",
            select(|s| {
                s.ids = vec![late[0].to_string()];
                s.consumer = Some("gone".into());
            }),
            0,
            1,
        ),
    ];
    for (desc, select, matched, skipped) in table {
        let plan = plans
            .create(params(Action::Ack, select), &ann())
            .await
            .unwrap();
        assert_eq!(
            (plan.matched, plan.skipped.len()),
            (matched, skipped),
            "{desc}"
        );
    }
}

#[tokio::test]
async fn selections_that_make_no_sense_are_refused() {
    let mut bench = Bench::new().await;
    bench.worker();
    bench.add_pending(2, "gone").await;
    let plans = bench.plans();
    let ids = |n: usize| select(|s| s.ids = (0..n).map(|i| format!("1-{i}")).collect());
    let table: [(&str, PlanParams, &str); 9] = [
        (
            "nothing selected",
            params(Action::Ack, Selection::default()),
            "nothing is selected",
        ),
        (
            "no stage of that name",
            params(Action::Ack, select(|s| s.stage = Some("enrch".into()))),
            "no stage",
        ),
        (
            "no id",
            params(Action::Ack, select(|s| s.ids = vec!["\u{1b}[2J".into()])),
            "no entry id",
        ),
        ("too many ids", params(Action::Ack, ids(10_001)), "too many"),
        (
            "an expression cut short",
            params(Action::Ack, select(|s| s.matching = Some("n <".into()))),
            "expression",
        ),
        (
            "a cause of pending entries",
            params(Action::Ack, select(|s| s.cause = Some("x".into()))),
            "cause",
        ),
        (
            "a consumer of dead letters",
            params(Action::Purge, select(|s| s.consumer = Some("x".into()))),
            "consumer",
        ),
        (
            "handing over what is acknowledged",
            PlanParams {
                to: Some(WORKER.into()),
                ..params(Action::Ack, all())
            },
            "not handed",
        ),
        (
            "handing to nobody",
            PlanParams {
                to: Some("a-enrich-9".into()),
                ..params(Action::Claim, all())
            },
            "no worker",
        ),
    ];
    for (desc, params, part) in table {
        let error = plans.create(params, &ann()).await.unwrap_err();
        assert!(error.is(Code::InvalidParams), "{desc}: {error:?}");
        assert!(error.message.contains(part), "{desc}: {}", error.message);
        assert!(!error.message.contains('\u{1b}'), "{desc}");
    }
}

#[tokio::test]
async fn a_run_needs_the_hash_and_for_bulk_the_count() {
    let mut bench = Bench::new().await;
    bench.worker();
    let ids = bench.add_pending(3, "gone").await;
    let plans = bench.plans();
    let bulk = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    let single = select(|s| s.ids = vec![ids[0].to_string()]);
    let single = plans
        .create(params(Action::Ack, single), &ann())
        .await
        .unwrap();
    assert!(!single.bulk);
    let table: [(&str, PlanRunParams, Code); 5] = [
        (
            "no such plan",
            PlanRunParams {
                id: "../../etc/passwd".into(),
                ..as_shown(&bulk)
            },
            Code::NotFound,
        ),
        (
            "another hash",
            PlanRunParams {
                ids_hash: "0".repeat(64),
                ..as_shown(&bulk)
            },
            Code::Refused,
        ),
        (
            "bulk, not confirmed",
            PlanRunParams {
                confirm: None,
                ..as_shown(&bulk)
            },
            Code::Refused,
        ),
        (
            "bulk, another count",
            PlanRunParams {
                confirm: Some(2),
                ..as_shown(&bulk)
            },
            Code::Refused,
        ),
        (
            "single, another count",
            PlanRunParams {
                confirm: Some(2),
                ..as_shown(&single)
            },
            Code::Refused,
        ),
    ];
    for (n, (desc, params, code)) in table.into_iter().enumerate() {
        let error = plans.run(&params, &ann()).await.unwrap_err();
        assert!(error.is(code), "{desc}: {error:?}");
        let rows = bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{desc}: one row also when refused");
        assert!(
            rows[n].result.starts_with("refused: "),
            "{desc}: {}",
            rows[n].result
        );
        assert_eq!(n_pending(&bench).await, 3, "{desc}: nothing is done");
    }
    assert_eq!(run(&plans, &single).await.result.unwrap().applied, 1);
}

#[tokio::test]
async fn what_changed_since_the_plan_was_made_is_counted_with_its_reason() {
    let mut bench = Bench::new().await;
    bench.worker();
    let ids = bench.add_pending(6, "gone").await;
    let plans = bench.plans();
    let plan = plans
        .create(params(Action::Claim, all()), &ann())
        .await
        .unwrap();
    // One is finished by somebody else meanwhile, one loses its payload.
    bench.setup.admin.discard(0, &ids[..1]).await.unwrap();
    assert_eq!(bench.memory.del("events", &ids[1..2]).await, 1);
    let result = run(&plans, &plan).await.result.unwrap();
    assert_eq!(
        (result.applied, result.not_found, result.trimmed),
        (4, 1, 1),
        "{result:?}"
    );
    let sum = result.applied
        + result.dead
        + result.already_done
        + result.trimmed
        + result.not_found
        + result.failed;
    assert_eq!(sum + result.waiting, plan.matched);
    let named: Vec<_> = result.exceptions.iter().map(|s| s.id.clone()).collect();
    assert_eq!(named, [ids[0].to_string(), ids[1].to_string()]);
}

#[tokio::test]
async fn without_a_live_worker_a_claim_fails_and_says_so() {
    let bench = Bench::new().await;
    bench.add_pending(500, "gone").await;
    let plans = bench.plans();
    let plan = plans
        .create(params(Action::Claim, all()), &ann())
        .await
        .unwrap();
    let result = run(&plans, &plan).await.result.unwrap();
    assert_eq!(result.failed, 500);
    assert!(
        result.exceptions[0].reason.contains("no live worker"),
        "{}",
        result.exceptions[0].reason
    );
    assert!(
        result.exceptions[499].reason.contains("not tried"),
        "{}",
        result.exceptions[499].reason
    );
    assert!(bench.audit_rows()[0].result.starts_with("failed: "));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_never_answers_counts_as_waiting() {
    let mut bench = Bench::new().await;
    let held = std::sync::Arc::new(Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&held);
    bench.worker_with(move |_, order| {
        keep.lock().unwrap().push(order);
        Box::pin(async {})
    });
    bench.add_pending(7, "gone").await;
    let plans = bench.plans();
    let plan = plans
        .create(params(Action::Claim, all()), &ann())
        .await
        .unwrap();
    let first = plans.run(&as_shown(&plan), &ann()).await.unwrap();
    assert_eq!(
        first.state,
        State::Running,
        "the answer does not wait for the worker"
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut now = first;
    while now.state == State::Running && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        now = plans.show(&plan.id).await.unwrap();
    }
    assert_eq!(now.result.unwrap().waiting, 7);
}

#[tokio::test]
async fn a_cancel_stops_between_two_chunks_and_keeps_what_was_done() {
    let mut bench = Bench::new().await;
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(8);
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = std::sync::Arc::clone(&gate);
    bench.worker_with(move |_, order| {
        let (begun, opened) = (begun.clone(), std::sync::Arc::clone(&opened));
        Box::pin(async move {
            begun.send(()).await.unwrap();
            opened.acquire().await.unwrap().forget();
            let answers = vec![crate::runtime::Handed::Applied; order.ids.len()];
            order.answer.send(answers).unwrap();
        })
    });
    bench.add_pending(300, "gone").await;
    let plans = bench.plans();
    let mut told = plans.watch();
    let plan = plans
        .create(params(Action::Claim, all()), &ann())
        .await
        .unwrap();
    let (asked, ask) = (as_shown(&plan), ann());
    let steps = async {
        has_begun.recv().await.unwrap();
        let cancelling = plans.cancel(&plan.id);
        gate.add_permits(100);
        cancelling.await.unwrap()
    };
    let (_, cancelled) = tokio::join!(plans.run(&asked, &ask), steps);
    assert_eq!(
        (cancelled.state, cancelled.progress),
        (State::Cancelled, 100),
        "one chunk was under way"
    );
    assert_eq!(cancelled.result.unwrap().applied, 100);
    let rows = bench.audit_rows();
    assert_eq!(rows.len(), 1);
    assert!(
        rows[0].result.contains("cancelled: 100 of 300"),
        "{}",
        rows[0].result
    );
    assert_eq!(
        told.recv().await.unwrap().progress,
        100,
        "watchers are told"
    );
    let error = plans.cancel(&plan.id).await.unwrap_err();
    assert!(error.is(Code::Refused), "it has ended: {error:?}");
}

#[tokio::test]
async fn a_plan_expires_after_fifteen_minutes() {
    let bench = Bench::new().await;
    bench.add_pending(2, "gone").await;
    let plans = bench.plans();
    let plan = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    bench.clock.advance_ms(15 * 60_000 - 1);
    assert_eq!(plans.show(&plan.id).await.unwrap().state, State::Ready);
    bench.clock.advance_ms(1);
    assert_eq!(plans.show(&plan.id).await.unwrap().state, State::Expired);
    let error = plans.run(&as_shown(&plan), &ann()).await.unwrap_err();
    assert!(
        error.is(Code::Refused) && error.message.contains("expired"),
        "{error:?}"
    );
    assert_eq!(n_pending(&bench).await, 2);
    // Also after a restart, and after a week it is gone.
    assert_eq!(
        bench.plans().show(&plan.id).await.unwrap().state,
        State::Expired
    );
    bench.clock.advance_ms(7 * 24 * 3_600_000);
    let error = bench.plans().show(&plan.id).await.unwrap_err();
    assert!(error.is(Code::NotFound));
    assert_eq!(std::fs::read_dir(bench.plans_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_ready_plan_survives_a_restart_and_a_running_one_is_interrupted() {
    let mut bench = Bench::new().await;
    bench.worker();
    bench.add_pending(3, "gone").await;
    let plans = bench.plans();
    let ready = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    let running = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    drop(plans);
    // As a kill -9 would leave it.
    let path = bench.plans_dir().join(format!("{}.json", running.id));
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"ready\"", "\"running\"");
    std::fs::write(&path, text).unwrap();

    let plans = bench.plans();
    let seen = plans.show(&running.id).await.unwrap();
    assert_eq!(seen.state, State::Interrupted);
    assert!(
        plans.run(&as_shown(&running), &ann()).await.is_err(),
        "never resumed"
    );
    let rows = bench.audit_rows();
    assert!(rows[0].result.contains("interrupted"), "{}", rows[0].result);
    assert_eq!(n_pending(&bench).await, 3);
    assert_eq!(run(&plans, &ready).await.result.unwrap().applied, 3);
    // Told once only.
    let n = bench.audit_rows().len();
    bench.plans();
    assert_eq!(bench.audit_rows().len(), n);
}

#[tokio::test]
async fn a_list_changed_on_the_disk_is_not_run() {
    let bench = Bench::new().await;
    let ids = bench.add_pending(2, "gone").await;
    let plans = bench.plans();
    let one = select(|s| s.ids = vec![ids[0].to_string()]);
    let plan = plans
        .create(params(Action::Ack, one), &ann())
        .await
        .unwrap();
    std::fs::write(
        bench.plans_dir().join(format!("{}.ids", plan.id)),
        format!("enrich {}\n", ids[1]),
    )
    .unwrap();
    let error = plans.run(&as_shown(&plan), &ann()).await.unwrap_err();
    assert!(error.message.contains("changed on the disk"), "{error:?}");
    assert_eq!(n_pending(&bench).await, 2);
    assert_eq!(bench.audit_rows().len(), 1);
}

#[tokio::test]
async fn unreadable_files_are_told_and_left_alone() {
    let bench = Bench::new().await;
    std::fs::create_dir_all(bench.plans_dir()).unwrap();
    for (name, text) in [
        ("a.json", "{"),
        ("b.json", "\u{1b}[2J"),
        ("c.json", "{\"plan\":1}"),
    ] {
        std::fs::write(bench.plans_dir().join(name), text).unwrap();
    }
    std::fs::write(bench.plans_dir().join("d.ids"), "enrich 1-1\n").unwrap();
    assert!(bench.plans().list().is_empty());
    let told = bench
        .setup
        .journal
        .last(10)
        .iter()
        .filter(|e| e.name == "plan.unreadable")
        .count();
    assert_eq!(told, 3);
    assert!(bench.plans_dir().join("a.json").exists());
    assert!(
        !bench.plans_dir().join("d.ids").exists(),
        "a list without its plan is rubbish"
    );
}

#[tokio::test]
async fn close_interrupts_between_chunks_and_refuses_new_plans() {
    let mut bench = Bench::new().await;
    let plans = bench.plans();
    let stopper = plans.clone();
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(8);
    bench.worker_with(move |_, order| {
        let (stopper, begun) = (stopper.clone(), begun.clone());
        Box::pin(async move {
            begun.send(()).await.unwrap();
            stopper.0.stop.cancelled().await;
            order
                .answer
                .send(vec![crate::runtime::Handed::Applied; order.ids.len()])
                .unwrap();
        })
    });
    bench.add_pending(200, "gone").await;
    let plan = plans
        .create(params(Action::Claim, all()), &ann())
        .await
        .unwrap();
    let (asked, by) = (as_shown(&plan), ann());
    let closing = async {
        has_begun.recv().await.unwrap();
        plans.close().await;
    };
    let (_, ()) = tokio::join!(plans.run(&asked, &by), closing);
    assert_eq!(
        plans.show(&plan.id).await.unwrap().state,
        State::Interrupted
    );
    let error = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap_err();
    assert!(error.is(Code::Unavailable));
    assert_eq!(bench.audit_rows().len(), 1);
}

#[tokio::test]
async fn the_equal_command_names_ids_only() {
    let bench = Bench::new().await;
    let ids = bench.add_pending(30, "$(rm -rf /)\u{1b}[2J").await;
    let plans = bench.plans();
    let by_consumer = select(|s| s.consumer = Some("$(rm -rf /)\u{1b}[2J".into()));
    let plan = plans
        .create(params(Action::Ack, by_consumer), &ann())
        .await
        .unwrap();
    assert_eq!(plan.matched, 30);
    assert_eq!(
        plan.command,
        format!("pipectl plan run {} --confirm 30", plan.id)
    );
    let two = select(|s| s.ids = vec![ids[0].to_string(), ids[1].to_string()]);
    let plan = plans
        .create(params(Action::Ack, two), &ann())
        .await
        .unwrap();
    let expected = format!(
        "pipectl pending ack --stage enrich --id {} {} --confirm 2",
        ids[0], ids[1]
    );
    assert_eq!(plan.command, expected);
    assert_eq!(
        plan.sample[0],
        PlanEntry {
            stage: "enrich".into(),
            id: ids[0].to_string()
        }
    );
}

#[tokio::test]
async fn undo_is_refused_with_a_way_on() {
    let bench = Bench::new().await;
    bench.add_pending(1, "gone").await;
    let plans = bench.plans();
    let plan = plans
        .create(params(Action::Dead, all()), &ann())
        .await
        .unwrap();
    assert!(!plan.can_undo);
    let error = plans.undo(&plan.id).unwrap_err();
    assert!(error.is(Code::Refused) && error.data.is_some());
    assert!(plans.undo("nope").unwrap_err().is(Code::NotFound));
}

#[tokio::test]
async fn the_oldest_ended_plan_makes_room_and_open_ones_do_not() {
    let bench = Bench::new().await;
    let plans = bench.plans();
    let first = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    plans.cancel(&first.id).await.unwrap();
    let open = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    {
        let mut heads = plans.0.heads();
        let kept = heads[&open.id].kept.clone();
        for n in 2..KEPT_MAX {
            heads.insert(
                format!("test{n}"),
                Head {
                    kept: kept.clone(),
                    running: None,
                },
            );
        }
    }
    plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap();
    assert!(plans.show(&first.id).await.unwrap_err().is(Code::NotFound));
    let error = plans
        .create(params(Action::Ack, all()), &ann())
        .await
        .unwrap_err();
    assert!(error.is(Code::Busy), "{error:?}");
}
