//! Tests of the address book.

use proptest::prelude::*;

use super::*;

fn id(n: u32) -> PeerId {
    PeerId::new(&format!("{n:040x}"))
}

/// The nth address, each of a group of its own as long as n is below 2^14.
fn address(n: u32) -> NetAddress {
    let ip = std::net::Ipv4Addr::new(60 + (n >> 8 & 0x3f) as u8, n as u8, (n >> 14) as u8, 1);
    NetAddress { id: id(n), ip: ip.into(), port: 26656 }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn filled(count: u32) -> Book {
    let mut book = Book::new(true);
    for n in 1..=count {
        book.add(address(n), address(n), now()).unwrap();
    }
    book
}

/// Buckets and entries refer to each other, and no bucket is too full.
fn check(book: &Book) {
    let mut references = 0;
    for (old, buckets) in [(false, &book.new_buckets), (true, &book.old_buckets)] {
        for (at, bucket) in buckets.iter().enumerate() {
            assert!(bucket.len() <= BUCKET_SIZE);
            references += bucket.len();
            for id in bucket {
                let known = &book.entries[id];
                assert_eq!(known.old, old);
                assert!(known.buckets.contains(&at));
            }
        }
    }
    assert_eq!(references, book.entries.values().map(|known| known.buckets.len()).sum::<usize>());
    assert!(book.entries.values().all(|known| (1..=MAX_BUCKETS_PER_ADDRESS).contains(&known.buckets.len())));
    assert_eq!(book.old_count, book.entries.values().filter(|known| known.old).count());
}

#[test]
fn what_may_not_be_taken() {
    let mut book = Book::new(true);
    book.set_our_id(id(1));
    book.add_our_address(address(2).socket());
    book.set_private([id(3)].into());
    assert_eq!(book.add(address(1), address(9), now()), Err(BookError::Ours));
    assert_eq!(book.add(address(2), address(9), now()), Err(BookError::Ours));
    assert_eq!(book.add(address(3), address(9), now()), Err(BookError::Private));
    assert_eq!(book.add(address(4), address(3), now()), Err(BookError::Private));
    let at = |ip: &str| NetAddress { ip: ip.parse().unwrap(), ..address(4) };
    assert_eq!(book.add(at("10.0.0.1"), address(9), now()), Err(BookError::NotRoutable));
    assert_eq!(book.add(at("0.0.0.0"), address(9), now()), Err(BookError::Invalid));
    let bad_id = NetAddress { id: PeerId::new("ABC"), ..address(4) };
    assert_eq!(book.add(bad_id, address(9), now()), Err(BookError::Invalid));
    assert!(book.is_empty());
    let mut lenient = Book::new(false);
    assert_eq!(lenient.add(at("10.0.0.1"), address(9), now()), Ok(()));
    assert_eq!(lenient.len(), 1);
}

#[test]
fn one_source_fills_only_its_share() {
    let mut book = Book::new(true);
    for n in 1..16_000 {
        book.add(address(n), address(20_000), now()).unwrap();
    }
    check(&book);
    assert!(book.len() <= NEW_BUCKETS_PER_GROUP as usize * BUCKET_SIZE, "{}", book.len());
}

#[test]
fn the_whole_book_is_bounded() {
    let mut book = filled(60_000);
    check(&book);
    assert!(book.len() <= NEW_BUCKETS * BUCKET_SIZE);
    let ids: Vec<_> = book.entries.keys().cloned().collect();
    ids.iter().for_each(|id| book.mark_good(id, now()));
    check(&book);
    assert!(book.old_count <= OLD_BUCKETS * BUCKET_SIZE && book.old_count > 1000, "{}", book.old_count);
}

#[test]
fn bad_addresses_make_room_first() {
    let mut book = filled(0);
    for n in 1..=BUCKET_SIZE as u32 {
        book.add(address(n), address(9), now()).unwrap();
    }
    let ids: Vec<_> = (1..=BUCKET_SIZE as u32).map(id).collect();
    // All in one bucket, all tried at the same time but the seventh, which failed three times.
    for bucket in &mut book.new_buckets {
        bucket.clear();
    }
    for id in &ids {
        book.entries.get_mut(id).unwrap().buckets = vec![5];
        book.new_buckets[5].push(id.clone());
    }
    (0..3).for_each(|_| book.mark_attempt(&ids[6], now()));
    let later = now() + Duration::from_secs(120);
    book.expire(5, later);
    assert!(!book.contains(&ids[6]));
    book.mark_attempt(&ids[0], later);
    book.entries.get_mut(&ids[3]).unwrap().last_attempt = now() - Duration::from_secs(1);
    book.expire(5, later);
    assert!(!book.contains(&ids[3]) && book.contains(&ids[0]));
    check(&book);
}

#[test]
fn good_addresses_become_old() {
    let mut book = filled(10);
    book.mark_attempt(&id(1), now());
    book.mark_good(&id(1), now());
    assert!(book.is_old(&id(1)) && !book.is_old(&id(2)));
    assert_eq!(book.entries[&id(1)].attempts, 0);
    check(&book);
    book.mark_good(&id(99), now());
    assert_eq!(book.len(), 10);
}

#[test]
fn bans_end() {
    let mut book = filled(3);
    book.ban(&id(1), Duration::from_secs(60), now());
    book.ban(&id(77), Duration::from_secs(60), now());
    assert!(!book.contains(&id(1)) && book.is_banned(&id(1), now()) && book.is_banned(&id(77), now()));
    assert_eq!(book.add(address(1), address(2), now()), Err(BookError::Banned));
    book.reinstate(now());
    assert!(!book.contains(&id(1)));
    let later = now() + Duration::from_secs(61);
    assert!(!book.is_banned(&id(1), later));
    book.reinstate(later);
    assert!(book.contains(&id(1)) && !book.contains(&id(77)));
    check(&book);
}

#[test]
fn bans_are_bounded() {
    let mut book = Book::new(true);
    for n in 0..MAX_BANS as u32 + 10 {
        book.ban(&id(n), Duration::from_secs(60 + u64::from(n)), now());
    }
    assert_eq!(book.bans.len(), MAX_BANS);
    assert!(!book.is_banned(&id(9), now()) && book.is_banned(&id(10), now()));
}

#[test]
fn selections_have_the_right_size() {
    for (size, expected) in [(0, 0), (5, 5), (32, 32), (100, 32), (200, 46), (2000, 250)] {
        let book = filled(size);
        let selection = book.selection();
        assert_eq!(selection.len(), expected);
        let distinct: HashSet<_> = selection.iter().map(|address| address.id.clone()).collect();
        assert_eq!(distinct.len(), expected);
        assert_eq!(book.biased_selection(30).len(), expected);
    }
    let mut book = filled(200);
    (1..=100).for_each(|n| book.mark_good(&id(n), now()));
    let new = book.biased_selection(30).iter().filter(|address| !book.is_old(&address.id)).count();
    assert_eq!(new, 14);
}

#[test]
fn picks_follow_the_bias() {
    let mut book = filled(40);
    assert!(Book::new(true).pick(50).is_none());
    assert!((0..50).all(|_| book.pick(100).is_some()));
    (1..=20).for_each(|n| book.mark_good(&id(n), now()));
    assert!((0..50).all(|_| !book.is_old(&book.pick(100).unwrap().id)));
    assert!((0..50).all(|_| book.is_old(&book.pick(0).unwrap().id)));
}

/// As a reference node wrote it.
const FILE: &str = r#"{
	"key": "5a242253e66270f9d268988f",
	"addrs": [
		{
			"addr": { "id": "0fcfe995539683b92c8b5aedefcd6a54bade8e8d", "ip": "127.0.0.1", "port": 20002 },
			"src": { "id": "61399db464d6eef91507a3dba32da73cbc170557", "ip": "0.0.0.0", "port": 20000 },
			"buckets": [ 41 ],
			"attempts": 0,
			"bucket_type": 1,
			"last_attempt": "2026-11-21T14:26:56.667408988Z",
			"last_success": "0001-01-01T00:00:00Z",
			"last_ban_time": "0001-01-01T00:00:00Z"
		}
	]
}"#;

