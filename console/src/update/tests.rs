//! Tables of `update`: a console, keys and answers, and what comes of them.
//!
//! Past 400 lines because each table is one kind of message, and all of them stand on the same desk.

use pipectl_shared::chaos::RunParams;
use pipectl_shared::plan::{Action, Selection, State};
use pipectl_shared::rpc::Role;
use pipectl_shared::snapshot::Page;

use super::gate;
use crate::facts::Freshness;
use crate::fixtures::{self, Desk, NOW_MS, RUN_ID, Scene, THEME, fault};
use crate::keys::Key;
use crate::message::{Answer, Effect, LinkMsg, Msg, Question};
use crate::model::{Focus, Layer, PAGE_ROWS, PlanStep};
use crate::place::Id;

/// A connected console on the pending list, wide enough for everything.
fn pending() -> Desk {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Pending);
    desk
}

/// The plan for all entries of the stuck consumer, before its question.
fn bulk() -> Desk {
    let mut desk = pending();
    desk.press("x C");
    desk
}

/// What was asked and is not answered.
fn asked(desk: &Desk) -> Vec<&Question> {
    desk.asked.iter().map(|(_, question)| question).collect()
}

/// The step of the plan that lies on top.
#[track_caller]
fn step(desk: &Desk) -> &PlanStep {
    match desk.model.layers.last() {
        Some(Layer::Plan(step)) => step,
        other => panic!("no plan on top: {other:?}"),
    }
}

fn notice(desk: &Desk) -> &str {
    desk.model
        .notice
        .as_ref()
        .map_or("", |notice| notice.text.as_str())
}

fn cursor(desk: &Desk) -> &str {
    let view = desk.model.list(desk.model.screen);
    view.cursor.as_deref().unwrap_or("")
}

fn n_shown(desk: &Desk) -> usize {
    desk.model.list(desk.model.screen).order.len()
}

fn marks(desk: &Desk) -> Vec<usize> {
    let view = desk.model.list(Id::Pending);
    let rows = fixtures::pending();
    rows.iter()
        .enumerate()
        .filter(|(_, row)| view.marks.contains(&format!("{} {}", row.stage, row.id)))
        .map(|(at, _)| at)
        .collect()
}

#[test]
fn a_stuck_batch_is_claimed_with_its_count_typed() {
    let mut desk = bulk();
    let PlanStep::Confirm(confirm) = step(&desk) else {
        panic!("{:?}", step(&desk));
    };
    assert_eq!(confirm.focus, Focus::Cancel);
    assert_eq!(
        confirm.plan.select.consumer.as_deref(),
        Some("pl1-enrich-3")
    );
    desk.press("4 1 8 Tab");
    desk.type_text("inc 7");
    desk.press("Tab Tab");
    desk.now_ms += 200;
    desk.press_only("Enter");
    let [Question::PlanRun(params)] = asked(&desk)[..] else {
        panic!("{:?}", desk.asked);
    };
    assert_eq!(params.id, "8f21c0");
    assert_eq!(params.ids_hash, "2c26b46b68ffc68ff99b453c1d304134");
    assert_eq!(params.confirm, Some(418));
    assert_eq!(params.reason.as_deref(), Some("inc 7"));
    desk.answer_all();
    assert!(matches!(step(&desk), PlanStep::Running(_, false)));
    let plan = desk.plan.clone().unwrap();
    desk.tell(LinkMsg::Progress(Box::new(fixtures::running(&plan, 7))));
    assert!(matches!(step(&desk), PlanStep::Running(plan, _) if plan.progress == 7));
    desk.tell(LinkMsg::Progress(Box::new(fixtures::done(&plan))));
    assert!(matches!(step(&desk), PlanStep::Ended(plan) if plan.state == State::Done));
    // The list is looked at anew, and the journal knows how it ended.
    assert!(matches!(asked(&desk)[..], [Question::Pending(_)]));
    let deed = desk.model.deeds.last().unwrap();
    assert_eq!(deed.command, "pipectl plan run 8f21c0 --confirm 418");
    assert!(
        deed.result
            .as_deref()
            .unwrap()
            .starts_with("done: applied 414")
    );
    desk.press("Esc");
    assert!(desk.model.layers.is_empty());
}

#[test]
fn one_entry_needs_no_count_but_the_way_to_the_button() {
    let mut desk = pending();
    desk.press("x c");
    let selected = Selection {
        stage: Some("enrich".to_owned()),
        ids: vec![format!("{}-0", NOW_MS - 372_100)],
        ..Selection::default()
    };
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm)
        if confirm.plan.select == selected && confirm.plan.action == Action::Claim));
    desk.press("Right");
    desk.press_only("Enter");
    assert!(matches!(asked(&desk)[..], [Question::PlanRun(params)] if params.confirm.is_none()));
}

#[test]
fn keys_that_do_not_confirm_do_nothing() {
    let table = [
        ("Enter on Cancel leaves", "Enter", true),
        ("Esc leaves", "Esc", true),
        ("Esc leaves from the count", "4 1 8 Esc", true),
        ("no count", "Tab Enter", false),
        ("Enter in the count only goes on", "4 1 8 Enter", false),
        ("a wrong count", "4 1 7 Tab Tab Tab Enter", false),
        ("a count and more", "4 1 8 0 Tab Tab Tab Enter", false),
        (
            "the count in the reason",
            "S-Tab 4 1 8 Tab Tab Enter",
            false,
        ),
        ("letters are no buttons", "y Y c r x", false),
        ("Right and Enter without a count", "Right Enter", false),
    ];
    for (desc, keys, is_left) in table {
        let mut desk = bulk();
        for key in keys.split(' ') {
            desk.now_ms += 200;
            desk.press_only(key);
        }
        assert!(desk.asked.is_empty(), "{desc}: {:?}", desk.asked);
        assert!(desk.model.deeds.is_empty(), "{desc}");
        assert_eq!(desk.model.layers.is_empty(), is_left, "{desc}");
        if is_left {
            assert_eq!(notice(&desk), "nothing was done", "{desc}");
        }
    }
}

#[test]
fn keys_typed_before_a_dialog_was_drawn_are_not_meant_for_it() {
    for (ms, is_meant) in [(0, false), (149, false), (150, true)] {
        let mut desk = pending();
        desk.press("x");
        desk.press_only("c");
        desk.answer_all();
        desk.now_ms += ms;
        desk.press_only("Right");
        desk.press_only("Enter");
        let n_run = asked(&desk)
            .iter()
            .filter(|question| matches!(question, Question::PlanRun(_)))
            .count();
        assert_eq!(n_run, usize::from(is_meant), "{ms} ms");
    }
    // Esc means the same everywhere: away from here.
    let mut desk = pending();
    desk.press("x");
    desk.press_only("c");
    desk.answer_all();
    desk.press_only("Esc");
    assert!(desk.model.layers.is_empty());
}

