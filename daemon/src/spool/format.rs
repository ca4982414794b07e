//! How an event lies in the spool, and what a damaged file still tells. Pure: bytes in, bytes out.
//!
//! A file is a row of records: marker, length, checksum, number, group, payload. `number` counts the events of one life of
//! the spool (one start of the daemon) from 1. `group` is the number of the first event of the write that the record came
//! with. A write begins only after the one before was forced to the disk, so a whole record of a group proves that
//! everything before that group had reached the disk: what is broken before it is damage, and what is broken with no later
//! group behind it is a write that a crash cut off, which nobody was told of.

use bytes::{Buf as _, BufMut as _, Bytes};

use crate::record::{FIELDS_MAX, Fields};
use crate::store::Admission;

/// Begins every record, so that the next whole one is found behind a damaged one.
const MARKER: [u8; 4] = *b"PLs1";
/// Marker, length, checksum, number, group.
pub(super) const HEAD: usize = 4 + 4 + 4 + 8 + 8;
/// No event that came through a door is nearly as large; a longer length is damage.
const PAYLOAD_MAX: usize = 4 << 20;
/// A record at its largest.
pub(super) const RECORD_MAX: usize = HEAD + PAYLOAD_MAX;

/// A whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// From 1, without gaps within a life.
    pub(super) number: u64,
    /// Number of the first event of the same write.
    pub(super) group: u64,
    /// What is to be added.
    pub(super) event: Admission,
    /// Bytes that it takes in the file.
    pub(super) size: usize,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole record.
    Whole(Record),
    /// The bytes end before it does; with more of them it may be whole.
    Cut,
    /// No record, or one whose checksum is wrong.
    Broken,
}

/// The event cannot be kept: it is larger than any that a door lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Records of one life of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// Random, one for each start of the daemon that spooled.
    pub(super) life: u64,
}

/// What a whole file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Events that can be read.
    pub(super) n_events: u64,
    /// Number behind the last event that had reached the disk, readable or not.
    pub(super) next: u64,
    /// From here on there is only a write that was cut off.
    pub(super) end: usize,
    /// Events that had reached the disk and cannot be read any more.
    pub(super) n_damaged: u64,
}

/// A whole record and where it begins.
pub(super) struct Step {
    pub(super) at: usize,
    pub(super) record: Record,
}

impl Format {
    /// Adds a record to `out`; leaves `out` as it was when the event is too large.
    pub(super) fn encode(
        self,
        out: &mut Vec<u8>,
        number: u64,
        group: u64,
        event: &Admission,
    ) -> Result<(), TooLarge> {
        let size = 17
            + event
                .fields
                .iter()
                .map(|(name, value)| 8 + name.len() + value.len())
                .sum::<usize>();
        if size + 4 > PAYLOAD_MAX || event.fields.len() > FIELDS_MAX {
            return Err(TooLarge);
        }
        let start = out.len();
        out.put_slice(&MARKER);
        out.put_u32_le(0);
        out.put_u32_le(0);
        out.put_u64_le(number);
        out.put_u64_le(group);
        out.put_u8(u8::from(event.event_id.is_some()));
        out.put_slice(&event.event_id.unwrap_or_default());
        // Lengths are below PAYLOAD_MAX, which was just checked.
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.put_u32_le(length(event.fields.len()));
        for (name, value) in &event.fields {
            out.put_u32_le(length(name.len()));
            out.put_slice(name);
            out.put_u32_le(length(value.len()));
            out.put_slice(value);
        }
        let payload = length(out.len() - start - HEAD);
        out[start + 4..start + 8].copy_from_slice(&payload.to_le_bytes());
        let sum = self.checksum(&out[start..]);
        out[start + 8..start + 12].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Of everything in a record but the marker and the checksum itself.
    fn checksum(self, record: &[u8]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.life.to_le_bytes());
        sum.update(&record[4..8]);
        sum.update(&record[12..]);
        sum.finalize()
    }

