use super::*;

fn cell(n: usize) -> Option<Cell> {
    Some(Cell {
        version: Bytes::from("1-1"),
        value: Bytes::from(n.to_string()),
    })
}

#[test]
fn a_cache_stays_within_its_bytes_and_knows_what_was_used_last() {
    let mut cache = Cache::of(100_000);
    let kept = Bytes::from("kept");
    cache.put(kept.clone(), cell(7));
    for n in 0..100_000 {
        cache.put(Bytes::from(format!("key {n}")), cell(n));
        assert_eq!(cache.get(&kept), Some(cell(7)), "{n}");
        let all = cache.young.iter().chain(&cache.old);
        if n % 997 == 0 {
            let size: usize = all.map(|(key, cell)| key.len() + cost(cell)).sum();
            assert!(size <= 101_000, "{size} after {n}");
        }
    }
    assert_eq!(cache.get(&Bytes::from("key 99999")), Some(cell(99_999)));
    assert_eq!(cache.get(&Bytes::from("key 0")), None);
    cache.put(kept.clone(), None);
    assert_eq!(cache.get(&kept), Some(None), "known as not there");
    cache.remove(&kept);
    assert_eq!(cache.get(&kept), None);
}