#[test]
fn a_plan_that_was_refused_says_why_where_it_was_confirmed() {
    let mut desk = bulk();
    desk.press("4 1 8 Tab Tab Tab");
    desk.press_only("Enter");
    desk.press_only("Enter");
    assert_eq!(desk.asked.len(), 1, "sent once: {:?}", desk.asked);
    desk.answer_with(Err(fault("the list changed", Some("make the plan anew"))));
    let PlanStep::Confirm(confirm) = step(&desk) else {
        panic!("{:?}", step(&desk));
    };
    assert_eq!(
        confirm.fault,
        Some(fault("the list changed", Some("make the plan anew")))
    );
    assert_eq!(confirm.focus, Focus::Cancel);
    let deed = desk.model.deeds.last().unwrap();
    assert_eq!(deed.result.as_deref(), Some("refused: the list changed"));
    assert!(desk.model.running_plan().is_none());
}

#[test]
fn a_plan_of_nothing_does_not_run() {
    let mut desk = pending();
    desk.press("x");
    desk.press_only("c");
    let Some((_, Question::PlanCreate(params))) = desk.asked.front().cloned() else {
        panic!("{:?}", desk.asked);
    };
    let mut plan = fixtures::plan(&params);
    plan.matched = 0;
    desk.answer_with(Ok(Answer::Plan(plan)));
    desk.press("Right Enter");
    assert!(desk.asked.is_empty() && desk.model.deeds.is_empty());
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm)
        if confirm.fault.as_ref().unwrap().message.contains("nothing matched")));
}

#[test]
fn a_running_plan_is_cancelled_once_and_only_where_something_may_act() {
    let mut desk = bulk();
    desk.press("4 1 8 Tab Tab Tab Enter");
    desk.press_only("c");
    desk.press_only("c");
    assert!(matches!(asked(&desk)[..], [Question::PlanCancel(params)] if params.id == "8f21c0"));
    desk.answer_all();
    assert!(matches!(step(&desk), PlanStep::Ended(plan) if plan.state == State::Cancelled));

    let mut desk = bulk();
    desk.press("4 1 8 Tab Tab Tab Enter");
    desk.role = Role::Viewer;
    desk.greet();
    desk.asked.clear();
    desk.press_only("c");
    assert!(desk.asked.is_empty(), "{:?}", desk.asked);
    assert!(notice(&desk).starts_with("cancel: your role"));
}

#[test]
fn a_daemon_that_goes_while_a_plan_is_made_leaves_nothing_behind() {
    let mut desk = pending();
    desk.press("x");
    desk.press_only("c");
    let (ticket, question) = desk.asked.front().cloned().unwrap();
    desk.go_down();
    assert!(matches!(step(&desk), PlanStep::Failed(_, fault) if fault.message.contains("lost")));
    // Its answer, if one still comes, belongs to nobody.
    let answer = desk.answer_to(&question).map(Box::new);
    desk.tell(LinkMsg::Answer { ticket, answer });
    assert!(matches!(step(&desk), PlanStep::Failed(..)));
    desk.press_only("Enter");
    assert!(desk.model.layers.is_empty());
}

#[test]
fn a_daemon_that_comes_back_is_asked_what_became_of_the_plan() {
    for (desc, state) in [
        ("it goes on", State::Running),
        ("it stopped", State::Interrupted),
    ] {
        let mut desk = bulk();
        desk.press("4 1 8 Tab Tab Tab Enter");
        desk.go_down();
        assert!(matches!(step(&desk), PlanStep::Running(..)), "{desc}");
        desk.pass(1_000);
        assert!(desk.asked.is_empty(), "{desc}: {:?}", desk.asked);
        desk.greet();
        let shows = |question: &&Question| matches!(question, Question::PlanShow(params) if params.id == "8f21c0");
        assert_eq!(
            asked(&desk).iter().filter(|q| shows(q)).count(),
            1,
            "{desc}"
        );
        desk.plan.as_mut().unwrap().state = state;
        desk.answer_all();
        match (state, step(&desk)) {
            (State::Running, PlanStep::Running(..)) => {}
            (State::Interrupted, PlanStep::Ended(_)) => {
                assert_eq!(desk.model.deeds[0].result.as_deref(), Some("interrupted"));
            }
            (_, other) => panic!("{desc}: {other:?}"),
        }
    }
}

#[test]
fn a_plan_whose_start_was_not_answered_is_looked_up_too() {
    let mut desk = bulk();
    desk.press("4 1 8 Tab Tab Tab");
    desk.press_only("Enter");
    desk.go_down();
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm) if confirm.is_sent));
    desk.greet();
    desk.plan.as_mut().unwrap().state = State::Running;
    desk.answer_all();
    assert!(
        matches!(step(&desk), PlanStep::Running(..)),
        "{:?}",
        step(&desk)
    );
}

#[test]
fn nothing_acts_where_nothing_may() {
    type Way = fn() -> Desk;
    let table: [(&str, Way, &str); 3] = [
        (
            "read-only console",
            || {
                let mut desk = Desk::with((80, 24), THEME, true);
                desk.come_up();
                desk.go(Id::Pending);
                desk
            },
            "read-only",
        ),
        (
            "viewer",
            || {
                let mut desk = pending();
                desk.role = Role::Viewer;
                desk.greet();
                desk.answer_all();
                desk
            },
            "your role is viewer",
        ),
        (
            "no daemon",
            || {
                let mut desk = pending();
                desk.go_down();
                desk
            },
            "not connected",
        ),
    ];
    for (desc, way, part) in table {
        let mut desk = way();
        desk.press("x c");
        assert!(desk.model.layers.is_empty(), "{desc}");
        assert!(notice(&desk).contains(part), "{desc}: {}", notice(&desk));
        desk.press(":");
        desk.type_text("stage.pause");
        desk.press_only("Enter");
        assert!(desk.model.layers.is_empty(), "{desc}");
        assert!(desk.asked.is_empty(), "{desc}: {:?}", desk.asked);
    }
}

#[test]
fn a_right_that_goes_while_a_dialog_is_open_is_gone() {
    type Loss = fn(&mut Desk);
    let losses: [(&str, Loss); 3] = [
        ("read-only", |desk| desk.model.options.read_only = true),
        ("viewer", |desk| {
            desk.role = Role::Viewer;
            desk.greet();
            desk.answer_all();
        }),
        ("no daemon", Desk::go_down),
    ];
    for (desc, lose) in losses {
        let mut desk = bulk();
        desk.press("4 1 8 Tab Tab Tab");
        lose(&mut desk);
        desk.press_only("Enter");
        assert!(desk.asked.is_empty(), "{desc}: {:?}", desk.asked);
        assert!(matches!(step(&desk), PlanStep::Confirm(confirm) if confirm.fault.is_some()));

        let mut desk = pending();
        desk.press(":");
        desk.type_text("stage.scale");
        desk.press("Enter");
        desk.type_text("enrich");
        desk.press("Tab 8 Tab Tab Tab Enter Right");
        lose(&mut desk);
        desk.press_only("Enter");
        assert!(desk.asked.is_empty(), "{desc}: {:?}", desk.asked);
        assert!(desk.model.deeds.is_empty(), "{desc}");
    }
}

