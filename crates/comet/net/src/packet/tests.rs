//! Tests of packets.

use proptest::prelude::*;

use super::*;

fn channel(id: u8, max_message: usize) -> ChannelDescriptor {
    ChannelDescriptor { id, priority: 1, send_queue: 1, max_message }
}

fn piece(channel_id: i32, eof: bool, len: usize) -> Vec<u8> {
    Packet::from(PacketSum::Msg(PacketMsg { channel_id, eof, data: vec![7; len] })).encode_to_vec()
}

#[test]
fn keep_alives_have_the_known_bytes() {
    let mut out = Vec::new();
    put_ping(&mut out);
    put_pong(&mut out);
    assert_eq!(out, [2, 0x0a, 0, 2, 0x12, 0]);
}

#[test]
fn the_largest_packet_is_as_long_as_the_limit() {
    let mut out = Vec::new();
    assert_eq!(put_piece(0x22, true, &[7; MAX_PAYLOAD], &mut out), out.len());
    assert_eq!(out.len(), MAX_PACKET + 2);
    assert_eq!(piece(0x22, true, MAX_PAYLOAD).len(), MAX_PACKET);
    assert!(piece(0x22, true, MAX_PAYLOAD + 1).len() > MAX_PACKET);
    assert_eq!(piece(0x22, false, MAX_PAYLOAD + 2).len(), MAX_PACKET);
}

#[test]
fn messages_of_several_channels_are_put_together() {
    let mut assembler = Assembler::new(&[channel(0x20, 5000), channel(0x21, 5000)]);
    assert_eq!(assembler.take(&piece(0x20, false, 1024)), Ok(Incoming::Piece));
    assert_eq!(assembler.take(&piece(0x21, false, 1000)), Ok(Incoming::Piece));
    assert_eq!(assembler.held(), 2024);
    let Ok(Incoming::Message(0x20, message)) = assembler.take(&piece(0x20, true, 1)) else { panic!() };
    assert_eq!(message.len(), 1025);
    assert_eq!(assembler.held(), 1000);
    let Ok(Incoming::Message(0x21, message)) = assembler.take(&piece(0x21, true, 0)) else { panic!() };
    assert_eq!(message.len(), 1000);
    assert_eq!(assembler.held(), 0);
}

#[test]
fn the_longest_message_passes_and_a_longer_one_does_not() {
    let mut assembler = Assembler::new(&[channel(0x20, 2000)]);
    assert_eq!(assembler.take(&piece(0x20, false, 1000)), Ok(Incoming::Piece));
    assert!(matches!(assembler.take(&piece(0x20, true, 1000)), Ok(Incoming::Message(0x20, _))));
    assert_eq!(assembler.take(&piece(0x20, false, 1000)), Ok(Incoming::Piece));
    let error = PacketError::MessageTooLong { channel: 0x20, max: 2000 };
    assert_eq!(assembler.take(&piece(0x20, false, 1001)), Err(error));
}

#[test]
fn unknown_channels_and_kinds_are_refused() {
    let mut assembler = Assembler::new(&[channel(0x20, 2000)]);
    for id in [0, 0x21, -1, 0x120, i32::MAX] {
        assert_eq!(assembler.take(&piece(id, true, 1)), Err(PacketError::UnknownChannel(id)));
    }
    assert_eq!(assembler.take(&[]), Err(PacketError::UnknownKind));
    assert!(matches!(assembler.take(&[0x0a]), Err(PacketError::Decode(_))));
}

proptest! {
    #[test]
    fn pieces_are_written_like_the_message(id in any::<u8>(), eof in any::<bool>(), len in 0_usize..=MAX_PAYLOAD) {
        let mut out = Vec::new();
        put_piece(id, eof, &vec![7; len], &mut out);
        let expected = Packet::from(PacketSum::Msg(PacketMsg { channel_id: id.into(), eof, data: vec![7; len] }));
        prop_assert_eq!(out, expected.encode_delimited());
    }

    #[test]
    fn any_bytes_are_survived(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20)) {
        let mut assembler = Assembler::new(&[channel(0, 100), channel(1, 100)]);
        for packet in packets {
            let _ = assembler.take(&packet);
            prop_assert!(assembler.held() <= 200);
        }
    }
}
