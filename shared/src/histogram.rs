//! A coarse latency histogram for the wire: log buckets from 1 µs to 60 s that merge by adding.
//!
//! Not the instrument itself: the daemon measures with HdrHistogram and folds the result into these buckets, so that a
//! Snapshot stays small and every console draws the same rows of a heatmap. The bounds never change within a protocol
//! version; eight a decade keep each upper bound within 40 % of its lower one above 10 µs (coarser below, where bounds
//! are whole microseconds).

use crate::snapshot::Bucket;

/// Greatest value that is counted, in microseconds: 60 s.
pub const GREATEST_US: u64 = 60_000_000;

/// Number of buckets.
pub const N_BUCKETS: usize = UPPER_BOUNDS_US.len();

/// Included upper bounds: `round(10^(k/8))` without repetitions, and 60 s at the end.
const UPPER_BOUNDS_US: [u64; 62] = [
    1, 2, 3, 4, 6, 7, 10, 13, 18, 24, 32, 42, 56, 75, 100, 133, 178, 237, 316, 422, 562, 750,
    1_000, 1_334, 1_778, 2_371, 3_162, 4_217, 5_623, 7_499, 10_000, 13_335, 17_783, 23_714, 31_623,
    42_170, 56_234, 74_989, 100_000, 133_352, 177_828, 237_137, 316_228, 421_697, 562_341, 749_894,
    1_000_000, 1_333_521, 1_778_279, 2_371_374, 3_162_278, 4_216_965, 5_623_413, 7_498_942,
    10_000_000, 13_335_214, 17_782_794, 23_713_737, 31_622_777, 42_169_650, 56_234_133, 60_000_000,
];

/// The bucket that holds a value in microseconds. Saturates: 0 is in the first bucket and everything above
/// [`GREATEST_US`] in the last, so who must not mix those in counts them apart, as [`Histogram::record`] does.
pub fn bucket_of_us(us: u64) -> usize {
    UPPER_BOUNDS_US
        .partition_point(|bound| *bound < us)
        .min(N_BUCKETS - 1)
}

/// The greatest value of a bucket in microseconds, included. An index past the end means the last bucket.
pub fn upper_bound_us(bucket: usize) -> u64 {
    UPPER_BOUNDS_US[bucket.min(N_BUCKETS - 1)]
}

/// The bound that every value of a bucket is above, in microseconds; the first bucket holds 0 and 1 and answers 0.
pub fn lower_bound_us(bucket: usize) -> u64 {
    match bucket.min(N_BUCKETS - 1) {
        0 => 0,
        later => UPPER_BOUNDS_US[later - 1],
    }
}

/// Between what and what a percentile lies, in microseconds: above `low_us` (from 0 on where that is 0) and at most
/// `high_us`. Buckets know no more than that; a screen that shows one number shows `high_us` and says "at most".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Lower bound.
    pub low_us: u64,
    /// Upper bound, included.
    pub high_us: u64,
}

/// Counts per bucket. Counts saturate instead of wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; N_BUCKETS],
    out_of_range: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; N_BUCKETS],
            out_of_range: 0,
        }
    }
}

impl Histogram {
    /// Counts `count` values of `us` microseconds; above [`GREATEST_US`] they go to [`Histogram::out_of_range`].
    pub fn record(&mut self, us: u64, count: u64) {
        let slot = if us > GREATEST_US {
            &mut self.out_of_range
        } else {
            &mut self.counts[bucket_of_us(us)]
        };
        *slot = slot.saturating_add(count);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        self.out_of_range = self.out_of_range.saturating_add(other.out_of_range);
    }

    /// Values counted, without those out of range.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Values above [`GREATEST_US`]; part of no bucket and no percentile.
    pub fn out_of_range(&self) -> u64 {
        self.out_of_range
    }

    /// The count of each bucket, in order of the bounds.
    pub fn counts(&self) -> &[u64; N_BUCKETS] {
        &self.counts
    }