#[test]
fn the_last_gate_lets_only_questions_through_that_read() {
    let asks = |question| Effect::Ask(1, Box::new(question));
    let run = asks(Question::PlanRun(Default::default()));
    let look = asks(Question::Causes);
    let all = vec![run, look.clone(), Effect::Redraw];
    assert_eq!(gate(false, all.clone()), all);
    assert_eq!(gate(true, all), [look, Effect::Redraw]);
}

#[test]
fn a_command_is_shown_before_it_is_done() {
    let mut desk = pending();
    desk.press(":");
    desk.type_text("stage.scale");
    desk.press("Enter");
    desk.type_text("enrich");
    desk.press("Tab 8 Tab Tab Tab");
    desk.press_only("Enter");
    assert!(matches!(asked(&desk)[..], [Question::Command(params)] if params.dry_run));
    desk.answer_all();
    // The focus is on Cancel now: the same key again does not do it.
    desk.press_only("Enter");
    assert!(desk.asked.is_empty() && desk.model.layers.is_empty());

    desk.press(":");
    desk.type_text("stage.scale");
    desk.press("Enter");
    desk.type_text("enrich");
    desk.press("Tab 8 Tab Tab Tab Enter Right");
    desk.press_only("Enter");
    assert!(matches!(asked(&desk)[..], [Question::Command(params)] if !params.dry_run));
    desk.answer_all();
    assert_eq!(notice(&desk), "stage.scale: stage enrich has 8 workers");
    assert_eq!(desk.model.deeds[0].command, "pipectl scale enrich 8");
    // A change after the dry run wants another dry run.
    desk.press(":");
    desk.type_text("stage.scale");
    desk.press("Enter");
    desk.type_text("enrich");
    desk.press("Tab 8 Tab Tab Tab Enter S-Tab S-Tab Backspace 9 Tab Tab Tab");
    desk.press_only("Enter");
    assert!(
        matches!(asked(&desk)[..], [Question::Command(params)] if params.dry_run),
        "{:?}",
        desk.asked
    );
}

#[test]
fn the_pending_list_asks_for_what_owners_have_in_hand() {
    let mut desk = Desk::live((80, 24));
    desk.press_only("2");
    assert!(
        matches!(asked(&desk)[..], [Question::Pending(params)] if params.in_flight),
        "{:?}",
        desk.asked
    );
}

#[test]
fn nothing_is_done_to_what_is_in_flight_but_its_menu_says_why() {
    let mut desk = pending();
    desk.press("G x");
    for letter in ["c", "r", "d", "a", "o"] {
        desk.press_only(letter);
        assert!(desk.asked.is_empty(), "{letter}: {:?}", desk.asked);
        let why = notice(&desk);
        assert!(
            why.contains("in flight with pl1-detect-0: wait") || why.contains("owned here"),
            "{letter}: {why}"
        );
        // The menu stays: there may be something else to do.
        assert!(
            matches!(desk.model.layers[..], [Layer::Menu(_)]),
            "{letter}"
        );
        desk.model.notice = None;
    }
    // No plan for all that its owner holds, which would be none of these.
    desk.press_only("C");
    assert!(desk.asked.is_empty() && matches!(desk.model.layers[..], [Layer::Menu(_)]));
    desk.press_only("f");
    assert_eq!(desk.model.list(Id::Pending).filter, "consumer=pl1-detect-0");
}

#[test]
fn a_partition_is_taken_over_from_the_screens_that_show_its_stage() {
    for id in [Id::Overview, Id::Topology] {
        let mut desk = Desk::live((160, 45));
        desk.go(id);
        // The last stage is another daemon's; the form opens on Cancel.
        desk.press("G x o Right");
        desk.press_only("Enter");
        let [Question::Command(params)] = asked(&desk)[..] else {
            panic!("{id:?}: {:?}", desk.asked);
        };
        assert_eq!((params.name.as_str(), params.dry_run), ("stage.take", true));
        assert_eq!(params.params["stage"], "aggregate");
        desk.answer_all();
        desk.press("Right Enter");
        let deed = desk.model.deeds.last().unwrap();
        assert_eq!(deed.command, "pipectl take aggregate", "{id:?}");
        assert!(desk.model.layers.is_empty());
    }
    // From the pending list by its filter, also where nothing is listed.
    let mut desk = pending();
    desk.is_empty = true;
    desk.press("/");
    desk.type_text("stage=aggregate");
    desk.press("Enter x o");
    assert!(matches!(desk.model.layers[..], [Layer::Form(_)]));
}

#[test]
fn a_filter_narrows_while_it_is_typed_and_asks_the_daemon_when_it_is_kept() {
    let mut desk = pending();
    desk.press("/");
    desk.type_text("batch");
    assert_eq!((n_shown(&desk), desk.asked.len()), (1, 0));
    desk.press("Esc");
    assert_eq!(
        (n_shown(&desk), desk.model.list(Id::Pending).filter.as_str()),
        (15, "")
    );

    desk.press("/");
    desk.type_text(r#"stage=enrich consumer="batch job 7" idle>1h"#);
    desk.press_only("Enter");
    let [Question::Pending(params)] = asked(&desk)[..] else {
        panic!("{:?}", desk.asked);
    };
    assert_eq!(params.select.consumer.as_deref(), Some("batch job 7"));
    assert_eq!(params.select.min_idle_ms, Some(3_600_000));
    assert!(!params.select.all);
    // Old rows are never shown as those of the new filter.
    assert_eq!(n_shown(&desk), 0);
    desk.answer_all();
    desk.press_only("Esc");
    assert!(matches!(asked(&desk)[..], [Question::Pending(params)] if params.select.all));
}

#[test]
fn a_filter_that_cannot_be_read_is_named_and_stays_open() {
    for (typed, part) in [
        ("idle>soon", "idle>soon"),
        ("tries>=x", "tries>=x"),
        ("consumer=\"a", "closing quote"),
    ] {
        let mut desk = pending();
        desk.press("/");
        desk.type_text(typed);
        desk.press_only("Enter");
        assert!(notice(&desk).contains(part), "{typed}: {}", notice(&desk));
        assert!(desk.model.list(Id::Pending).typing.is_some(), "{typed}");
        assert!(desk.asked.is_empty(), "{typed}");
    }
}

#[test]
fn a_name_with_spaces_is_filtered_by_the_menu() {
    let mut desk = pending();
    desk.press("/");
    desk.type_text("batch");
    desk.press("Enter x");
    desk.now_ms += 200;
    desk.press_only("f");
    assert_eq!(
        desk.model.list(Id::Pending).filter,
        r#"consumer="batch job 7""#
    );
    assert!(
        matches!(asked(&desk)[..], [Question::Pending(params)] if params.select.consumer.as_deref() == Some("batch job 7"))
    );
}

#[test]
fn a_filter_of_a_list_without_selection_is_only_text() {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Audit);
    desk.press("/");
    desk.type_text("consumer=x");
    desk.press_only("Enter");
    assert!(desk.asked.is_empty(), "{:?}", desk.asked);
    assert_eq!(n_shown(&desk), 0);
}

