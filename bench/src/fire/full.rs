//! 5 and 6: a disk that fills up, and a Redis at its memory limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::books::{Against, Books, group_state};
use super::house::{GROUPS, House, Shape, wait};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::daemon::{Control, Daemon};
use crate::report::Goal;
use crate::server::{Keeps, Server, folder};

const PER_S: u64 = 2_000;
/// Bytes of ballast in each event, so that the disk is full soon.
const BALLAST: usize = 1_000;
const REFUSED_MS: f64 = 100.0;
const RESUMED_MS: f64 = 5_000.0;

/// Asks the door to take one event: whether it did, and how many milliseconds the answer took.
fn push(control: &mut Control, id: u64) -> Result<(bool, f64)> {
    let opened = control.call("ingest.open", &json!({"name": format!("fire-{id}")}))?;
    let event = json!({
        "id": format!("{id:032x}"),
        "roles": [["key", "user-1"], ["type", "door"], ["time", "1640995200000"]],
        "fields": [],
    });
    let begun = Instant::now();
    let params = json!({"session": opened["session"], "events": [event]});
    let pushed = control.call("ingest.push", &params)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    Ok((pushed["accepted"] == 1, took))
}

/// Milliseconds until the producers are answered and both stages commit again.
fn resumed(house: &House, load: &Load) -> Result<f64> {
    let begun = Instant::now();
    let mut watch = house.watch()?;
    let (before, acked) = (watch.done()?, load.acked());
    wait("everything to flow again", Duration::from_secs(60), || {
        let done = watch.done()?;
        let flows = done[0] > before[0] && done[1] > before[1] && load.acked() > acked;
        Ok(flows.then(|| begun.elapsed().as_secs_f64() * 1e3))
    })
}

/// Waits until producers are answered no more.
fn refused(load: &Load) -> Result<()> {
    let mut last = (load.acked(), Instant::now());
    wait(
        "the producers to be refused",
        Duration::from_secs(90),
        || {
            let acked = load.acked();
            if acked != last.0 {
                last = (acked, Instant::now());
            }
            Ok((acked > 0 && last.1.elapsed() > Duration::from_millis(1_500)).then_some(()))
        },
    )
}

fn end(field: &mut Field<'_>, house: &House, daemon: Daemon, load: Load, what: &str) -> Result<()> {
    let record = load.stop()?;
    let why = record.refusal.clone().unwrap_or_default();
    field.say(&format!("the producers were told: {why}"));
    let mut books = Books::settle(house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(house)?;
    books.tell(field, what);
    field.none(
        &format!("{what}acknowledged, and gone"),
        "events",
        books.gone,
    );
    field.none(
        &format!("{what}refused, and there all the same"),
        "events",
        books.false_refusals,
    );
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    field.figure(
        &format!("{what}refused to producers"),
        "events",
        record.count(|sent| sent.was_refused) as f64,
        Goal::AtLeast(1.0),
    );
    Ok(())
}

pub(crate) fn disk(field: &mut Field<'_>) -> Result<()> {
    let dir = folder()?;
    let data = dir.path().join("disk");
    std::fs::create_dir(&data)?;
    let mount = "mount -t tmpfs -o size=\"$1\" none \"$2\"; shift 2; exec \"$@\"";
    let wrap: Vec<String> = ["unshare", "-m", "sh", "-c", mount, "sh", "28m"]
        .iter()
        .map(|word| (*word).to_owned())
        .chain([data.display().to_string()])
        .collect();
    let server = Server::launch(
        dir,
        data.clone(),
        &wrap,
        &field.server.program,
        Keeps::EverySecond,
        &[],
    );
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            field.not_run(&format!(
                "a disk of its own needs root (unshare -m): {error:#}"
            ));
            return Ok(());
        }
    };
    // What is taken away later, so that there is room again. Its namespace is seen through its process.
    let inside = format!("/proc/{}/root{}/ballast", server.pid(), data.display());
    std::fs::write(&inside, vec![0; 12 << 20]).context("fill a part of the small disk")?;
    let house = House::on(server, Shape::OwnedCount);
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("f{:x}.", field.seed);
    let policies = [Policy::Again, Policy::Once];
    let load = Load::with_ballast(&house.server.socket(), &name, PER_S, &policies, BALLAST);
    refused(&load)?;
    let mut control = Control::open(&daemon.socket())?;
    let (is_taken, first) = push(&mut control, 1)?;
    let (again, second) = push(&mut control, 2)?;
    let is_alive = daemon.ended()?.is_none();
    std::fs::remove_file(PathBuf::from(&inside)).context("make room")?;
    let flows = resumed(&house, &load)?;
    end(field, &house, daemon, load, "")?;
    field.none(
        "taken at the door of a full disk",
        "events",
        u64::from(is_taken) + u64::from(again),
    );
    field.worst("the door's refusal", "ms", &[first, second], REFUSED_MS);
    field.none("daemons that ended", "", u64::from(!is_alive));
    field.figure(
        "room to everything flowing",
        "ms",
        flows,
        Goal::AtMost(RESUMED_MS),
    );
    field.not_run("a full log and spool disk: the tests of the daemon have them");
    Ok(())
}

pub(crate) fn memory(field: &mut Field<'_>) -> Result<()> {
    let house = House::new(field, Keeps::EverySecond, Shape::OwnedEnrich)?;
    let mut client = house.client()?;
    client.call(&["CONFIG", "SET", "maxmemory", "32mb"])?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("m{:x}.", field.seed);
    let policies = [Policy::Again, Policy::Once];
    let load = Load::with_ballast(&house.server.socket(), &name, PER_S, &policies, BALLAST);
    refused(&load)?;
    let mut pending = 0;
    for (stream, group) in GROUPS {
        pending = pending.max(group_state(&mut client, stream, group)?.pending);
    }
    let mut control = Control::open(&daemon.socket())?;
    let (is_taken, took) = push(&mut control, 1)?;
    let is_alive = daemon.ended()?.is_none();
    client.call(&["CONFIG", "SET", "maxmemory", "1gb"])?;
    let flows = resumed(&house, &load)?;
    end(field, &house, daemon, load, "")?;
    field.none(
        "taken at the door of a full Redis",
        "events",
        u64::from(is_taken),
    );
    field.figure("the door's refusal", "ms", took, Goal::AtMost(REFUSED_MS));
    field.none("daemons that ended", "", u64::from(!is_alive));
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    field.figure(
        "pending meanwhile, a group",
        "entries",
        pending as f64,
        // Two workers, each with a batch in hand and one read ahead.
        Goal::AtMost(2_000.0),
    );
    field.figure(
        "more memory to everything flowing",
        "ms",
        flows,
        Goal::AtMost(RESUMED_MS),
    );
    // A policy that throws keys away is warned of.
    let house = House::new(field, Keeps::Nothing, Shape::OwnedEnrich)?;
    house
        .client()?
        .call(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let is_warned = daemon.whole_log().contains("allkeys-lru");
    daemon.drain()?;
    field.none("eviction policies not warned of", "", u64::from(!is_warned));
    Ok(())
}
