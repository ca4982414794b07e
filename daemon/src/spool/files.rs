//! The spool's files: opened, looked through, appended to, read, removed, put aside. All of it blocks; `Spool` calls it on
//! blocking threads.
//!
//! `<data>/spool/NUMBER-LIFE-FIRST.spool`: the files' order, the life of the spool that wrote it (16 hex digits), the number
//! of its first event. A damaged file keeps its name and gets the end `.damaged` once what can be read of it is in Redis;
//! nothing here ever deletes that one.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::format::{Format, RECORD_MAX};
use crate::store::Admission;

/// What is read at a time, unless one event is larger.
const PAGE: usize = 1 << 20;

/// A file of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Order of the files.
    pub(super) place: u64,
    pub(super) format: Format,
    /// Number of its first event.
    pub(super) first: u64,
    /// Number behind its last event.
    pub(super) next: u64,
    /// Bytes that hold whole events that had reached the disk.
    pub(super) end: u64,
    /// Events in it that cannot be read any more.
    pub(super) n_damaged: u64,
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In order.
    pub(super) segments: VecDeque<Segment>,
    /// Bytes of files put aside.
    pub(super) aside: u64,
    /// Bytes of a write that a crash cut off.
    pub(super) n_cut: u64,
    /// Greatest place of a file, files put aside included.
    pub(super) last_place: u64,
}

/// Looks through a folder; it need not exist. What a crash cut off is cut off the file, too.
pub(super) fn open(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(name) = name.strip_suffix(".damaged") {
            found.aside += entry.metadata()?.len();
            if let Some((place, ..)) = parse(name) {
                found.last_place = found.last_place.max(place);
            }
        } else if let Some((place, life, first)) = parse(name) {
            names.push((place, life, first, entry.path()));
        }
    }
    names.sort();
    found.last_place = found
        .last_place
        .max(names.last().map_or(0, |(place, ..)| *place));
    for (i, (place, life, first, path)) in names.iter().enumerate() {
        let bound = names
            .get(i + 1)
            .and_then(|(_, other, first, _)| (other == life).then_some(*first));
        let bytes = fs::read(path)?;
        let format = Format { life: *life };
        let scan = format.scan(&bytes, *first, bound);
        let n_cut = bytes.len() - scan.end;
        if bound.is_none() && n_cut > 0 {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(scan.end as u64)?;
            file.sync_data()?;
            found.n_cut += n_cut as u64;
        }
        found.segments.push_back(Segment {
            path: path.clone(),
            place: *place,
            format,
            first: *first,
            next: scan.next,
            end: scan.end as u64,
            n_damaged: scan.n_damaged,
        });
    }
    Ok(found)
}

fn parse(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.strip_suffix(".spool")?.split('-');
    let place = parts.next()?.parse().ok()?;
    let life = u64::from_str_radix(parts.next()?, 16).ok()?;
    let first = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((place, life, first))
}

/// The end of the newest file, where events are added.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// Bytes that have reached the disk.
    pub(super) end: u64,
}

/// Makes the file that begins with event `first`; its name is on the disk when this returns.
pub(super) fn create(
    dir: &Path,
    place: u64,
    format: Format,
    first: u64,
) -> io::Result<(Segment, Tail)> {
    if !dir.is_dir() {
        DirBuilder::new().mode(0o700).create(dir)?;
        // A folder whose name is lost in a crash takes everything in it along.
        sync_folder(dir.parent().unwrap_or(Path::new("/")))?;
    }
    let name = format!("{place:012}-{:016x}-{first:020}.spool", format.life);
    let path = dir.join(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    if let Err(error) = sync_folder(dir) {
        // Best effort: an empty file left here is only looked through at the next start.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    let segment = Segment {
        path,
        place,
        format,
        first,
        next: first,
        end: 0,
        n_damaged: 0,
    };
    Ok((segment, Tail { file, end: 0 }))
}

impl Tail {
    /// Adds bytes; they have reached the disk when this returns. After an error nothing of them counts, and `self` is of
    /// no more use if they could not be taken back: then this is the second value.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), (io::Error, bool)> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(bytes));
        if let Err(error) = written {
            let is_back = self.file.set_len(self.end).is_ok() && self.file.sync_data().is_ok();
            return Err((error, !is_back));
        }
        if let Err(error) = self.file.sync_data() {
            // What a failed fsync leaves behind is unknown, and a second one may claim success (fsyncgate): this file is
            // not trusted any more. The next one begins with the same numbers, so that what may be here does not count.
            let _ = self.file.set_len(self.end);
            return Err((error, true));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// A batch of events with consecutive numbers.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Number of the first.
    pub(super) first: u64,
    /// In order.
    pub(super) events: Vec<Admission>,
    /// Where to go on.
    pub(super) at: u64,
    /// Number expected there.
    pub(super) next: u64,
    /// Bytes of the fields.
    pub(super) n_bytes: usize,
}

/// Reads up to `n_max` events and about `bytes_max` bytes from `at` on, where event `expected` or a later one stands. An
/// empty page: there is nothing more before `segment.end`.
pub(super) fn read(
    segment: &Segment,
    at: u64,
    expected: u64,
    n_max: usize,
    bytes_max: usize,
) -> io::Result<Page> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(at))?;
    let left = segment.end.saturating_sub(at);
    let is_damaged = segment.n_damaged > 0;
    // A damaged file is read to its end: what proves that something is damage may stand anywhere behind it.
    let wanted = if is_damaged {
        left
    } else {
        left.min((PAGE.max(bytes_max) + RECORD_MAX) as u64)
    };
    let mut bytes = Vec::new();
    file.take(wanted).read_to_end(&mut bytes)?;
    let mut page = Page {
        first: expected,
        at,
        next: expected,
        ..Page::default()
    };
    let mut place = 0;
    while page.events.len() < n_max && page.n_bytes < bytes_max {
        let bound = Some(segment.next);
        let Some(step) = segment.format.next_whole(&bytes, place, page.next, bound) else {
            break;
        };
        if step.record.number != page.next {
            if !page.events.is_empty() {
                break;
            }
            page.first = step.record.number;
        }
        page.n_bytes += step.record.size;
        page.next = step.record.number + 1;
        place = step.at + step.record.size;
        page.at = at + place as u64;
        page.events.push(step.record.event);
    }
    Ok(page)
}

/// Removes a file whose events are in Redis; a damaged one is put aside. The bytes that stay.
pub(super) fn finish(dir: &Path, segment: &Segment) -> io::Result<u64> {
    let kept = if segment.n_damaged > 0 {
        let mut name = segment.path.clone().into_os_string();
        name.push(".damaged");
        fs::rename(&segment.path, &name)?;
        fs::metadata(&name)?.len()
    } else {
        fs::remove_file(&segment.path)?;
        0
    };
    sync_folder(dir)?;
    Ok(kept)
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