#[test]
fn rows_are_marked_one_by_one_in_ranges_and_all() {
    let table: [(&str, &str, &[usize]); 8] = [
        ("one", "Space", &[0]),
        ("three in a row", "Space Space Space", &[0, 1, 2]),
        ("and one back", "Space Space Up Space", &[0]),
        ("a range downwards", "j v j j v", &[1, 2, 3]),
        ("a range upwards", "j j j v k k v", &[1, 2, 3]),
        ("a range that was given up", "v j j Esc j", &[]),
        ("cleared", "Space Space C-\\", &[]),
        ("cleared by Esc", "Space Space Esc", &[]),
    ];
    for (desc, keys, expected) in table {
        let mut desk = pending();
        desk.press(keys);
        assert_eq!(marks(&desk), expected, "{desc}");
    }
    let mut desk = pending();
    desk.press("A");
    assert_eq!(marks(&desk).len(), 15);
    // What a filter hides is no longer marked: it would be acted on unseen.
    desk.press("/");
    desk.type_text("batch");
    desk.press("Enter");
    assert_eq!(marks(&desk), [0; 0]);
    desk.press("A");
    assert_eq!(marks(&desk), [13]);
    // All marked rows go into the plan, and only they.
    desk.press("Esc Esc Space Space x c");
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm) if confirm.plan.matched == 2));
}

#[test]
fn columns_sort_both_ways_and_back() {
    let first = |desk: &Desk| {
        let view = desk.model.list(Id::Pending);
        fixtures::pending()[view.order[0]].consumer.clone()
    };
    let mut desk = pending();
    assert_eq!(first(&desk), "pl1-enrich-3");
    desk.press("s s s");
    assert_eq!(first(&desk), "batch job 7");
    assert!(notice(&desk).contains("CONSUMER"));
    desk.press("S");
    assert_eq!(first(&desk), "pl1-enrich-3");
    // Past the last column the daemon's own order is back.
    desk.press("s s s s s s s s s");
    assert_eq!(desk.model.list(Id::Pending).sort, None);
    // An unknown size comes last, whichever way.
    for keys in ["s s s s s s s s s", "s s s s s s s s s S"] {
        let mut desk = pending();
        desk.press(keys);
        let view = desk.model.list(Id::Pending);
        let last = fixtures::pending()[view.order[14]].size_bytes;
        assert_eq!(last, None, "{keys}");
    }
}

#[test]
fn a_frozen_picture_stands_still_and_goes_on() {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Events);
    desk.press("f");
    let mut later = fixtures::snapshot(0);
    later.ts_ms += 5_000;
    later.seq += 5;
    later.events[5].seq += 1;
    later.events[5].ts_ms += 5_000;
    desk.stats(later.clone());
    assert!(matches!(
        desk.model.facts.freshness(desk.now_ms),
        Freshness::Frozen(_)
    ));
    assert_eq!(desk.model.facts.snapshot().unwrap().ts_ms, NOW_MS);
    assert_eq!((n_shown(&desk), desk.model.facts.events.len()), (6, 7));
    desk.pass(4_000);
    assert!(desk.asked.is_empty(), "a frozen list is not asked for");
    desk.press_only("f");
    assert_eq!(desk.model.facts.snapshot().unwrap().ts_ms, later.ts_ms);
    assert_eq!(n_shown(&desk), 7);
}

#[test]
fn events_are_followed_at_the_top_and_held_elsewhere() {
    let mut later = fixtures::snapshot(0);
    later.events[5].seq += 1;
    later.events[5].ts_ms += 5_000;
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Events);
    desk.stats(later.clone());
    assert_eq!(cursor(&desk), format!("{} 107", NOW_MS - 7_000));
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Events);
    desk.press("j");
    let before = cursor(&desk).to_owned();
    desk.stats(later);
    assert_eq!(
        (cursor(&desk), desk.model.list(Id::Events).at),
        (before.as_str(), 2)
    );
}

#[test]
fn a_paste_goes_into_a_field_and_nowhere_else() {
    let paste = |desk: &mut Desk, text: &str| {
        desk.take(Msg::Paste {
            text: text.to_owned(),
            n_keys: 99,
        });
    };
    let mut desk = pending();
    paste(&mut desk, "xcq");
    assert!(desk.model.layers.is_empty() && desk.effects.is_empty());
    assert!(notice(&desk).contains("99 keys"));

    desk.press("/");
    paste(&mut desk, "bat\u{1b}ch");
    let field = desk.model.list(Id::Pending).typing.as_ref().unwrap();
    assert_eq!(field.text(), "batch");

    let mut desk = bulk();
    desk.press("S-Tab");
    paste(&mut desk, "418");
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm)
        if confirm.reason.text() == "418" && confirm.count.text().is_empty()));
    // The count is read and typed, never pasted.
    desk.press("S-Tab");
    paste(&mut desk, "418");
    assert!(matches!(step(&desk), PlanStep::Confirm(confirm) if confirm.count.text().is_empty()));

    let mut desk = pending();
    desk.press(":");
    paste(&mut desk, "stage.pause");
    assert!(
        matches!(desk.model.layers.last(), Some(Layer::Palette(palette)) if palette.field.text() == "stage.pause")
    );
}

#[test]
fn quitting_asks_while_a_plan_runs() {
    let mut desk = pending();
    desk.press("q");
    assert_eq!(desk.effects, [Effect::Quit]);

    let mut desk = bulk();
    desk.press("4 1 8 Tab Tab Tab Enter Esc q");
    assert!(matches!(
        desk.model.layers.last(),
        Some(Layer::Quit(Focus::Cancel))
    ));
    desk.press("Enter");
    assert!(desk.effects.is_empty() && desk.model.layers.is_empty());
    desk.press("q Tab Enter");
    assert_eq!(desk.effects, [Effect::Quit]);

    // Ctrl-C asks nothing, wherever it is pressed; Esc never quits.
    let mut desk = bulk();
    desk.press("C-c");
    assert_eq!(desk.effects, [Effect::Quit]);
    let mut desk = pending();
    desk.press("Esc Esc Esc");
    assert!(desk.effects.is_empty());
}

