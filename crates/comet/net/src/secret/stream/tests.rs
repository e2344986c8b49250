//! Tests of the encrypted stream.

use super::*;

#[test]
fn lengths() {
    assert_eq!(read_length(&[]).unwrap(), None);
    assert_eq!(read_length(&[0x80]).unwrap(), None);
    assert_eq!(read_length(&[5, 1]).unwrap(), Some((5, 1)));
    assert_eq!(read_length(&[0x80, 0x08, 9]).unwrap(), Some((1024, 2)));
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(read_length(&most).unwrap(), Some((u64::MAX, 10)));
    let mut over = most;
    over[9] = 2;
    assert!(matches!(read_length(&over), Err(StreamError::Length)));
    assert!(matches!(read_length(&[0x80; 10]), Err(StreamError::Length)));
}

#[test]
fn delimited_messages() {
    assert_eq!(split_delimited(&[3, 1, 2], 3).unwrap(), None);
    assert_eq!(split_delimited(&[3, 1, 2, 3, 4], 3).unwrap(), Some((&[1, 2, 3][..], 4)));
    assert_eq!(split_delimited(&[0, 7], 3).unwrap(), Some((&[][..], 1)));
    assert!(matches!(split_delimited(&[4], 3), Err(StreamError::TooLong { len: 4, max: 3 })));
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert!(matches!(split_delimited(&most, 3), Err(StreamError::TooLong { len: u64::MAX, .. })));
}

#[tokio::test]
async fn messages_cross_frames() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut writer = SecretWriter::new(ours, Sealer::new(&[1; 32]));
    let mut reader = SecretReader::new(BufReader::new(theirs), Opener::new(&[1; 32]));
    let mut payload = vec![0x80, 0x20];
    payload.extend_from_slice(&[7; 4096]);
    payload.extend_from_slice(&[2, 8, 9]);
    writer.write(&payload).await.unwrap();
    assert_eq!(reader.read_delimited(4096).await.unwrap(), vec![7; 4096]);
    assert_eq!(reader.read_delimited(10).await.unwrap(), [8, 9]);
    drop(writer);
    assert!(matches!(reader.read_delimited(10).await, Err(StreamError::Io(_))));
}
