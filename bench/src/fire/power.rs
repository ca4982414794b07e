//! 3: the power fails: the server's files lie on an ext4 of their own, in a file behind a loop device. The file system is
//! shut down in mid-flight without flushing anything (XFS_IOC_GOINGDOWN, as xfstests does), the server is killed, and what
//! is left is mounted again: exactly what had been forced to the disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::Rng as _;

use super::books::{Against, Books};
use super::house::{House, Shape, wait};
use super::load::{Load, Policy};
use super::trial::Field;
use crate::report::Goal;
use crate::server::{Keeps, Server, folder};

const PER_S: u64 = 2_000;
const WINDOW_MS: f64 = 2_000.0;

/// A file system in a file; unmounted when dropped.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

fn ran(program: &str, args: &[&str]) -> Result<()> {
    let out = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("{program} is missing"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{program} {args:?}: {}", said.trim());
    Ok(())
}

impl Disk {
    fn new(folder: &Path) -> Result<Self> {
        let (image, at) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::File::create(&image)?.set_len(1 << 30)?;
        std::fs::create_dir(&at)?;
        ran("mkfs.ext4", &["-q", "-F", text(&image)?])?;
        let disk = Self { image, at };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        ran(
            "mount",
            &["-o", "loop", text(&self.image)?, text(&self.at)?],
        )
    }

    /// Nothing more reaches the disk; what was not forced to it is gone.
    fn fail(&self) -> Result<()> {
        ran("xfs_io", &["-x", "-c", "shutdown", text(&self.at)?])
    }

    fn unmount(&self) -> Result<()> {
        wait("the disk to be unmounted", Duration::from_secs(10), || {
            Ok(ran("umount", &[text(&self.at)?]).ok())
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may still run; then it goes when the server does.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of text")
}

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    for keeps in [Keeps::Always, Keeps::EverySecond] {
        part(field, keeps).with_context(|| format!("{keeps:?}"))?;
    }
    field.not_run(
        "a server without an append-only file: the first start's warning is all there is to it",
    );
    Ok(())
}

fn part(field: &mut Field<'_>, keeps: Keeps) -> Result<()> {
    let dir = folder()?;
    let disk = match Disk::new(dir.path()) {
        Ok(disk) => disk,
        Err(error) => {
            field.not_run(&format!(
                "needs root, a loop device, mkfs.ext4 and xfs_io: {error:#}"
            ));
            return Ok(());
        }
    };
    let program = &field.server.program;
    let server = Server::launch(dir, disk.at.clone(), &[], program, keeps, &[])?;
    // Of the two guards the server's must end first.
    let (mut house, disk) = (House::on(server, Shape::OwnedCount), disk);
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("w{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once; 2]);
    let mut instants = Vec::new();
    let rounds = if field.quick { 2 } else { 10 };
    for _ in 0..rounds {
        house.watch()?.wait_counted(0)?;
        let life = field.random.random_range(500..=3_000);
        std::thread::sleep(Duration::from_millis(life));
        instants.push(load.begun().elapsed().as_secs_f64() * 1e3);
        disk.fail()?;
        house.server.kill()?;
        disk.unmount()?;
        disk.mount()?;
        house.server.start_again()?;
        let mut watch = house.watch()?;
        let before = watch.done()?;
        wait("commits after a restart", Duration::from_secs(30), || {
            let done = watch.done()?;
            Ok((done[0] > before[0] && done[1] > before[1]).then_some(()))
        })?;
    }
    let record = load.stop()?;
    let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
    daemon.drain()?;
    books.names_left(&house)?;
    drop(house);
    let mode = if keeps == Keeps::Always {
        "always: "
    } else {
        "everysec: "
    };
    books.tell(field, mode);
    let window = books.gone_ms.iter().map(|&ms| {
        let ms = f64::from(ms);
        instants.iter().find(|&&cut| cut >= ms).unwrap_or(&ms) - ms
    });
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    let gone = books.gone as f64;
    let limit = if keeps == Keeps::Always {
        Goal::AtMost(0.0)
    } else {
        Goal::None
    };
    field.figure(
        &format!("{mode}failures of the power"),
        "",
        f64::from(rounds),
        Goal::None,
    );
    field.figure(
        &format!("{mode}acknowledged, and gone"),
        "events",
        gone,
        limit,
    );
    field.figure(
        &format!("{mode}oldest of them before its failure"),
        "ms",
        window.fold(0.0, f64::max),
        Goal::AtMost(WINDOW_MS),
    );
    Ok(())
}