/// Rows of a long list, and a cursor for more behind them.
fn long(from: u32, next: Option<&str>) -> Answer {
    let row = &fixtures::pending()[0];
    let rows = (from..from + PAGE_ROWS)
        .map(|n| pipectl_shared::snapshot::Pending {
            id: format!("{n}-0"),
            ..row.clone()
        })
        .collect();
    Answer::Pending(Page {
        rows,
        next: next.map(str::to_owned),
        total: Some(5_000),
    })
}

/// A console on a list of which the first page came.
fn long_list() -> Desk {
    let mut desk = pending();
    desk.pass(2_000);
    assert!(matches!(asked(&desk)[..], [Question::Pending(_)]));
    desk.answer_with(Ok(long(0, Some("p1"))));
    desk
}

#[test]
fn the_next_page_is_fetched_near_the_end_and_only_once() {
    let mut desk = long_list();
    for _ in 0..149 {
        desk.press_only("j");
    }
    assert!(desk.asked.is_empty(), "too early: {:?}", desk.asked);
    desk.press_only("j");
    desk.press_only("j");
    let [Question::Pending(params)] = asked(&desk)[..] else {
        panic!("{:?}", desk.asked);
    };
    assert_eq!(params.cursor.as_deref(), Some("p1"));
    desk.answer_with(Ok(long(200, None)));
    assert_eq!((n_shown(&desk), cursor(&desk)), (400, "enrich 151-0"));
    desk.press_only("G");
    assert!(desk.asked.is_empty(), "there is no third page");
}

#[test]
fn the_cursor_stays_on_its_row_when_rows_come_and_go() {
    let mut desk = long_list();
    desk.press_only("j");
    desk.press_only("j");
    assert_eq!(cursor(&desk), "enrich 2-0");
    desk.pass(2_000);
    desk.answer_with(Ok(long(1, Some("p1"))));
    let view = desk.model.list(Id::Pending);
    assert_eq!((view.cursor.as_deref(), view.at), (Some("enrich 2-0"), 1));
    // Its row is gone: what stands there now is not taken for it in silence.
    desk.pass(2_000);
    desk.answer_with(Ok(long(50, Some("p1"))));
    assert!(notice(&desk).contains("is gone"), "{}", notice(&desk));
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut desk = pending();
    desk.pass(2_000);
    let (ticket, question) = desk.asked.pop_front().unwrap();
    // The filter changed meanwhile: these would be the wrong rows.
    desk.press("/");
    desk.type_text("stage=detect");
    desk.press_only("Enter");
    let answer = desk.answer_to(&question).map(Box::new);
    desk.tell(LinkMsg::Answer { ticket, answer });
    assert_eq!(n_shown(&desk), 0);
    desk.answer_all();
    assert_eq!(n_shown(&desk), 15);
    // An answer of another kind is told.
    desk.pass(2_000);
    desk.answer_with(Ok(Answer::Latency(Vec::new())));
    assert!(notice(&desk).contains("something else"));
}

#[test]
fn a_payload_that_comes_for_another_entry_is_not_shown() {
    let mut desk = pending();
    desk.press_only("Enter");
    let mut row = fixtures::pending()[1].clone();
    row.fields = Some(fixtures::fields(0));
    desk.answer_with(Ok(Answer::PendingEntry(row)));
    assert!(
        matches!(desk.model.layers.last(), Some(Layer::Detail(detail))
        if detail.of.fields().is_none() && detail.fault.is_some())
    );
}

#[test]
fn a_text_is_scrolled_to_its_end_and_no_further() {
    let mut desk = pending();
    desk.press("?");
    for _ in 0..200 {
        desk.press_only("j");
    }
    let Some(Layer::Help(bottom)) = desk.model.layers.last().cloned() else {
        panic!("{:?}", desk.model.layers);
    };
    assert!((20..100).contains(&bottom), "{bottom}");
    desk.press_only("k");
    assert!(matches!(desk.model.layers.last(), Some(Layer::Help(at)) if *at == bottom - 1));

    let mut desk = pending();
    desk.press("Enter");
    for _ in 0..40 {
        desk.press_only("PgDn");
    }
    let line = |desk: &Desk| match desk.model.layers.last() {
        Some(Layer::Detail(detail)) => detail.line,
        other => panic!("{other:?}"),
    };
    // 16,384 bytes of the last field in lines of 76 cells, and what stands before.
    let bottom = line(&desk);
    assert!((216..300).contains(&bottom), "{bottom}");
    desk.press_only("k");
    assert_eq!(line(&desk), bottom - 1);
}

#[test]
fn digits_and_letters_go_to_screens() {
    let mut desk = Desk::live((80, 24));
    for (keys, id) in [
        ("2", Id::Pending),
        ("d", Id::Dead),
        ("u", Id::Causes),
        ("c", Id::Consumers),
        ("5", Id::Events),
        ("a", Id::Alerts),
        ("u", Id::Audit),
        ("2", Id::Consumers),
        ("5", Id::Audit),
        ("Tab", Id::Events),
        ("S-Tab", Id::Audit),
    ] {
        desk.press(keys);
        assert_eq!(desk.model.screen, id, "{keys}");
    }
    desk.take(Msg::Key(Key::Char('Z')));
    assert!(notice(&desk).contains("Z does nothing here"));
}

#[test]
fn enter_leads_from_a_cause_a_consumer_and_an_alert_to_their_entries() {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Causes);
    desk.press_only("Enter");
    assert_eq!(desk.model.screen, Id::Dead);
    assert!(matches!(asked(&desk)[..], [Question::Dead(params)]
        if params.select.cause.as_deref() == Some("a41f09d2c7b3e815")));

    let mut desk = Desk::live((80, 24));
    desk.go(Id::Consumers);
    desk.press("j");
    desk.press_only("Enter");
    assert!(matches!(asked(&desk)[..], [Question::Pending(params)]
        if params.select.consumer.as_deref() == Some("batch job 7")));

    let mut desk = Desk::live((80, 24));
    desk.go(Id::Alerts);
    desk.press("Enter");
    assert_eq!(desk.model.screen, Id::Pending);
    assert_eq!(n_shown(&desk), 15);
}

#[test]
fn all_letters_of_a_cause_are_redriven_by_their_cause() {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Causes);
    for (letter, action) in [("r", Action::Redrive), ("p", Action::Purge)] {
        desk.press("x");
        desk.press_only(letter);
        let [Question::PlanCreate(params)] = asked(&desk)[..] else {
            panic!("{:?}", desk.asked);
        };
        assert_eq!(params.action, action);
        assert_eq!(
            params.select,
            Selection {
                cause: Some("a41f09d2c7b3e815".to_owned()),
                ..Selection::default()
            }
        );
        desk.answer_all();
        desk.press("Esc");
    }
}