#[test]
fn the_references_file_is_read_and_written_alike() {
    let mut book = Book::new(false);
    assert_eq!(file::from_json(&mut book, FILE.as_bytes()).unwrap(), 1);
    check(&book);
    let known = &book.entries[&PeerId::new("0fcfe995539683b92c8b5aedefcd6a54bade8e8d")];
    assert_eq!((known.buckets.as_slice(), known.old, known.last_success), (&[41][..], false, None));
    let written: serde_json::Value = serde_json::from_slice(&file::to_json(&book)).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(FILE).unwrap());
}

#[test]
fn files_survive_and_broken_entries_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config").join("addrbook.json");
    let mut book = filled(500);
    (1..=100).for_each(|n| book.mark_good(&id(n), now()));
    file::save(&file::to_json(&book), &path).unwrap();
    let mut read = Book::new(true);
    assert_eq!(file::load(&mut read, &path).unwrap(), 500);
    assert_eq!(read.entries, book.entries);
    assert_eq!(read.key, book.key);
    check(&read);

    assert_eq!(file::load(&mut Book::new(true), &folder.path().join("none")).unwrap(), 0);
    for (text, expected) in [
        (FILE.replace("127.0.0.1", "nowhere"), 0),
        (FILE.replace("0fcfe9", "0FCFE9"), 0),
        (FILE.replace("41", "4100"), 0),
        (FILE.replace("[ 41 ]", "null"), 1),
        (FILE.replace("\"bucket_type\": 1", "\"bucket_type\": 2"), 1),
        (FILE.replace("2026-11-21", "what"), 1),
    ] {
        let mut book = Book::new(true);
        assert_eq!(file::from_json(&mut book, text.as_bytes()).unwrap(), expected, "{text}");
        check(&book);
    }
    std::fs::write(&path, "{").unwrap();
    assert_eq!(file::load(&mut Book::new(true), &path).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_book_stays_consistent(steps in proptest::collection::vec((0_u8..6, 1_u32..300, 1_u32..4), 1..600)) {
        let mut book = Book::new(true);
        let mut at = now();
        for (step, n, source) in steps {
            at += Duration::from_secs(20);
            match step {
                0 | 1 => drop(book.add(address(n), address(1000 + source), at)),
                2 => book.mark_good(&id(n), at),
                3 => book.mark_attempt(&id(n), at),
                4 => book.ban(&id(n), Duration::from_secs(100), at),
                _ => { book.remove(&id(n)); book.reinstate(at); }
            }
        }
        check(&book);
    }
}