    /// Reads the record at the beginning of `bytes`.
    pub(super) fn decode(self, bytes: &[u8]) -> Found {
        let seen = bytes.len().min(MARKER.len());
        if bytes[..seen] != MARKER[..seen] {
            return Found::Broken;
        }
        let Some(mut head) = bytes.get(4..HEAD) else {
            return Found::Cut;
        };
        let length = head.get_u32_le() as usize;
        let sum = head.get_u32_le();
        let (number, group) = (head.get_u64_le(), head.get_u64_le());
        if length > PAYLOAD_MAX {
            return Found::Broken;
        }
        let Some(record) = bytes.get(..HEAD + length) else {
            return Found::Cut;
        };
        if self.checksum(record) != sum || number == 0 || group == 0 || group > number {
            return Found::Broken;
        }
        match payload(Bytes::copy_from_slice(&record[HEAD..])) {
            Some(event) => Found::Whole(Record {
                number,
                group,
                event,
                size: HEAD + length,
            }),
            None => Found::Broken,
        }
    }

    /// Looks through the bytes of a file whose first event is `first`. `bound`: the first number of the next file of the same
    /// life, where there is one; all numbers below it had reached the disk, and those from it on count there.
    pub(super) fn scan(self, bytes: &[u8], first: u64, bound: Option<u64>) -> Scan {
        let mut scan = Scan {
            next: first,
            ..Scan::default()
        };
        let mut at = 0;
        while let Some(step) = self.next_whole(bytes, at, scan.next, bound) {
            scan.n_damaged += step.record.number - scan.next;
            scan.n_events += 1;
            scan.next = step.record.number + 1;
            at = step.at + step.record.size;
        }
        scan.end = at;
        if let Some(bound) = bound {
            scan.n_damaged += bound.saturating_sub(scan.next);
            scan.next = bound;
        }
        scan
    }

    /// The next event at or behind `at` whose number is at least `expected`; what lies between is damage. `None`: only a write
    /// that was cut off is left, or nothing.
    pub(super) fn next_whole(
        self,
        bytes: &[u8],
        at: usize,
        expected: u64,
        bound: Option<u64>,
    ) -> Option<Step> {
        let counts = |record: &Record| {
            record.number >= expected && bound.is_none_or(|bound| record.number < bound)
        };
        if let Some(Found::Whole(record)) = bytes.get(at..).map(|bytes| self.decode(bytes))
            && record.number == expected
        {
            return counts(&record).then_some(Step { at, record });
        }
        let mut first = None;
        for step in self.wholes(bytes, at).filter(|step| counts(&step.record)) {
            // Numbers below the bound had reached the disk in any case.
            let is_proof = bound.is_some() || step.record.group > expected;
            first = first.or(Some(step));
            if is_proof {
                return first;
            }
        }
        None
    }

    /// Every whole record from `at` on, wherever it begins.
    fn wholes(self, bytes: &[u8], mut at: usize) -> impl Iterator<Item = Step> {
        std::iter::from_fn(move || {
            loop {
                let rest = bytes.get(at..)?;
                if let Found::Whole(record) = self.decode(rest) {
                    let step = Step { at, record };
                    at += step.record.size;
                    return Some(step);
                }
                let next = rest
                    .get(1..)?
                    .windows(MARKER.len())
                    .position(|window| window == MARKER)?;
                at += 1 + next;
            }
        })
    }
}

/// `None`: the checksum fits and yet it makes no sense, as of a version to come.
fn payload(mut bytes: Bytes) -> Option<Admission> {
    let has_id = bytes.try_get_u8().ok()?;
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).ok()?;
    let n_fields = bytes.try_get_u32_le().ok()? as usize;
    if has_id > 1 || n_fields > FIELDS_MAX {
        return None;
    }
    let mut fields = Fields::with_capacity(n_fields);
    for _ in 0..n_fields {
        let name = word(&mut bytes)?;
        fields.push((name, word(&mut bytes)?));
    }
    bytes.is_empty().then_some(Admission {
        event_id: (has_id == 1).then_some(id),
        fields,
    })
}

