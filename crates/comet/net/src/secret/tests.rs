//! Tests of the arithmetic of encrypted connections.

use proptest::prelude::*;
use sha2::Digest;

use super::*;

/// What the reference's libraries give for the ephemeral keys SHA-256("local n") and SHA-256("remote n"), and the hashes of
/// the first two sealed frames of "hello" padded with zeros.
struct Golden {
    shared: &'static str,
    least: bool,
    recv: &'static str,
    send: &'static str,
    challenge: &'static str,
    first_frame: &'static str,
    second_frame: &'static str,
}

const GOLDEN: [Golden; 4] = [
    Golden {
        shared: "c2613ffb8f5b060702dc072c2c7070a9c74ca00e856427470125a1b33b618939",
        least: true,
        recv: "0bd189c21da9a17a54d5cb4afea74333b3a6c04a78645b80db3263ead080ebca",
        send: "d3f243c26678f907f534532edcc562c9f9e7fde952efe38bc4e60e7917d63217",
        challenge: "1ac3f7508406528a66bd1ac764905c31bc9ac36085bbfc3c94ac8ee7cee790ea",
        first_frame: "87583fcb807f16989c486a2fa6d5b95be48aec6f083a254d8f487c4fbaaa4828",
        second_frame: "0eff4567659754b91d8dc653577b10f199fceecfdf088d7df4dfbafc56b67ea8",
    },
    Golden {
        shared: "0f5f03f3b4031d0624286c9efa817a7a968bb7864d9b0d86f95b2e76b8abdc4a",
        least: true,
        recv: "b4346894f0e004a32f8dd5b44367936bd5805718d958b6492ce5559fe19530c9",
        send: "b20eb99e7322beb019e6008cf07fb245d6b800f7f00e02561de4f96a21498dc4",
        challenge: "d523844e5837c925f382d72c8fc8af8b53040c8e2906c2c960ee7c9717319155",
        first_frame: "cd09de53c49b34a62bc4c4e58912cbec30286a2a8dec448381bfd958b013ea47",
        second_frame: "8449ddd86eca6b9a6aa74c4cd662c7adcc8591a85cee7616e6d3fd1b63c1bc7a",
    },
    Golden {
        shared: "8500257dacd85e3e3f57853ccde4ddaf9c10b96a1196370c66317887c1559855",
        least: false,
        recv: "18a9813c781a5fd1fadcb238f5efece3bba51ae3bc0606c25dbf4d6784fc7be5",
        send: "894fb6c6ba38f1839f5f3c8f68f79fe4298f1f8a49938bf210ca8bf39c1a0fac",
        challenge: "744dda306b3372ee67acbcd6656d34d299be70102430039066ab2c1a4898c6f7",
        first_frame: "4c232569ccb28d52fe16c879fe5d80c2b3f2d1a4e168c40e41e54c53cac493b2",
        second_frame: "4f904d5b05dfd60d4b3caea320d1d3eeddc7ad5f126b98379f61eca87d6c6e6f",
    },
    Golden {
        shared: "5659eaeb233775147b56bf2200bbbf61bc770b7cbac5b9374850e1d73c3bb820",
        least: true,
        recv: "f2044b6bcc507f413855591658baab3d16a8a36f63680e797a4f5b812691bcce",
        send: "76631f136c07f3a62f71d25ae2adde67f9be15dd943acc9fa4f5483579b2b3a8",
        challenge: "76a22d65a45e21f9ed8f9e03bc46dacc742900a03e59ffd886b7ee6c2a84ba78",
        first_frame: "84073e2d8c5f9ba92438ff4bb1e73f9953cc2b69d9e2385b540e90ccc8de16c0",
        second_frame: "3c32251c1fab1cb1d019c57bf6010a5c2b9ad170e285ca5d81918d2b800ce438",
    },
];

fn ephemeral(text: &str) -> Ephemeral {
    Ephemeral::from_bytes(Sha256::digest(text).into())
}

fn framed(sealer: &mut Sealer, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(payload, &mut out).unwrap();
    out
}

