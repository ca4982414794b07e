//! History on disk: one file of comma-separated values a UTC day in `<data>/history`, a row per 10 s, appended.
//!
//! All of it blocks; the sampler calls it on a blocking thread with at most one write under way. A torn or foreign line
//! is skipped when read. Bounded: 7 days and 64 MiB together; only files named like a day are ever deleted.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::history::{Points, Row};
use crate::clock;

/// Days kept, the current one included.
const N_DAYS: usize = 7;
/// Bytes kept of all days.
const N_BYTES_MAX: u64 = 64 << 20;
/// Rows between two looks at the size of the folder (one hour).
const LOOK_EVERY: u32 = 360;
/// Longest line that is read; 320 series of at most 16 characters are a tenth of it.
const LINE_MAX: u64 = 64 << 10;

/// Appends rows. One value, moved to the blocking thread and back.
#[derive(Debug)]
pub(super) struct Spill {
    dir: PathBuf,
    names: Arc<[String]>,
    n_bytes_max: u64,
    /// Whether the next row needs a header: at the start, on a new day, and after a write that may be torn.
    needs_header: bool,
    day: String,
    n_rows: u32,
}

impl Spill {
    /// Touches nothing yet.
    pub(super) fn new(dir: PathBuf, names: Arc<[String]>) -> Self {
        Self {
            dir,
            names,
            n_bytes_max: N_BYTES_MAX,
            needs_header: true,
            day: String::new(),
            n_rows: 0,
        }
    }

    /// Appends one row. `Err`: the row is not kept (disk full, no permission, folder full); the next may be tried all the same.
    pub(super) fn write(&mut self, row: &Row) -> io::Result<()> {
        let day = day_of(row.ts_ms);
        if day != self.day {
            self.needs_header = true;
            self.n_rows = 0;
            self.day = day;
        }
        if self.n_rows.is_multiple_of(LOOK_EVERY) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(&self.dir)?;
            self.prune()?;
        }
        self.n_rows = self.n_rows.wrapping_add(1);
        let mut text = String::new();
        if self.needs_header {
            // The newline ends a line that an earlier run may have left torn.
            text.push_str("\nts_ms");
            self.names.iter().for_each(|name| {
                text.push(',');
                text.push_str(name);
            });
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", row.ts_ms);
        for value in &row.values {
            text.push(',');
            if value.is_finite() {
                let _ = write!(text, "{value}");
            }
        }
        text.push('\n');
        self.needs_header = true;
        let path = self.dir.join(format!("{}.csv", self.day));
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        self.needs_header = false;
        Ok(())
    }

