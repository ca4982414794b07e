//! Who is met at a point, and what becomes of them.

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(1);

/// A worker that comes to `point` and tells whether it came past.
fn worker(board: &FaultBoard, tasks: &mut JoinSet<bool>, point: Point) {
    let board = board.clone();
    tasks.spawn(async move {
        board.pass("w", point).await;
        true
    });
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_to_be_killed_waits_at_its_point_and_is_named_once_to_its_own_stage() {
    let board = FaultBoard::default();
    let mut tasks = JoinSet::new();
    board.kill("w", Point::BeforeCommit, SOON);
    worker(&board, &mut tasks, Point::AfterRead);
    assert!(tasks.join_next().await.unwrap().unwrap(), "another point");
    assert_eq!(board.doomed(|_| true), [""; 0], "it is not there yet");
    let heard = board.changed();
    tokio::pin!(heard);
    heard.as_mut().enable();
    worker(&board, &mut tasks, Point::BeforeCommit);
    timeout(SOON, heard).await.expect("it is told");
    assert_eq!(board.doomed(|name| name == "x"), [""; 0], "not its stage");
    assert_eq!(board.doomed(|name| name == "w"), ["w"]);
    assert_eq!(board.doomed(|_| true), [""; 0], "once");
    assert_eq!(board.counts(), (1, 0, 0));
    assert!(timeout(SOON * 60, tasks.join_next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_was_killed_stays_down_for_its_time_or_until_all_is_taken_back() {
    let board = FaultBoard::default();
    let mut tasks = JoinSet::new();
    for (down, wait, expected) in [
        (Duration::ZERO, Duration::ZERO, false),
        (SOON, SOON / 2, true),
        (SOON, SOON, false),
    ] {
        board.kill("w", Point::AfterRead, down);
        worker(&board, &mut tasks, Point::AfterRead);
        settle().await;
        assert_eq!(board.doomed(|_| true), ["w"]);
        tokio::time::sleep(wait).await;
        assert_eq!(
            board.down_until("w").is_some(),
            expected,
            "{down:?} {wait:?}"
        );
        assert_eq!(board.down_until("x"), None);
    }
    board.kill("w", Point::AfterRead, SOON * 60);
    worker(&board, &mut tasks, Point::AfterRead);
    settle().await;
    assert_eq!(board.doomed(|_| true), ["w"]);
    assert!(board.down_until("w").is_some());
    let heard = board.changed();
    tokio::pin!(heard);
    heard.as_mut().enable();
    board.clear();
    timeout(SOON, heard).await.expect("its stage is told");
    assert_eq!(board.down_until("w"), None);
    assert!(!board.is_any(), "nothing is left on the board");
}

#[tokio::test(start_paused = true)]
async fn a_parked_worker_can_be_killed_where_it_stands_and_all_go_on_when_it_is_taken_back() {
    let board = FaultBoard::default();
    let mut tasks = JoinSet::new();
    board.park("w", Point::AfterCommit);
    worker(&board, &mut tasks, Point::AfterCommit);
    settle().await;
    assert_eq!(board.doomed(|_| true), [""; 0], "parked only");
    board.kill("w", Point::AfterCommit, Duration::ZERO);
    settle().await;
    board.clear();
    let passed = timeout(SOON, tasks.join_next()).await.expect("it goes on");
    assert!(passed.unwrap().unwrap());
    board.park("w", Point::AfterCommit);
    worker(&board, &mut tasks, Point::AfterCommit);
    settle().await;
    board.kill("w", Point::AfterCommit, Duration::ZERO);
    settle().await;
    assert_eq!(board.doomed(|_| true), ["w"]);
    assert_eq!(board.counts(), (1, 2, 0));
    board.begin();
    assert_eq!(board.counts(), (0, 0, 0));
}

#[test]
fn every_precaution_is_taken_until_it_is_left_out_and_has_a_name_of_its_own() {
    let board = FaultBoard::default();
    let all: Vec<_> = Precaution::ALL.iter().chain(Precaution::ON_REDIS).collect();
    for (n, one) in all.iter().enumerate() {
        assert_eq!(Precaution::named(one.name()), Some(**one));
        assert!(all[n..].iter().all(|one| board.takes(**one)));
        board.leave_out(**one);
        assert!(all[..=n].iter().all(|one| !board.takes(**one)));
    }
    assert_eq!(Precaution::named("nothing"), None);
}
