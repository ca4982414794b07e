//! Names made of data (`type:click:count`, `profile.tier`), made once and shared after that.
//!
//! A stream has few types and products but millions of entries; without this each entry would format and allocate the
//! same names again. Shared by all workers of a stage: a read takes one short shared lock of one of several shards.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

/// Longest part of a counter's name that comes from data, in bytes; longer ones are cut by [`short`].
pub(crate) const PART_MAX: usize = 256;

/// Shards of the table; with at most 64 workers on as many cores, two rarely meet in one. A power of two.
const N_SHARDS: usize = 16;

/// Names kept in one shard. Beyond it names are formatted each time: slower, never wrong, and memory stays below
/// 16 * 512 * (256 bytes of data + prefix) or about 3 MiB for each table, whatever a hostile producer sends.
const SHARD_MAX: usize = 512;

/// All names of one shape: `prefix` + part + `suffix`.
pub(crate) struct Names {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    hasher: RandomState,
    shards: [RwLock<HashMap<Bytes, Bytes>>; N_SHARDS],
}

impl Names {
    pub(crate) fn new(prefix: &str, suffix: &str) -> Self {
        Self {
            prefix: prefix.as_bytes().into(),
            suffix: suffix.as_bytes().into(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| RwLock::default()),
        }
    }

    /// The name for this part of it; a part over [`PART_MAX`] bytes is cut by [`short`]. No allocation once known.
    pub(crate) fn of(&self, part: &Bytes) -> Bytes {
        if part.len() > PART_MAX {
            // Not kept: whoever sends such names sends many, and hashing dominates anyway.
            return self.make(&short(part));
        }
        let hash = self.hasher.hash_one(&part[..]);
        let shard = &self.shards[usize::try_from(hash % N_SHARDS as u64).unwrap_or(0)];
        if let Some(name) = shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&part[..])
        {
            return name.clone();
        }
        let name = self.make(part);
        let mut known = shard.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < SHARD_MAX {
            // The key is a slice of the name itself, not of `part`, which would keep a whole read buffer alive.
            let key = name.slice(self.prefix.len()..name.len() - self.suffix.len());
            known.insert(key, name.clone());
        }
        name
    }

    fn make(&self, part: &[u8]) -> Bytes {
        let mut name = BytesMut::with_capacity(self.prefix.len() + part.len() + self.suffix.len());
        name.put_slice(&self.prefix);
        name.put_slice(part);
        name.put_slice(&self.suffix);
        name.freeze()
    }
}

/// The part itself up to [`PART_MAX`] bytes; a longer one as its beginning (cut at a whole character where it is UTF-8),
/// `~`, and the first 16 hex digits of its SHA-256: at most [`PART_MAX`] bytes, equal for equal parts, and different
/// for different ones for any practical purpose.
pub(crate) fn short(part: &Bytes) -> Bytes {
    const TAIL: usize = 1 + 16;
    if part.len() <= PART_MAX {
        return part.clone();
    }
    let head = &part[..PART_MAX - TAIL];
    let head = match std::str::from_utf8(head) {
        Ok(_) => head,
        // Only an unfinished last character is dropped; bytes that are no UTF-8 at all are cut where they are.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        Err(_) => head,
    };
    let mut name = BytesMut::with_capacity(PART_MAX);
    name.put_slice(head);
    name.put_u8(b'~');
    for byte in &Sha256::digest(part)[..8] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        name.put_u8(HEX[usize::from(byte >> 4)]);
        name.put_u8(HEX[usize::from(byte & 15)]);
    }
    name.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_is_shared_and_not_made_again() {
        let names = Names::new("type:", ":count");
        let first = names.of(&Bytes::from_static(b"click"));
        let second = names.of(&Bytes::from(b"click".to_vec()));
        assert_eq!(first, "type:click:count");
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same memory");
    }

    #[test]
    fn a_flood_of_names_is_answered_rightly_in_bounded_memory() {
        let names = Names::new("product:", ":count");
        for i in 0..3 * N_SHARDS * SHARD_MAX {
            let part = Bytes::from(format!("p{i}"));
            assert_eq!(names.of(&part), format!("product:p{i}:count"));
        }
        let n_kept: usize = names.shards.iter().map(|s| s.read().unwrap().len()).sum();
        assert_eq!(n_kept, N_SHARDS * SHARD_MAX);
    }

    #[test]
    fn long_names_are_cut_with_a_hash_that_tells_them_apart() {
        let a = Bytes::from(vec![b'x'; 1 << 20]);
        let mut b = a.to_vec();
        b.push(b'y');
        let b = Bytes::from(b);
        assert_eq!(short(&a).len(), PART_MAX);
        assert_eq!(short(&a), short(&a));
        assert_ne!(short(&a), short(&b));
        assert!(short(&a).starts_with(&[b'x'; 239]));
        assert_eq!(short(&a)[239], b'~');

        let whole = Bytes::from(vec![b'x'; PART_MAX]);
        assert_eq!(short(&whole), whole, "at the limit it stays whole");

        // 239 bytes end in the middle of a two-byte character.
        let umlauts = Bytes::from("ä".repeat(200));
        let cut = short(&umlauts);
        assert!(std::str::from_utf8(&cut).is_ok());
        assert_eq!(cut.len(), 238 + 17);

        let garbage = Bytes::from(vec![0xff; 300]);
        assert_eq!(short(&garbage).len(), PART_MAX);

        let names = Names::new("type:", ":count");
        assert_eq!(names.of(&a).len(), 5 + PART_MAX + 6);
    }
}