    /// Deletes the oldest days until the limits hold; fails if the current day alone is beyond them.
    fn prune(&self) -> io::Result<()> {
        let mut days = days(&self.dir)?;
        let mut total: u64 = days.iter().map(|d| d.2).sum();
        while days.len() > 1 && (days.len() > N_DAYS || total > self.n_bytes_max) {
            let (day, path, size) = days.remove(0);
            if day >= self.day {
                // The clock was set back: what it called the future is the oldest now.
                days.insert(0, (day, path, size));
                let Some((_, path, size)) = days.pop() else {
                    break;
                };
                fs::remove_file(path)?;
                total -= size;
                continue;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        if total > self.n_bytes_max {
            let what = format!(
                "the history of today is larger than {} MiB",
                self.n_bytes_max >> 20
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        Ok(())
    }
}

/// Rows of an earlier run since `from_ms`, ascending, as far as they name the same series; the last `n_max` of them.
pub(super) fn load(dir: &Path, names: &[String], from_ms: u64, n_max: usize) -> Vec<Row> {
    let mut rows = std::collections::VecDeque::new();
    each(dir, from_ms, u64::MAX, |ts_ms, header, values| {
        let value = |name: &String| {
            let i = header.iter().position(|h| h == name)?;
            values.get(i).copied()
        };
        // Usually the header is the same, and then this is a copy.
        let values = if header == names {
            values.to_vec()
        } else {
            names.iter().map(|n| value(n).unwrap_or(f32::NAN)).collect()
        };
        if rows.len() == n_max {
            rows.pop_front();
        }
        rows.push_back(Row { ts_ms, values });
    });
    let mut rows: Vec<_> = rows.into();
    rows.sort_by_key(|r| r.ts_ms);
    rows.dedup_by_key(|r| r.ts_ms);
    rows
}

/// Adds what the files hold before `before_ms`.
pub(super) fn fold(dir: &Path, before_ms: u64, into: &mut Points) {
    let (from, to) = (into.from_ms, into.to_ms.min(before_ms.saturating_sub(1)));
    let mut known: Vec<String> = Vec::new();
    let mut series: Vec<Option<usize>> = Vec::new();
    each(dir, from, to, |ts_ms, header, values| {
        if known != header {
            known = header.to_vec();
            series = header.iter().map(|name| into.series(name)).collect();
        }
        let Some(point) = into.point(ts_ms) else {
            return;
        };
        for (series, value) in series.iter().zip(values) {
            if let Some(series) = series {
                into.add(point, *series, *value);
            }
        }
    });
}

/// Calls `row` with time, names and values of each good row within the bounds. What cannot be read is left out: history is
/// a comfort, and a chart with a gap is better than none.
fn each(dir: &Path, from_ms: u64, to_ms: u64, mut row: impl FnMut(u64, &[String], &[f32])) {
    let (first, last) = (day_of(from_ms), day_of(to_ms));
    let Ok(days) = days(dir) else {
        return;
    };
    let mut values = Vec::new();
    for (_, path, _) in days
        .into_iter()
        .filter(|(day, ..)| *day >= first && *day <= last)
    {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let mut header: Vec<String> = Vec::new();
        lines(file, |line| {
            if let Some(names) = line.strip_prefix("ts_ms,") {
                header = names.split(',').map(str::to_owned).collect();
                return;
            }
            let mut cells = line.split(',');
            let Some(ts_ms) = cells
                .next()
                .and_then(|t| t.parse().ok())
                .filter(|t| (from_ms..=to_ms).contains(t))
            else {
                return;
            };
            values.clear();
            values.extend(cells.map(|cell| {
                cell.parse()
                    .ok()
                    .filter(|v: &f32| v.is_finite())
                    .unwrap_or(f32::NAN)
            }));
            if !header.is_empty() && values.len() == header.len() {
                row(ts_ms, &header, &values);
            }
        });
    }
}

/// Whole lines of at most [`LINE_MAX`] bytes; a longer one, one that is no text and one without its end are skipped.
fn lines(file: File, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let is_whole = line.pop() == Some(b'\n');
        if is_whole
            && !is_rest
            && let Ok(text) = std::str::from_utf8(&line)
        {
            each(text);
        }
        is_rest = !is_whole;
    }
}

/// `(day, path, size)` of the files named like a day, oldest first.
fn days(dir: &Path) -> io::Result<Vec<(String, PathBuf, u64)>> {
    let mut days = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(day) = name
            .to_str()
            .and_then(|n| n.strip_suffix(".csv"))
            .filter(|d| is_day(d))
        else {
            continue;
        };
        // `metadata` of an entry does not follow links: a link is none of our files.
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            days.push((day.to_owned(), entry.path(), metadata.len()));
        }
    }
    days.sort();
    Ok(days)
}

fn is_day(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(i, b)| {
            if i == 4 || i == 7 {
                *b == b'-'
            } else {
                b.is_ascii_digit()
            }
        })
}