fn word(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.try_get_u32_le().ok()? as usize;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMAT: Format = Format { life: 7 };

    fn event(n: u64) -> Admission {
        Admission {
            event_id: n
                .is_multiple_of(2)
                .then_some([u8::try_from(n % 251).unwrap(); 16]),
            fields: vec![
                (Bytes::from_static(b"n"), Bytes::from(n.to_string())),
                (Bytes::from_static(b"\0\xff"), Bytes::from_static(b"")),
            ],
        }
    }

    /// Records of these groups: `[(group's first, how many)]`.
    fn file(groups: &[(u64, u64)]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for (group, n) in groups {
            for number in *group..group + n {
                starts.push(bytes.len());
                FORMAT
                    .encode(&mut bytes, number, *group, &event(number))
                    .unwrap();
            }
        }
        (bytes, starts)
    }

    #[test]
    fn an_event_comes_back_byte_for_byte() {
        let (bytes, _) = file(&[(1, 3)]);
        let mut at = 0;
        for number in 1..=3 {
            let Found::Whole(record) = FORMAT.decode(&bytes[at..]) else {
                panic!("{number}")
            };
            assert_eq!(record.event, event(number));
            assert_eq!((record.number, record.group), (number, 1));
            at += record.size;
        }
        assert_eq!(at, bytes.len());
        let huge = Admission {
            event_id: None,
            fields: vec![(Bytes::new(), Bytes::from(vec![0; PAYLOAD_MAX]))],
        };
        let mut out = vec![1];
        assert_eq!(FORMAT.encode(&mut out, 1, 1, &huge), Err(TooLarge));
        assert_eq!(out, [1]);
    }

    #[test]
    fn a_write_that_was_cut_off_is_no_damage_wherever_it_was_cut() {
        let (bytes, starts) = file(&[(1, 2), (3, 3)]);
        let durable = starts[2];
        for cut in durable..bytes.len() {
            let scan = FORMAT.scan(&bytes[..cut], 1, None);
            let n_whole = starts.iter().skip(1).filter(|at| **at <= cut).count() as u64;
            let desc = format!("cut at {cut}");
            assert_eq!((scan.n_events, scan.n_damaged), (n_whole, 0), "{desc}");
            assert!(scan.end >= durable && scan.end <= cut, "{desc}");
        }
    }

    #[test]
    fn pages_of_the_last_write_that_came_out_of_order_are_no_damage() {
        let (mut bytes, starts) = file(&[(1, 2), (3, 3)]);
        // The second page of the last write is there, the first is not.
        bytes[starts[2]..starts[3]].fill(0);
        let scan = FORMAT.scan(&bytes, 1, None);
        assert_eq!((scan.n_events, scan.n_damaged, scan.end), (2, 0, starts[2]));
    }

    #[test]
    fn damage_before_a_later_write_costs_what_it_hit_and_no_more() {
        let (bytes, starts) = file(&[(1, 2), (3, 2), (5, 1)]);
        for (number, start) in starts.iter().enumerate().take(3) {
            let mut bytes = bytes.clone();
            bytes[start + HEAD + 2] ^= 0x10;
            let scan = FORMAT.scan(&bytes, 1, None);
            let desc = format!("event {}", number + 1);
            assert_eq!((scan.n_events, scan.n_damaged), (4, 1), "{desc}");
            assert_eq!((scan.next, scan.end), (6, bytes.len()), "{desc}");
        }
    }

    #[test]
    fn the_next_file_tells_what_its_predecessor_must_hold() {
        let (bytes, starts) = file(&[(1, 2), (3, 3)]);
        // Its last write failed, so that the next file began with the same numbers.
        let scanned = FORMAT.scan(&bytes, 1, Some(3));
        assert_eq!(
            (scanned.n_events, scanned.n_damaged, scanned.next),
            (2, 0, 3)
        );
        // It is cut in what had reached the disk.
        let scanned = FORMAT.scan(&bytes[..starts[4]], 1, Some(6));
        assert_eq!(
            (scanned.n_events, scanned.n_damaged, scanned.next),
            (4, 1, 6)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_are_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300), first in 1_u64..9) {
            let mut with_marker = MARKER.to_vec();
            with_marker.extend(&bytes);
            let _ = FORMAT.decode(&with_marker);
            let scan = FORMAT.scan(&bytes, first, None);
            prop_assert!(scan.end <= bytes.len());
        }

        #[test]
        fn one_flipped_bit_never_makes_another_event(at in 0_usize..600, bit in 0_u8..8) {
            let (mut bytes, _) = file(&[(1, 2), (3, 2), (5, 2), (7, 1)]);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let mut place = 0;
            let mut expected = 1;
            while let Some(step) = FORMAT.next_whole(&bytes, place, expected, None) {
                prop_assert_eq!(&step.record.event, &event(step.record.number));
                expected = step.record.number + 1;
                place = step.at + step.record.size;
            }
            prop_assert!(expected >= 7, "only the one that was hit, or the last write, is missing: {}", expected);
        }
    }
}
