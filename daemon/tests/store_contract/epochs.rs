//! Hole 13: after the stream went back, ids come again that others have noted. `(epoch, id)` tells them apart.

use pipelined::store::{Admin, EpochSeen, StreamMark};

use super::harness::*;

/// One look; the first question after a restart may meet the old connection.
async fn look(admin: &dyn Admin, known: Option<&StreamMark>, fresh: u64) -> EpochSeen {
    match admin.epoch(known, fresh).await {
        Ok(seen) => seen,
        Err(_) => admin.epoch(known, fresh).await.expect("look at the epoch"),
    }
}

pub(crate) async fn hole_13_a_stream_that_only_grows_keeps_its_epoch(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &*bench.admin;
    let first = look(admin, None, 1).await;
    assert_eq!(first.why.as_deref(), Some("first"));
    assert_eq!(first.mark.epoch, "1-0000000000000001");
    let ids = bench.add(0, 10).await;
    let grown = look(admin, Some(&first.mark), 2).await;
    assert_eq!((&grown.mark.epoch, grown.why), (&first.mark.epoch, None));
    assert_eq!((grown.mark.last, grown.mark.added), (ids[9], 10));
    // The last entry that was seen is deleted, the rest trimmed: neither takes anything back.
    bench.meddler.del(SOURCE, &ids[9..]).await;
    bench.add(10, 12).await;
    let after_del = look(admin, Some(&grown.mark), 3).await;
    assert_eq!(after_del.why, None);
    bench.meddler.trim_to(SOURCE, 1).await;
    bench.add(12, 14).await;
    let after_trim = look(admin, Some(&after_del.mark), 4).await;
    assert_eq!(after_trim.why, None);
    bench.meddler.trim_to(SOURCE, 0).await;
    let empty = look(admin, Some(&after_trim.mark), 5).await;
    assert_eq!((empty.why, empty.mark.epoch), (None, first.mark.epoch));
}

pub(crate) async fn hole_13_a_deleted_stream_begins_a_new_epoch(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &*bench.admin;
    bench.add(0, 5).await;
    let first = look(admin, None, 1).await.mark;
    bench.meddler.delete_stream(SOURCE).await;
    // As many and more than there were: neither the last id nor the number of entries tells.
    bench.add(5, 14).await;
    let second = look(admin, Some(&first), 2).await;
    assert_eq!(second.why.as_deref(), Some("the stream began anew"));
    assert_eq!(second.mark.epoch, "2-0000000000000002");
    // Nobody remembers but the store itself.
    bench.meddler.delete_stream(SOURCE).await;
    let third = look(admin, None, 3).await;
    assert_eq!(third.mark.epoch, "3-0000000000000003", "{third:?}");
    let same = look(admin, Some(&third.mark), 4).await;
    assert_eq!((same.why, same.mark.epoch), (None, third.mark.epoch));
}

pub(crate) async fn hole_13_a_flushed_server_begins_a_new_epoch(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &*bench.admin;
    bench.add(0, 5).await;
    let first = look(admin, None, 1).await.mark;
    bench.meddler.flush().await;
    let second = look(admin, Some(&first), 2).await;
    assert_eq!(second.mark.epoch, "2-0000000000000002");
    assert_eq!(second.why.as_deref(), Some("the server has forgotten it"));
}

pub(crate) async fn hole_13_a_server_that_went_back_begins_a_new_epoch_whatever_came_since(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &*bench.admin;
    for (round, n_since) in [0_u32, 2, 3, 10].into_iter().enumerate() {
        let from = u32::try_from(round).expect("small") * 100;
        bench.add(from, from + 5).await;
        look(admin, None, 90).await;
        assert!(bench.meddler.remember().await);
        bench.add(from + 5, from + 8).await;
        // With this id somebody else's record ends.
        let known = look(admin, None, 91).await.mark;
        bench.meddler.roll_back().await;
        // The connection that was cut answers the first question with an error.
        look(
            admin,
            Some(&StreamMark {
                epoch: known.epoch.clone(),
                ..StreamMark::default()
            }),
            92,
        )
        .await;
        if n_since > 0 {
            bench.add(from + 50, from + 50 + n_since).await;
        }
        let fresh = 10 + u64::from(n_since);
        let seen = look(admin, Some(&known), fresh).await;
        assert!(
            seen.mark.epoch.ends_with(&format!("{fresh:016x}")),
            "{n_since} since: {seen:?}"
        );
        assert_eq!(
            seen.why.as_deref(),
            Some("the server is back at an earlier instant"),
            "{n_since} since"
        );
    }
}

pub(crate) async fn hole_13_an_epoch_that_was_rolled_back_never_comes_again(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &*bench.admin;
    bench.add(0, 5).await;
    let first = look(admin, None, 1).await.mark;
    assert!(bench.meddler.remember().await);
    bench.meddler.delete_stream(SOURCE).await;
    let second = look(admin, Some(&first), 2).await.mark;
    bench.meddler.roll_back().await;
    let third = look(admin, Some(&second), 3).await;
    assert_eq!(third.mark.epoch, "3-0000000000000003");
    assert_eq!(
        third.why.as_deref(),
        Some("the server is back in an earlier epoch")
    );
}

pub(crate) async fn hole_13_daemons_agree_on_the_epoch(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let (one, other) = (&*bench.admin, backend.open(counting()).await.admin());
    bench.add(0, 5).await;
    let first = look(one, None, 1).await.mark;
    let also = look(&*other, None, 2).await.mark;
    assert_eq!(also, first);
    bench.meddler.delete_stream(SOURCE).await;
    let second = look(one, Some(&first), 3).await;
    let told = look(&*other, Some(&first), 4).await;
    assert_eq!(
        (told.mark, told.why),
        (second.mark, None),
        "taken over, not begun again"
    );
}