/// `2026-01-31`, in UTC.
fn day_of(ts_ms: u64) -> String {
    // Years have four digits there, and times beyond are clamped.
    clock::rfc3339(ts_ms).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const T0: u64 = 1_700_000_000_000;

    fn names() -> Arc<[String]> {
        ["in_per_s", "dead"].map(str::to_owned).into()
    }

    fn row(ts_ms: u64, values: [f32; 2]) -> Row {
        Row {
            ts_ms,
            values: values.to_vec(),
        }
    }

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("history");
        (temp, dir)
    }

    #[test]
    fn what_was_written_is_read_again_after_a_restart() {
        let (_temp, dir) = dir();
        let mut spill = Spill::new(dir.clone(), names());
        for i in 0..5 {
            spill
                .write(&row(T0 + i * 10_000, [i as f32 + 0.5, f32::NAN]))
                .unwrap();
        }
        Spill::new(dir.clone(), names())
            .write(&row(T0 + 50_000, [9.0, 1.0]))
            .unwrap();
        let rows = load(&dir, &names(), T0 + 20_000, 100);
        assert_eq!(
            rows.iter().map(|r| r.ts_ms - T0).collect::<Vec<_>>(),
            [20_000, 30_000, 40_000, 50_000]
        );
        assert_eq!(rows[0].values[0], 2.5);
        assert!(rows[0].values[1].is_nan(), "unknown stays unknown");
        assert_eq!(rows[3].values, [9.0, 1.0]);
    }

    #[test]
    fn torn_and_foreign_lines_cost_only_themselves() {
        let (_temp, dir) = dir();
        Spill::new(dir.clone(), names())
            .write(&row(T0, [1.0, 1.0]))
            .unwrap();
        let path = dir.join(format!("{}.csv", day_of(T0)));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"\xff\xfe,1\nnonsense\n1700000001000,1\n1700000001000,1,2,3\n99,1,1\n")
            .unwrap();
        file.write_all(&vec![b'x'; 200_000]).unwrap();
        file.write_all(b"\n1700000010000,inf,7\n1700000015000,2,")
            .unwrap();
        Spill::new(dir.clone(), names())
            .write(&row(T0 + 20_000, [3.0, 3.0]))
            .unwrap();
        let rows = load(&dir, &names(), T0, 100);
        let times: Vec<_> = rows.iter().map(|r| r.ts_ms - T0).collect();
        // The last torn row is as long as a whole one (its last value is empty): it counts, with that value unknown.
        assert_eq!(times, [0, 10_000, 15_000, 20_000]);
        assert!(rows[1].values[0].is_nan());
    }

    #[test]
    fn series_are_found_by_name_when_the_stages_changed() {
        let (_temp, dir) = dir();
        let old: Arc<[String]> = ["dead", "gone", "in_per_s"].map(str::to_owned).into();
        Spill::new(dir.clone(), old)
            .write(&Row {
                ts_ms: T0,
                values: vec![1.0, 2.0, 3.0],
            })
            .unwrap();
        assert_eq!(load(&dir, &names(), 0, 10)[0].values, [3.0, 1.0]);
        let mut points = Points::new(T0 - 1_000, T0 + 1_000, 10, 3);
        fold(&dir, u64::MAX, &mut points);
        assert_eq!(points.finish().series["gone"], [Some(2.0)]);
    }

    #[test]
    fn only_seven_days_are_kept_and_no_foreign_file_is_touched() {
        let (_temp, dir) = dir();
        let mut spill = Spill::new(dir.clone(), names());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("notes.csv"), "mine").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("2000-01-01.csv")).unwrap();
        for day in 0..20 {
            spill.write(&row(T0 + day * DAY_MS, [1.0, 1.0])).unwrap();
        }
        let kept = days(&dir).unwrap();
        // The file of the new day is made after the look, so there may be one more.
        assert!(kept.len() <= N_DAYS + 1, "{kept:?}");
        assert_eq!(kept.last().unwrap().0, day_of(T0 + 19 * DAY_MS));
        assert!(dir.join("notes.csv").exists());
        assert!(dir.join("2000-01-01.csv").is_symlink());
    }

    #[test]
    fn the_folder_has_a_size_limit() {
        let (_temp, dir) = dir();
        let mut spill = Spill::new(dir.clone(), names());
        spill.n_bytes_max = 1_000;
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("2001-01-01.csv"), vec![b'x'; 900]).unwrap();
        fs::write(dir.join("2001-01-02.csv"), vec![b'x'; 900]).unwrap();
        spill.write(&row(T0, [1.0, 1.0])).unwrap();
        assert!(!dir.join("2001-01-01.csv").exists());
        assert!(dir.join("2001-01-02.csv").exists());
        let today = dir.join(format!("{}.csv", day_of(T0)));
        fs::write(&today, vec![b'x'; 2_000]).unwrap();
        spill.n_rows = 0;
        let error = spill.write(&row(T0, [1.0, 1.0])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(today.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_and_no_panic() {
        let (temp, _) = dir();
        let file = temp.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(
            Spill::new(file.join("history"), names())
                .write(&row(T0, [1.0, 1.0]))
                .is_err()
        );
        assert!(load(&file.join("history"), &names(), 0, 10).is_empty());
    }

    #[test]
    fn days_are_utc() {
        assert_eq!(day_of(0), "1970-01-01");
        assert_eq!(day_of(DAY_MS - 1), "1970-01-01");
        assert_eq!(day_of(DAY_MS), "1970-01-02");
        assert!(is_day(&day_of(u64::MAX)));
    }
}
