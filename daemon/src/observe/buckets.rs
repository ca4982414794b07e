//! Log buckets in which latencies travel: eight a decade from 1 us to over 60 s, 64 edges (console.md section 4.7).
//!
//! Merging two rows of buckets is adding their counts, because every daemon uses the same edges. `shared::histogram`
//! may take them over; until then this is the only place that names them.

use std::sync::LazyLock;

use pipectl_shared::snapshot::Bucket;

/// Edges: 10^(i/8) us for i in 0..=63; the last is 75 s, above the greatest value that is measured (60 s).
pub(super) const N_EDGES: usize = 64;

/// Bounds in microseconds, as values are compared, and in milliseconds, as they are told: with four significant digits,
/// short on the wire and the same on every machine.
static EDGES: LazyLock<[(f64, f64); N_EDGES]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let us = 10f64.powf(i as f64 / 8.0);
        let ms = format!("{:.3e}", us / 1_000.0);
        // A hair above, so that a power of ten is in the bucket that ends with it.
        (
            us * (1.0 + 1e-9),
            ms.parse().expect("a formatted float is a float"),
        )
    })
});

/// Counts per bucket, empty ones left out; `values` are `(microseconds, count)` in any order.
///
/// A value is in the first bucket whose bound is not below it. Values come with three significant digits, so one that
/// lies within 0.1 % of a bound may be counted beyond it.
pub(super) fn log_buckets(values: impl IntoIterator<Item = (u64, u64)>) -> Vec<Bucket> {
    told(&log_counts(values))
}

/// The same before it is told: the count of every bucket.
pub(super) fn log_counts(values: impl IntoIterator<Item = (u64, u64)>) -> [u64; N_EDGES] {
    let mut counts = [0u64; N_EDGES];
    for (us, count) in values {
        // Exact for the range in use: 60 s are 6e7 us.
        let i = EDGES
            .partition_point(|(edge, _)| *edge < us as f64)
            .min(N_EDGES - 1);
        counts[i] = counts[i].saturating_add(count);
    }
    counts
}

/// Buckets with their bounds, empty ones left out.
pub(super) fn told(counts: &[u64; N_EDGES]) -> Vec<Bucket> {
    let all = EDGES.iter().zip(counts).filter(|(_, count)| **count > 0);
    all.map(|((_, le_ms), count)| Bucket {
        le_ms: *le_ms,
        count: *count,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_includes_them() {
        for (us, le_ms) in [
            (1, 0.001),
            (2, 0.002371),
            (10, 0.01),
            (11, 0.01334),
            (1_000, 1.0),
            (1_001, 1.334),
            (1_000_000, 1_000.0),
            (60_000_000, 74_990.0),
        ] {
            let buckets = log_buckets([(us, 3)]);
            assert_eq!(buckets, [Bucket { le_ms, count: 3 }], "{us} us");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_bounds_ascend(values in proptest::collection::vec((1u64..=60_000_000, 1u64..1_000), 0..200)) {
            let buckets = log_buckets(values.iter().copied());
            prop_assert_eq!(buckets.iter().map(|b| b.count).sum::<u64>(), values.iter().map(|v| v.1).sum::<u64>());
            prop_assert!(buckets.windows(2).all(|w| w[0].le_ms < w[1].le_ms));
            prop_assert!(buckets.len() <= 64);
        }
    }
}