    /// Where the smallest value lies that at least the share `quantile` (0 to 1; others are cut to it) of the values
    /// does not exceed: the nearest-rank definition. `None` when nothing was counted or `quantile` is no number.
    pub fn percentile(&self, quantile: f64) -> Option<Bounds> {
        let total = self.count();
        if total == 0 || quantile.is_nan() {
            return None;
        }
        // Counts above 2^53 lose digits here, which moves the rank by less than one part in 10^15.
        let rank = (quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64;
        let rank = rank.clamp(1, total);
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return Some(Bounds {
                    low_us: lower_bound_us(bucket),
                    high_us: upper_bound_us(bucket),
                });
            }
        }
        None
    }

    /// The buckets that are not empty, as a Snapshot carries them.
    pub fn to_wire(&self) -> Vec<Bucket> {
        let full = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        full.map(|(bucket, count)| Bucket {
            // The bounds are far below 2^53, so the conversion is exact.
            le_ms: upper_bound_us(bucket) as f64 / 1_000.0,
            count: *count,
        })
        .collect()
    }

    /// Reads what a Snapshot carried. The peer is not trusted: a bound that is none of ours goes to the bucket that
    /// contains it, one that is negative, no number or above 60 s to [`Histogram::out_of_range`].
    pub fn from_wire(buckets: &[Bucket]) -> Self {
        let mut histogram = Self::default();
        for bucket in buckets {
            let us = (bucket.le_ms * 1_000.0).round();
            if us >= 0.0 && us <= GREATEST_US as f64 {
                histogram.record(us as u64, bucket.count);
            } else {
                histogram.out_of_range = histogram.out_of_range.saturating_add(bucket.count);
            }
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bounds_follow_their_formula() {
        let mut expected: Vec<u64> = (0..63)
            .map(|k| 10_f64.powf(f64::from(k) / 8.0).round() as u64)
            .filter(|bound| *bound < GREATEST_US)
            .collect();
        expected.dedup();
        expected.push(GREATEST_US);
        assert_eq!(UPPER_BOUNDS_US.as_slice(), expected);
    }

    #[test]
    fn values_at_and_beside_a_bound_go_to_the_right_bucket() {
        let table = [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 6),
            (1_000, 1_000),
            (1_001, 1_334),
            (GREATEST_US, GREATEST_US),
            (u64::MAX, GREATEST_US),
        ];
        for (us, bound) in table {
            assert_eq!(upper_bound_us(bucket_of_us(us)), bound, "{us} us");
        }
        assert_eq!(upper_bound_us(usize::MAX), GREATEST_US);
    }

    #[test]
    fn values_over_a_minute_are_counted_apart() {
        let mut histogram = Histogram::default();
        histogram.record(GREATEST_US + 1, 3);
        assert_eq!((histogram.count(), histogram.out_of_range()), (0, 3));
        assert_eq!(histogram.percentile(0.5), None);
    }

    #[test]
    fn a_peer_that_lies_about_bounds_breaks_nothing() {
        let lies =
            [f64::NAN, f64::INFINITY, -1.0, 60_000.1, f64::MIN_POSITIVE].map(|le_ms| Bucket {
                le_ms,
                count: u64::MAX,
            });
        let histogram = Histogram::from_wire(&lies);
        assert_eq!(histogram.out_of_range(), u64::MAX);
        assert_eq!(histogram.count(), u64::MAX);
        assert!(histogram.percentile(1.0).is_some());
        for bucket in &lies[..4] {
            assert_eq!(
                Histogram::from_wire(std::slice::from_ref(bucket)).count(),
                0,
                "{bucket:?}"
            );
        }
    }

    fn histogram_of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for us in values {
            histogram.record(*us, 1);
        }
        histogram
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = (0_f64..18.0).prop_map(|power| power.exp() as u64);
        prop::collection::vec(value, 0..200)
    }

    proptest! {
        #[test]
        fn every_value_lies_within_its_bucket(us in 0..=GREATEST_US) {
            let bucket = bucket_of_us(us);
            prop_assert!(us <= upper_bound_us(bucket));
            prop_assert!(us > lower_bound_us(bucket) || us == 0);
        }

        #[test]
        fn merging_equals_counting_together(left in values(), right in values()) {
            let mut merged = histogram_of(&left);
            merged.merge(&histogram_of(&right));
            prop_assert_eq!(merged, histogram_of(&[left, right].concat()));
        }

        #[test]
        fn the_true_percentile_lies_within_the_bounds(mut values in values(), quantile in 0_f64..=1.0) {
            values.retain(|us| *us <= GREATEST_US);
            let answer = histogram_of(&values).percentile(quantile);
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).max(1);
            match values.get(rank - 1) {
                None => prop_assert_eq!(answer, None),
                Some(truth) => {
                    let bounds = answer.unwrap();
                    prop_assert!(*truth <= bounds.high_us);
                    prop_assert!(*truth > bounds.low_us || *truth == 0);
                }
            }
        }

        #[test]
        fn the_wire_loses_nothing(values in values()) {
            let mut histogram = histogram_of(&values);
            histogram.out_of_range = 0;
            prop_assert_eq!(Histogram::from_wire(&histogram.to_wire()), histogram);
        }
    }
}
