//! Recorded logs, a cut at every byte, rotation and repair.

use dev_testkit::chains::Chain;
use proptest::prelude::*;
use wire_cometbft::wal::{RoundStateEvent, TimeoutInfo, WAL_HEADER_BYTES, WalReader};

use super::*;

fn step(height: i64, round: i32, pad: usize) -> TimedWalMessage {
    let event = RoundStateEvent { height, round, step: "x".repeat(pad) };
    TimedWalMessage { time: Time::new(height, 3).unwrap(), msg: Some(WalMessageSum::RoundState(event).into()) }
}

fn timeout(height: i64) -> TimedWalMessage {
    let info = TimeoutInfo { height, round: 1, step: 4, ..TimeoutInfo::default() };
    TimedWalMessage { time: Time::new(height, 4).unwrap(), msg: Some(WalMessageSum::Timeout(info).into()) }
}

fn records(bytes: &[u8]) -> Vec<TimedWalMessage> {
    WalReader::new(bytes).map(Result::unwrap).collect()
}

/// Heights 1 to 4, four records each.
fn write(wal: &mut Wal) {
    for height in 1..=4 {
        for record in [step(height, 0, 5), timeout(height), step(height, 1, 9)] {
            wal.append(&record).unwrap();
        }
        if height < 4 {
            wal.end_height(height).unwrap();
        }
    }
    wal.sync().unwrap();
}

fn tail_of_four() -> Vec<TimedWalMessage> {
    vec![step(4, 0, 5), timeout(4), step(4, 1, 9)]
}

#[test]
fn a_new_log_begins_with_the_end_of_height_zero() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cs.wal");
    let mut wal = Wal::open(&dir).unwrap();
    let bytes = fs::read(dir.join("wal")).unwrap();
    assert_eq!(ends(&bytes, 0), (Some(0), true));
    assert_eq!(wal.tail(1, 1).unwrap(), Ok(vec![]));
    assert_eq!(wal.tail(50, 50).unwrap(), Ok(vec![]));
    write(&mut wal);
    assert_eq!(wal.tail(4, 1).unwrap(), Ok(tail_of_four()));
    assert_eq!(wal.tail(3, 1).unwrap(), Err(TailError::AlreadyEnded(3)));
    assert_eq!(wal.tail(6, 1).unwrap(), Err(TailError::NotFound(5)));
    assert_eq!(wal.tail(4, 9).unwrap(), Err(TailError::BelowInitial { height: 4, initial: 9 }));
    drop(wal);
    let mut wal = Wal::open(&dir).unwrap();
    assert_eq!(wal.recover(4, 1).unwrap(), tail_of_four());
    assert!(wal.recover(3, 1).unwrap().is_empty());
    // A height that the log does not reach back to can be replayed from now on.
    assert!(wal.recover(9, 1).unwrap().is_empty());
    wal.append(&timeout(9)).unwrap();
    assert_eq!(wal.recover(9, 1).unwrap(), vec![timeout(9)]);
    assert!(matches!(wal.append(&step(1, 1, MAX_WAL_DATA_BYTES)), Err(StoreError::RecordTooLong)));
}

#[test]
fn unsynced_records_are_there_after_a_clean_end_and_may_be_lost_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(dir.path()).unwrap();
    wal.append(&timeout(1)).unwrap();
    assert_eq!(records(&fs::read(dir.path().join("wal")).unwrap()).len(), 1);
    assert_eq!(wal.tail(1, 1).unwrap(), Ok(vec![timeout(1)]), "reads see what was appended");
    for _ in 0..5000 {
        wal.append(&timeout(1)).unwrap();
        assert!(wal.buffer.len() < BUFFER_BYTES);
    }
    drop(wal);
    assert_eq!(records(&fs::read(dir.path().join("wal")).unwrap()).len(), 5002);
}

/// Cut at every byte of the last records, alone or with zeroes or garbage behind.
#[test]
fn a_torn_end_is_cut_off_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(dir.path()).unwrap();
    write(&mut wal);
    drop(wal);
    let whole = fs::read(dir.path().join("wal")).unwrap();
    let tail_bytes: usize = tail_of_four().iter().map(|record| encode_record(record).unwrap().len()).sum();
    for cut in whole.len() - tail_bytes..=whole.len() {
        for behind in [&[][..], &[0; 64], &[0x5a; 3], &[0xff; 40]] {
            let dir = tempfile::tempdir().unwrap();
            let head = dir.path().join("wal");
            let torn = [&whole[..cut], behind].concat();
            fs::write(&head, &torn).unwrap();
            let kept = intact_prefix(&whole[..cut]);
            let mut wal = Wal::open(dir.path()).unwrap();
            assert_eq!(fs::read(&head).unwrap(), &whole[..kept], "{cut}");
            let copy = dir.path().join("wal.CORRUPTED");
            assert_eq!(copy.exists(), torn.len() > kept);
            if copy.exists() {
                assert_eq!(fs::read(copy).unwrap(), torn);
            }
            let mut expected = wal.recover(4, 1).unwrap();
            assert_eq!(expected, tail_of_four()[..expected.len()]);
            wal.append(&timeout(77)).unwrap();
            expected.push(timeout(77));
            assert_eq!(wal.recover(4, 1).unwrap(), expected);
        }
    }
}