#[test]
fn a_plan_by_filter_is_offered_only_where_the_daemon_reads_the_whole_filter() {
    let has_plan = |filter: &str| {
        let mut desk = pending();
        desk.press("/");
        desk.type_text(filter);
        desk.press("Enter x");
        let Some(Layer::Menu(menu)) = desk.model.layers.last() else {
            return false;
        };
        menu.items.iter().any(|item| item.letter == 'F')
    };
    assert!(has_plan("stage=enrich idle>1s"));
    // "Claim all that match batch" would claim all there are: the daemon knows nothing of words looked for here.
    assert!(!has_plan("batch"));
    assert!(!has_plan("stage=enrich batch"));
}

/// A connected console on the chaos screen, with the cursor on an experiment that has parameters.
fn chaos() -> Desk {
    let mut desk = Desk::live((80, 24));
    desk.go(Id::Chaos);
    desk.press("j j j j j");
    assert_eq!(cursor(&desk), "net.latency");
    desk
}

/// The question that begins a run, or asks what it would do.
#[track_caller]
fn asked_to_run(desk: &Desk) -> &RunParams {
    let run = desk.asked.iter().find_map(|(_, question)| match question {
        Question::RunExperiment(params) => Some(&**params),
        _ => None,
    });
    run.unwrap_or_else(|| panic!("nothing is run: {:?}", desk.asked))
}

fn n_asked_to_stop(desk: &Desk) -> usize {
    let stop = |question: &&Question| matches!(question, Question::StopExperiment(_));
    asked(desk).into_iter().filter(stop).count()
}

#[test]
fn an_experiment_is_shown_confirmed_and_run_with_the_seed_that_was_shown() {
    let mut desk = Desk::live((80, 24));
    desk.press_only("4");
    assert!(matches!(asked(&desk)[..], [Question::Experiments]));
    desk.answer_all();
    desk.press("j j j j j Enter");
    assert!(matches!(desk.model.layers.last(), Some(Layer::Form(_))));
    // Up to the delay, which the operator wants longer; then how long, and why.
    desk.press("Down C-u");
    desk.type_text("250ms");
    desk.press("Down Down Down");
    desk.type_text("20s");
    desk.press("Down Down Down");
    desk.type_text("it's a drill");
    desk.press("Tab Tab");
    desk.press_only("Enter");
    let params = asked_to_run(&desk).clone();
    assert!(params.dry_run);
    assert_eq!(params.name, "net.latency");
    assert_eq!(params.params["delay"], "250ms");
    assert_eq!(params.params["share"], "30%");
    assert_eq!(params.lasts.as_deref(), Some("20s"));
    assert_eq!((params.rate, params.seed), (None, None));
    assert!(!params.params.contains_key("for"), "{params:?}");
    assert!(desk.model.deeds.is_empty(), "nothing was done yet");
    desk.answer_all();
    let Some(Layer::Rehearsal(shown)) = desk.model.layers.last() else {
        panic!("{:?}", desk.model.layers.last());
    };
    assert_eq!(shown.focus, Focus::Cancel);
    assert_eq!(shown.preview.seed, 1_906);
    desk.press("Tab");
    desk.now_ms += 200;
    desk.press_only("Enter");
    let params = asked_to_run(&desk).clone();
    assert!(!params.dry_run);
    assert_eq!(params.seed, Some(1_906));
    desk.answer_all();
    assert!(desk.model.layers.is_empty());
    let deed = desk.model.deeds.last().unwrap();
    assert_eq!(
        deed.command,
        r"pipectl chaos run net.latency --for 20s --set delay=250ms --set jitter=50ms --set share=30% --seed 1906 --reason 'it'\''s a drill'"
    );
    assert_eq!(deed.result, Some(format!("began {RUN_ID}")));
    // It is watched until its end, which the journal knows.
    desk.set_scene(Scene::Running);
    desk.pass(1_000);
    desk.answer_all();
    assert!(desk.model.drill.is_live);
    assert_eq!(desk.model.drill.watch.as_ref().unwrap().slots.len(), 33);
    desk.set_scene(Scene::Deviated);
    desk.pass(1_000);
    let get = asked(&desk)
        .into_iter()
        .find_map(|question| match question {
            Question::Run(params) => Some(params.clone()),
            _ => None,
        });
    let get = get.unwrap();
    assert_eq!((get.after_mark, get.after_t_ms), (7, 33_000));
    desk.answer_all();
    let watch = desk.model.drill.watch.as_ref().unwrap();
    assert_eq!((watch.slots.len(), watch.marks.len()), (63, 12));
    let result = desk.model.deeds.last().unwrap().result.clone().unwrap();
    assert!(result.contains("deviated: recovered 9.1s"), "{result}");
    // Nothing more is asked of a run that has ended.
    desk.pass(10_000);
    let runs = |desk: &Desk| {
        let is_run = |question: &&Question| matches!(question, Question::Run(_));
        asked(desk).into_iter().filter(is_run).count()
    };
    assert_eq!(runs(&desk), 0, "{:?}", desk.asked);
}

#[test]
fn a_wrong_parameter_is_named_and_nothing_is_asked() {
    let table = [
        ("delay", "3s", "from 1ms to 2s"),
        ("delay", "soon", "from 1ms to 2s"),
        ("share", "0%", "from 1% to 100%"),
        ("share", "170", "from 1% to 100%"),
        ("share", "-5%", "from 1% to 100%"),
        ("for", "long", "no duration"),
        ("rate", "0", "from 1 to 50000"),
        ("seed", "x", "no whole number"),
    ];
    for (name, text, part) in table {
        let mut desk = chaos();
        desk.press("Enter");
        let Some(Layer::Form(form)) = desk.model.layers.last() else {
            panic!("no form");
        };
        let at = form.spec.params.iter().position(|param| param.name == name);
        let (at, run) = (at.unwrap(), form.run());
        for _ in 0..run - at {
            desk.press("Up");
        }
        desk.press("C-u");
        desk.type_text(text);
        for _ in 0..run - at {
            desk.press("Down");
        }
        desk.press_only("Enter");
        assert!(desk.asked.is_empty(), "{name} {text}: {:?}", desk.asked);
        let Some(Layer::Form(form)) = desk.model.layers.last() else {
            panic!("the form is gone");
        };
        assert_eq!(form.focus, at, "{name} {text}");
        let Some(Err(fault)) = &form.would else {
            panic!("{name} {text}: {:?}", form.would);
        };
        assert!(fault.message.starts_with(name), "{}", fault.message);
        assert!(fault.message.contains(part), "{}", fault.message);
    }
}

