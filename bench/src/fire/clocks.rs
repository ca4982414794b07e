//! 9: clocks that jump, the daemon's and the server's together, by libfaketime.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::books::{Against, Books};
use super::house::{House, Shape};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::report::Goal;
use crate::server::{Keeps, Server, folder};

const PER_S: u64 = 1_000;
/// Seconds from one to the next.
const STAY: Duration = Duration::from_secs(3);

fn library() -> Option<PathBuf> {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
    let folders = roots.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let mut all = folders.map(|entry| entry.path()).collect::<Vec<_>>();
    all.extend(roots.map(PathBuf::from));
    all.into_iter()
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
}

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    let Some(library) = library() else {
        field.not_run("needs libfaketime (apt-get install libfaketime)");
        return Ok(());
    };
    let library = library.to_str().context("a path of text")?.to_owned();
    let is_both = server(field, &library, "+0").is_ok();
    if !is_both {
        field.not_run("the server's own clock: libfaketime does not run under this server; the daemon's alone jumps");
    }
    // There and back; then over the end of 32 bits, and over a leap day.
    for (what, times) in [
        (
            "an hour there and back",
            &["+0", "+1h", "+0", "-1h", "+0"][..],
        ),
        (
            "thirty days there and back",
            &["+0", "+30d", "+0", "-30d", "+0"],
        ),
        ("over 2038-01-19 03:14:07", &["@2038-01-19 03:14:03"]),
        ("over a leap day", &["@2028-02-28 23:59:57"]),
    ] {
        jumps(field, &library, what, times, is_both).with_context(|| what.to_owned())?;
    }
    Ok(())
}

/// What makes a process follow the time in a file.
fn env<'a>(library: &'a str, file: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
}

/// A server that follows the file `time` in its folder.
fn server(field: &Field<'_>, library: &str, time: &str) -> Result<Server> {
    let dir = folder()?;
    let file = dir.path().join("time");
    std::fs::write(&file, time)?;
    let file = file.to_str().context("a path of text")?.to_owned();
    let wrap: Vec<String> = std::iter::once("env".to_owned())
        .chain(env(library, &file).map(|(name, value)| format!("{name}={value}")))
        .collect();
    let data = dir.path().to_owned();
    let program = &field.server.program;
    Server::launch(dir, data, &wrap, program, Keeps::Nothing, &[])
}

fn jumps(
    field: &mut Field<'_>,
    library: &str,
    what: &str,
    times: &[&str],
    is_both: bool,
) -> Result<()> {
    let first = times.first().context("a time")?;
    let server = if is_both {
        server(field, library, first)?
    } else {
        Server::of(&field.server.program, Keeps::Nothing, &[])?
    };
    let file = server.dir().join("time");
    std::fs::write(&file, first)?;
    let path = file.to_str().context("a path of text")?.to_owned();
    let env = env(library, &path);
    let mut house = House::on(server, Shape::OwnedCount);
    // Nothing is trimmed by age here, or the record could not be compared.
    house.sets.push("retention.keep=365d".to_owned());
    let mut daemon = house.daemon_with("one", &[], &env)?;
    daemon.wait_healthy()?;
    let name = format!("c{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    let mut strange = 0;
    for time in times {
        std::fs::write(&file, time)?;
        std::thread::sleep(STAY);
        // Numbers of a status that would be negative or beyond reason.
        let told = daemon.pipectl(&["status"])?.to_string();
        strange += u64::from(told.contains(":-")) + u64::from(told.contains("e+"));
    }
    if times.len() == 1 {
        std::thread::sleep(2 * STAY);
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    let panics = daemon.whole_log().matches("panicked").count() as u64;
    daemon.drain()?;
    books.names_left(&house)?;
    let what = format!("{what}: ");
    books.tell(field, &what);
    field.none(&format!("{what}panics"), "", panics);
    field.none(
        &format!("{what}negative or absurd numbers told"),
        "",
        strange,
    );
    field.figure(
        &format!("{what}settings of the clock"),
        "",
        to_f(times.len()),
        Goal::None,
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn to_f(n: usize) -> f64 {
    n as f64
}