#[test]
fn golden_keys_challenges_and_frames() {
    for (n, golden) in GOLDEN.iter().enumerate() {
        let (local, remote) = (ephemeral(&format!("local {n}")), ephemeral(&format!("remote {n}")));
        let agreement = local.agree(&remote.public()).unwrap();
        assert_eq!(local.public() < remote.public(), golden.least);
        assert_eq!(hex::encode(agreement.challenge), golden.challenge);
        assert_eq!(hex::encode(agreement.keys.recv), golden.recv);
        assert_eq!(hex::encode(agreement.keys.send), golden.send);
        let shared: [u8; 32] = hex::decode(golden.shared).unwrap().try_into().unwrap();
        assert!(derive_keys(&shared, golden.least) == agreement.keys);
        let mut sealer = Sealer::new(&agreement.keys.send);
        assert_eq!(hex::encode(Sha256::digest(framed(&mut sealer, b"hello"))), golden.first_frame);
        assert_eq!(hex::encode(Sha256::digest(framed(&mut sealer, b"hello"))), golden.second_frame);
    }
}

#[test]
fn both_sides_agree() {
    let (a, b) = (ephemeral("a"), ephemeral("b"));
    let (ours, theirs) = (a.agree(&b.public()).unwrap(), b.agree(&a.public()).unwrap());
    assert_eq!(ours.challenge, theirs.challenge);
    assert_eq!(ours.keys.recv, theirs.keys.send);
    assert_eq!(ours.keys.send, theirs.keys.recv);
    assert_ne!(ours.keys.send, theirs.keys.send);
}

#[test]
fn small_order_keys_are_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    let order_eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let order_eight: [u8; 32] = hex::decode(order_eight).unwrap().try_into().unwrap();
    for key in [[0; 32], one, order_eight] {
        assert_eq!(ephemeral("a").agree(&key).err(), Some(SecretError::ZeroSecret));
    }
}

#[test]
fn frames_are_taken_in_order_only() {
    let mut sealer = Sealer::new(&[1; 32]);
    let frames = framed(&mut sealer, &[9; FRAME_PAYLOAD + 1]);
    assert_eq!(frames.len(), 2 * SEALED_SIZE);
    let mut first: [u8; SEALED_SIZE] = frames[..SEALED_SIZE].try_into().unwrap();
    let mut second: [u8; SEALED_SIZE] = frames[SEALED_SIZE..].try_into().unwrap();
    let mut swapped = second;
    assert_eq!(Opener::new(&[1; 32]).open(&mut swapped), Err(SecretError::Decrypt));
    let mut other_key = first;
    assert_eq!(Opener::new(&[2; 32]).open(&mut other_key), Err(SecretError::Decrypt));
    let mut opener = Opener::new(&[1; 32]);
    assert_eq!(opener.open(&mut first).unwrap(), [9; FRAME_PAYLOAD]);
    assert_eq!(opener.open(&mut second).unwrap(), [9]);
}

#[test]
fn payload_length_is_checked() {
    let cipher = ChaCha20Poly1305::new(&Key::from([1; 32]));
    let mut frame = [0_u8; FRAME_SIZE];
    frame[..4].copy_from_slice(&1025_u32.to_le_bytes());
    let tag = cipher.encrypt_in_place_detached(&Nonce::from([0; 12]), &[], &mut frame).unwrap();
    let mut sealed = [0; SEALED_SIZE];
    sealed[..FRAME_SIZE].copy_from_slice(&frame);
    sealed[FRAME_SIZE..].copy_from_slice(&tag);
    assert_eq!(Opener::new(&[1; 32]).open(&mut sealed), Err(SecretError::PayloadLength(1025)));
}

#[test]
fn frame_numbers_run_out() {
    let mut counter = Counter(u64::MAX);
    assert_eq!(counter.next(), Err(SecretError::OutOfNonces));
    let mut counter = Counter(0x0102);
    assert_eq!(counter.next(), Ok([0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0].into()));
}

proptest! {
    #[test]
    fn payloads_pass(payload in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let frames = framed(&mut Sealer::new(&[3; 32]), &payload);
        let mut opener = Opener::new(&[3; 32]);
        let mut received = Vec::new();
        for frame in frames.chunks(SEALED_SIZE) {
            let mut frame: [u8; SEALED_SIZE] = frame.try_into().unwrap();
            received.extend_from_slice(opener.open(&mut frame).unwrap());
        }
        prop_assert_eq!(received, payload);
    }

    #[test]
    fn a_changed_bit_is_noticed(at in 0..SEALED_SIZE, bit in 0..8) {
        let frame = framed(&mut Sealer::new(&[3; 32]), b"some payload");
        let mut frame: [u8; SEALED_SIZE] = frame.try_into().unwrap();
        frame[at] ^= 1_u8 << bit;
        prop_assert_eq!(Opener::new(&[3; 32]).open(&mut frame), Err(SecretError::Decrypt));
    }
}