#[test]
fn who_may_not_is_told_why_before_anything_is_asked() {
    let no_right = |desk: &mut Desk| {
        let mut hello = Box::new(fixtures::hello(Role::Operator));
        hello.rights.clear();
        let socket = String::new();
        desk.tell(LinkMsg::Up { hello, socket });
        desk.answer_all();
    };
    type Way = fn(&mut Desk);
    type Set<'a> = &'a dyn Fn(&mut Desk);
    let table: [(&str, Set<'_>, &str); 4] = [
        ("off", &|desk| desk.set_scene(Scene::Off), "enabled = true"),
        ("lever", &|desk| desk.set_scene(Scene::Lever), "sre-ben"),
        (
            "running",
            &|desk| desk.set_scene(Scene::Running),
            "one at a time",
        ),
        ("right", &no_right, "the right chaos"),
    ];
    let ways: [(&str, Way); 2] = [
        ("enter", |desk| desk.press("Enter")),
        ("palette", |desk| {
            desk.press(":");
            desk.type_text("chaos.run net.latency");
            desk.press("Enter");
        }),
    ];
    for (desc, set, part) in table {
        for (way, go) in ways {
            let mut desk = Desk::live((80, 24));
            set(&mut desk);
            desk.go(Id::Chaos);
            desk.press("Esc j j j j j");
            go(&mut desk);
            assert!(desk.model.layers.is_empty(), "{desc} {way}");
            assert!(
                notice(&desk).contains(part),
                "{desc} {way}: {}",
                notice(&desk)
            );
            assert!(desk.asked.is_empty(), "{desc} {way}: {:?}", desk.asked);
        }
    }
}

#[test]
fn the_right_to_experiments_is_one_of_its_own() {
    for (role, rights, may) in [
        (Role::Viewer, vec!["chaos".to_owned()], true),
        (Role::Admin, Vec::new(), false),
    ] {
        let mut desk = chaos();
        let mut hello = Box::new(fixtures::hello(role));
        hello.rights = rights;
        let socket = String::new();
        desk.tell(LinkMsg::Up { hello, socket });
        desk.answer_all();
        desk.press("Enter");
        let has_form = matches!(desk.model.layers.last(), Some(Layer::Form(_)));
        assert_eq!(has_form, may, "{role:?}: {}", notice(&desk));
        desk.press("Esc");
        desk.set_scene(Scene::Running);
        desk.press_only("S");
        assert_eq!(n_asked_to_stop(&desk), usize::from(may), "{role:?}");
    }
}

#[test]
fn one_key_stops_what_runs_and_asks_nothing_before() {
    let mut desk = Desk::live((80, 24));
    desk.set_scene(Scene::Running);
    desk.go(Id::Chaos);
    desk.press_only("S");
    assert_eq!(n_asked_to_stop(&desk), 1, "{:?}", desk.asked);
    // Pressed again out of fear: one stop is enough.
    desk.press_only("S");
    assert_eq!(n_asked_to_stop(&desk), 1);
    desk.answer_all();
    let deed = desk.model.deeds.last().unwrap();
    assert_eq!(deed.command, "pipectl chaos stop");
    assert_eq!(deed.result.as_deref(), Some("stopping net.latency"));
    // The id of what is shown is what is copied, not that of a row out of sight; and Esc and L go to and fro.
    desk.press("y");
    assert_eq!(desk.effects.last(), Some(&Effect::Copy(RUN_ID.to_owned())));
    desk.press("Esc");
    assert!(!desk.model.drill.is_live);
    desk.press("L");
    assert!(desk.model.drill.is_live);
    // From any screen by name.
    desk.go(Id::Pending);
    desk.press(":");
    desk.type_text("chaos.stop");
    desk.press_only("Enter");
    assert_eq!(n_asked_to_stop(&desk), 1);
    // Elsewhere the key only sorts, and where nothing runs it says so.
    for (scene, id) in [(Scene::Running, Id::Runs), (Scene::Idle, Id::Chaos)] {
        let mut desk = Desk::live((80, 24));
        desk.set_scene(scene);
        desk.go(id);
        desk.press_only("S");
        assert_eq!(n_asked_to_stop(&desk), 0, "{scene:?} {id:?}");
    }
    // A console that only looks.
    let mut desk = Desk::with((80, 24), THEME, true);
    desk.come_up();
    desk.set_scene(Scene::Running);
    desk.go(Id::Chaos);
    desk.press_only("S");
    assert_eq!(n_asked_to_stop(&desk), 0);
    assert!(notice(&desk).contains("read-only"), "{}", notice(&desk));
}

#[test]
fn the_lever_is_pulled_and_taken_back_with_a_reason() {
    let mut desk = chaos();
    for (word, pull) in [("on", true), ("off", false)] {
        desk.press("x l");
        desk.type_text("sale");
        desk.press("Tab Tab Enter");
        assert!(desk.asked.is_empty(), "the first press only tells");
        desk.press("Tab");
        desk.press_only("Enter");
        let [Question::Lever(params)] = asked(&desk)[..] else {
            panic!("{:?}", desk.asked);
        };
        assert_eq!(
            (params.pull, params.reason.as_deref()),
            (pull, Some("sale"))
        );
        desk.answer_all();
        assert!(desk.model.layers.is_empty());
        let deed = desk.model.deeds.last().unwrap();
        assert_eq!(
            deed.command,
            format!("pipectl chaos lever {word} --reason sale")
        );
        assert_eq!(desk.model.pulled_lever().is_some(), pull);
    }
}

#[test]
fn a_preview_that_comes_late_is_for_nobody() {
    // The form is left; one of another experiment, or of the same anew, is opened and asked for.
    for (way, name) in [
        ("Esc j Enter", "net.blackhole"),
        ("Esc Enter", "net.latency"),
    ] {
        let mut desk = chaos();
        desk.press("Enter");
        desk.press_only("Enter");
        let (ticket, question) = desk.asked.pop_front().unwrap();
        desk.press(way);
        desk.press_only("Enter");
        let answer = desk.answer_to(&question).map(Box::new);
        desk.tell(LinkMsg::Answer { ticket, answer });
        assert!(
            matches!(desk.model.layers.last(), Some(Layer::Form(form)) if form.is_sent),
            "{name}: {:?}",
            desk.model.layers.last()
        );
        desk.answer_all();
        let Some(Layer::Rehearsal(shown)) = desk.model.layers.last() else {
            panic!("{:?}", desk.model.layers.last());
        };
        assert_eq!(shown.preview.experiment, name);
    }
    // A preview of another experiment than was asked for is no preview.
    let mut desk = chaos();
    desk.press("Enter");
    desk.press_only("Enter");
    let other = fixtures::preview(&RunParams {
        name: "redis.kill".to_owned(),
        ..RunParams::default()
    });
    desk.answer_with(Ok(Answer::Rehearsed(other)));
    assert!(matches!(desk.model.layers.last(), Some(Layer::Form(form))
        if matches!(form.would, Some(Err(_))) && !form.is_sent));
}

#[test]
fn keys_pressed_before_the_question_was_there_do_not_begin_a_run() {
    let mut desk = chaos();
    desk.press("Enter");
    // A person who types ahead: show, to the button, begin.
    for key in ["Enter", "Tab", "Enter"] {
        desk.press_only(key);
    }
    desk.answer_all();
    desk.press_only("Tab");
    desk.press_only("Enter");
    assert!(desk.asked.is_empty(), "{:?}", desk.asked);
    assert!(matches!(
        desk.model.layers.last(),
        Some(Layer::Rehearsal(_))
    ));
    // Enter alone leaves, as in every dialog.
    desk.now_ms += 200;
    desk.press_only("Enter");
    assert!(matches!(desk.model.layers.last(), Some(Layer::Form(_))));
    assert!(desk.model.deeds.is_empty());
}

#[test]
fn what_would_be_refused_has_no_button_and_a_refusal_is_read_where_it_was_asked() {
    let mut desk = chaos();
    desk.press("Enter");
    desk.press_only("Enter");
    let mut preview = fixtures::preview(asked_to_run(&desk));
    preview.refused = Some("it is not steady".to_owned());
    desk.answer_with(Ok(Answer::Rehearsed(preview)));
    desk.press("Tab Enter");
    assert!(desk.asked.is_empty());
    assert!(matches!(desk.model.layers.last(), Some(Layer::Form(_))));
    desk.press("Down Up Enter Tab");
    desk.now_ms += 200;
    desk.press_only("Enter");
    desk.answer_with(Err(fault("another experiment began in between", None)));
    let Some(Layer::Rehearsal(shown)) = desk.model.layers.last() else {
        panic!("{:?}", desk.model.layers.last());
    };
    assert_eq!(shown.focus, Focus::Cancel);
    assert!(
        shown
            .fault
            .as_ref()
            .unwrap()
            .message
            .contains("another experiment")
    );
    let deed = desk.model.deeds.last().unwrap();
    assert!(
        deed.result
            .as_deref()
            .unwrap()
            .starts_with("failed: another")
    );
}

#[test]
fn a_run_is_asked_for_each_second_while_it_is_looked_at_and_never_twice_at_a_time() {
    let n_runs = |desk: &Desk| {
        let is_run = |question: &&Question| matches!(question, Question::Run(_));
        asked(desk).into_iter().filter(is_run).count()
    };
    let mut desk = Desk::live((80, 24));
    desk.set_scene(Scene::Running);
    desk.pass(1_000);
    assert_eq!(n_runs(&desk), 0, "nobody looks");
    desk.press_only("4");
    assert_eq!(n_runs(&desk), 1);
    desk.pass(5_000);
    assert_eq!(n_runs(&desk), 1, "its answer is under way");
    desk.answer_all();
    desk.pass(900);
    assert_eq!(n_runs(&desk), 0);
    desk.pass(100);
    assert_eq!(n_runs(&desk), 1);
    // The connection goes, as it does when the daemon is what is killed: it goes on where it was.
    desk.go_down();
    desk.pass(30_000);
    assert_eq!(n_runs(&desk), 0);
    desk.greet();
    let get = asked(&desk)
        .into_iter()
        .find_map(|question| match question {
            Question::Run(params) => Some(params.clone()),
            _ => None,
        });
    assert_eq!(get.unwrap().after_t_ms, 33_000);
    desk.answer_all();
    // A picture that is held asks for nothing.
    desk.set_scene(Scene::Running);
    desk.press("f");
    desk.asked.clear();
    desk.model.asked.clear();
    desk.pass(5_000);
    assert_eq!(n_runs(&desk), 0);
}

#[test]
fn the_answer_of_a_run_that_is_watched_no_more_changes_nothing() {
    let mut desk = Desk::live((80, 24));
    desk.set_scene(Scene::Running);
    desk.press_only("4");
    let at = desk
        .asked
        .iter()
        .position(|(_, question)| matches!(question, Question::Run(_)));
    let (ticket, question) = desk.asked.remove(at.unwrap()).unwrap();
    desk.answer_all();
    // Another run began before it was answered.
    let mut snapshot = fixtures::snapshot(0);
    let mut running = fixtures::running_experiment();
    running.id = "20261120T150000-8".to_owned();
    running.experiment = "redis.kill".to_owned();
    snapshot.status.chaos = Some(running);
    desk.stats(snapshot);
    desk.answer_all();
    assert_eq!(desk.model.drill.watch.as_ref().unwrap().slots.len(), 33);
    let answer = desk.answer_to(&question).map(Box::new);
    desk.tell(LinkMsg::Answer { ticket, answer });
    let watch = desk.model.drill.watch.as_ref().unwrap();
    assert_eq!(watch.running.id, "20261120T150000-8");
    assert_eq!(watch.slots.len(), 33, "what was known of it is gone");
    // The catalogue is older than the Snapshot: it does not bring the first one back.
    desk.pass(2_000);
    desk.answer_all();
    let watch = desk.model.drill.watch.as_ref().unwrap();
    assert_eq!(watch.running.id, "20261120T150000-8");
}

#[test]
fn the_document_of_a_run_opens_and_a_late_one_of_another_is_not_it() {
    let mut desk = Desk::live((80, 24));
    desk.set_scene(Scene::Deviated);
    desk.press("4 r");
    assert_eq!(desk.model.screen, Id::Runs);
    desk.press_only("Enter");
    let (first, question) = desk.asked.pop_front().unwrap();
    desk.press("Esc j");
    desk.press_only("Enter");
    let answer = desk.answer_to(&question).map(Box::new);
    desk.tell(LinkMsg::Answer {
        ticket: first,
        answer,
    });
    let view = |desk: &Desk| match desk.model.layers.last() {
        Some(Layer::Run(view)) => (view.id.clone(), view.progress.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(view(&desk), ("20261120T114501-6".to_owned(), false));
    desk.answer_all();
    assert_eq!(view(&desk), ("20261120T114501-6".to_owned(), true));
    desk.press("y");
    assert!(matches!(desk.effects.last(), Some(Effect::Copy(id)) if id == "20261120T114501-6"));
    desk.press("G G Esc");
    assert!(desk.model.layers.is_empty());
}

#[test]
fn an_answer_to_a_command_is_not_taken_for_that_of_an_experiment() {
    // Asked to stop and not answered; meanwhile a command is looked at. Its dry run must not end the stop's line.
    let mut desk = Desk::live((80, 24));
    desk.set_scene(Scene::Running);
    desk.go(Id::Chaos);
    desk.press_only("S");
    let at = desk
        .asked
        .iter()
        .position(|(_, question)| matches!(question, Question::StopExperiment(_)));
    let (ticket, stop) = desk.asked.remove(at.unwrap()).unwrap();
    desk.press(":");
    desk.type_text("stage.pause");
    desk.press("Enter");
    desk.type_text("enrich");
    desk.press("Tab Tab Tab Enter");
    assert!(matches!(desk.model.layers.last(), Some(Layer::Form(form))
        if matches!(form.would, Some(Ok(_)))));
    assert_eq!(desk.model.deeds.last().unwrap().result, None);
    let answer = desk.answer_to(&stop).map(Box::new);
    desk.tell(LinkMsg::Answer { ticket, answer });
    assert!(desk.model.deeds.last().unwrap().result.is_some());
}
