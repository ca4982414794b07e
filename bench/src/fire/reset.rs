//! 12: somebody destroys, resets, deletes or flushes under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::books::{Against, Books};
use super::house::{GROUPS, HOP, House, Shape, wait};
use super::load::{Load, Policy, Record};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 3_000;
/// From the deed to the next commits of both stages.
const HANDLED_MS: f64 = 2_000.0;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    for shape in Shape::BOTH {
        groups(field, shape).with_context(|| format!("groups, {}", shape.name()))?;
        for (command, what) in [
            (&["FLUSHALL"][..], Deed::Flush),
            (&["DEL", "events"], Deed::Source),
            (&["DEL", HOP], Deed::Hop),
        ] {
            deed(field, shape, command, what)
                .with_context(|| format!("{command:?}, {}", shape.name()))?;
        }
    }
    Ok(())
}

struct Scene {
    house: House,
    daemon: Daemon,
    load: Load,
}

fn scene(field: &Field<'_>, shape: Shape, name: &str) -> Result<Scene> {
    let house = House::new(field, Keeps::EverySecond, shape)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("{name}{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    house.watch()?.wait_counted(500)?;
    Ok(Scene {
        house,
        daemon,
        load,
    })
}

impl Scene {
    /// Milliseconds until both stages commit again after what was just done.
    fn handled(&self) -> Result<f64> {
        let begun = Instant::now();
        let mut watch = self.house.watch()?;
        let before = watch.done()?;
        wait("commits of both stages", Duration::from_secs(30), || {
            let done = watch.done()?;
            // A flush takes the counts with it: then any count is a new one.
            let is_on = |i: usize| done[i] != before[i] && done[i] > 0;
            Ok((is_on(0) && is_on(1)).then(|| begun.elapsed().as_secs_f64() * 1e3))
        })
    }

    fn end(self, against: Against) -> Result<(Books, Record, House)> {
        let record = self.load.stop()?;
        let mut books = Books::settle(&self.house, &self.daemon, &record, against)?;
        self.daemon.drain()?;
        books.names_left(&self.house)?;
        Ok((books, record, self.house))
    }
}

/// Groups destroyed and set back: nothing at all is lost.
fn groups(field: &mut Field<'_>, shape: Shape) -> Result<()> {
    let scene = scene(field, shape, "g")?;
    let mut client = scene.house.client()?;
    let mut handled = Vec::new();
    let (logged, begun) = (lines(&scene.daemon), Instant::now());
    for _ in 0..if field.quick { 1 } else { 4 } {
        for (stream, group) in GROUPS {
            for words in [
                &["XGROUP", "DESTROY", stream, group][..],
                &["XGROUP", "SETID", stream, group, "0"],
            ] {
                client.call(words)?;
                handled.push(scene.handled()?);
                std::thread::sleep(Duration::from_millis(700));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a few lines")]
    let per_s =
        lines(&scene.daemon).saturating_sub(logged) as f64 / begun.elapsed().as_secs_f64().max(1.0);
    let (books, _, _) = scene.end(Against::Stream)?;
    let what = format!("groups destroyed and set to 0, {}: ", shape.name());
    books.tell(field, &what);
    field.worst(&format!("{what}to commits"), "ms", &handled, HANDLED_MS);
    field.figure(
        &format!("{what}lines in the log"),
        "/s",
        per_s,
        Goal::AtMost(4.0),
    );
    Ok(())
}

fn lines(daemon: &Daemon) -> usize {
    daemon.whole_log().lines().count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Flush,
    Source,
    Hop,
}

/// Longer than the daemon's round of housekeeping, which notes how far the streams were.
const LOOKED: Duration = Duration::from_secs(3);

/// Entries are gone with what was deleted: exactly those are told as lost.
fn deed(field: &mut Field<'_>, shape: Shape, command: &[&str], deed: Deed) -> Result<()> {
    let scene = scene(field, shape, "d")?;
    let what = format!("{}, {}: ", command.join(" "), shape.name());
    let mut client = scene.house.client()?;
    // Its stage stands still for a moment, so that there is a backlog to be deleted.
    let stage = if deed == Deed::Hop { "count" } else { "enrich" };
    scene.daemon.pipectl(&["pause", stage])?;
    std::thread::sleep(Duration::from_millis(500));
    let (mut scene, mut records) = (scene, Vec::new());
    if deed == Deed::Source {
        // Nothing tells how many entries were added to a deleted stream since somebody looked last; so here the producers
        // are done, and the daemon has looked.
        let name = format!("e{:x}.", field.seed);
        let next = Load::start(&scene.house.server.socket(), &name, 0, &[Policy::Once]);
        records.push(std::mem::replace(&mut scene.load, next).stop()?);
        std::thread::sleep(LOOKED);
    }
    client.call(command)?;
    scene.daemon.pipectl(&["resume", stage])?;
    if deed == Deed::Source {
        scene.load.rate(PER_S);
    }
    let handled = scene.handled()?;
    std::thread::sleep(Duration::from_millis(500));
    let (mut books, record, house) = scene.end(Against::Stream)?;
    let declared = books.ledger("lost");
    let total = house
        .client()?
        .call(&["HGET", "{events}:counts", "total_count"])?
        .number();
    let missing = match deed {
        // What was flushed is forgotten with everything else; what came after is all there.
        Deed::Flush => declared,
        Deed::Source | Deed::Hop => {
            // Events of the first load were counted too, or the stream between the stages is a new one: the sums tell.
            let acked = record.acked() + records.iter().map(Record::acked).sum::<u64>();
            (books.lost, books.foreign) = (0, 0);
            books.doubled = total.saturating_sub(acked);
            acked.saturating_sub(total)
        }
    };
    books.tell(field, &what);
    if deed != Deed::Flush {
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        field.figure(
            &format!("{what}removed, and told as lost"),
            "events",
            declared as f64,
            Goal::AtLeast(1.0),
        );
    }
    field.none(
        &format!("{what}removed and not told, or told and not removed"),
        "events",
        missing.abs_diff(declared),
    );
    field.figure(
        &format!("{what}to commits"),
        "ms",
        handled,
        Goal::AtMost(HANDLED_MS),
    );
    Ok(())
}