#[test]
fn damage_in_the_middle_is_cut_where_it_matters() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(dir.path()).unwrap();
    write(&mut wal);
    drop(wal);
    let head = dir.path().join("wal");
    let whole = fs::read(&head).unwrap();
    // In a height that is over: passed over.
    let mut old = whole.clone();
    let first = encode_record(&records(&whole)[0]).unwrap().len();
    old[first + 10] ^= 1;
    fs::write(&head, &old).unwrap();
    let mut wal = Wal::open(dir.path()).unwrap();
    assert_eq!(wal.recover(4, 1).unwrap(), tail_of_four());
    drop(wal);
    assert_eq!(fs::read(&head).unwrap(), old);
    // In the last height, with good records behind.
    let mut new = whole.clone();
    let last = encode_record(&step(4, 1, 9)).unwrap().len();
    let at = whole.len() - last - 3;
    new[at] ^= 1;
    fs::write(&head, &new).unwrap();
    let mut wal = Wal::open(dir.path()).unwrap();
    assert!(matches!(wal.tail(4, 1).unwrap(), Err(TailError::Corrupt { segment: 0, .. })));
    assert_eq!(wal.recover(4, 1).unwrap(), vec![step(4, 0, 5)]);
    assert_eq!(fs::read(dir.path().join("wal.CORRUPTED")).unwrap(), new);
    wal.append(&timeout(4)).unwrap();
    assert_eq!(wal.recover(4, 1).unwrap(), vec![step(4, 0, 5), timeout(4)]);
}

#[test]
fn rotation_keeps_the_limits_and_the_tail_spans_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut wal = Wal::open_with(dir.path(), 1000, 5000).unwrap();
    for height in 1..=40 {
        for round in 0..10 {
            wal.append(&step(height, round, 40)).unwrap();
        }
        let expected: Vec<_> = (0..10).map(|round| step(height, round, 40)).collect();
        assert_eq!(wal.tail(height, 1).unwrap(), Ok(expected));
        wal.end_height(height).unwrap();
        let total: u64 = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(total < 5000 + 1200, "{total}");
    }
    let kept = segments(dir.path()).unwrap();
    assert!(kept.len() >= 3 && kept[0] > 10, "{kept:?}");
    assert!(dir.path().join("wal.020").exists() || kept[0] > 20);
    assert_eq!(wal.tail(2, 1).unwrap(), Err(TailError::NotFound(1)), "gone long ago");
    for round in 0..60 {
        wal.append(&step(41, round, 40)).unwrap();
    }
    drop(wal);

    // Damage in an older segment of the height: that segment is cut, later ones are put aside.
    let mut wal = Wal::open_with(dir.path(), 1000, 100_000).unwrap();
    assert_eq!(wal.recover(41, 1).unwrap().len(), 60);
    let newest = *segments(dir.path()).unwrap().last().unwrap();
    let path = wal.path(Some(newest));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let fewer = wal.recover(41, 1).unwrap();
    assert!(fewer.len() < 60 && !fewer.is_empty());
    assert!(path.with_extension(format!("{newest:03}.CORRUPTED")).exists());
    assert!(dir.path().join("wal.CORRUPTED").exists());
    wal.append(&timeout(41)).unwrap();
    assert_eq!(wal.recover(41, 1).unwrap().len(), fewer.len() + 1);
    drop(wal);
    let mut wal = Wal::open_with(dir.path(), 1000, 100_000).unwrap();
    assert_eq!(wal.recover(41, 1).unwrap()[..fewer.len()], fewer);
}

/// Logs that nodes of the reference wrote, whole and cut into segments, give what the rule gives on their bytes.
#[test]
fn recorded_logs_are_read_and_left_as_they_are() {
    let (mut logs, mut replayed) = (0, 0);
    for chain in Chain::all().unwrap() {
        let Some(bytes) = chain.wal().unwrap() else { continue };
        logs += 1;
        let all = records(&bytes);
        let heights: Vec<i64> = all
            .iter()
            .filter_map(|record| match record.msg.as_ref()?.sum.as_ref()? {
                WalMessageSum::EndHeight(end) => Some(end.height),
                _ => None,
            })
            .collect();
        let last = *heights.last().unwrap();
        for pieces in [1, 4] {
            let dir = tempfile::tempdir().unwrap();
            let mut rest = &bytes[..];
            for piece in 0..pieces - 1 {
                let mut len = 0;
                while len < bytes.len() / pieces {
                    let data = u32::from_be_bytes(rest[len + 4..len + 8].try_into().unwrap()) as usize;
                    len += WAL_HEADER_BYTES + data;
                }
                fs::write(dir.path().join(format!("wal.{piece:03}")), &rest[..len]).unwrap();
                rest = &rest[len..];
            }
            fs::write(dir.path().join("wal"), rest).unwrap();
            let mut wal = Wal::open(dir.path()).unwrap();
            for height in [last + 1, last, last + 5, heights[heights.len() / 2] + 1, 1] {
                let expected = tail(&[&bytes], height, 1);
                assert_eq!(wal.tail(height, 1).unwrap(), expected, "{} {height}", chain.name);
            }
            replayed += wal.recover(last + 1, 1).unwrap().len();
            drop(wal);
            assert_eq!(fs::read(dir.path().join("wal")).unwrap(), rest, "{}", chain.name);
        }
    }
    assert!(logs >= 8 && replayed > 0, "{logs} logs, {replayed} records");
}

proptest! {
    /// Any bytes for a head: the log opens, keeps good records only, and goes on.
    #[test]
    fn any_head_opens(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("wal"), &bytes).unwrap();
        let mut wal = Wal::open(dir.path()).unwrap();
        let _ = wal.recover(7, 1).unwrap();
        wal.append(&timeout(7)).unwrap();
        prop_assert_eq!(wal.recover(7, 1).unwrap(), vec![timeout(7)]);
    }
}
