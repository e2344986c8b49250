//! What nodes see of calls before the enclave does; whole calls are tested with the worker.

use super::*;

fn kind_and_bytes(kind: Kind, data: &[u8]) -> Result<String, String> {
    method_of(kind, data).map_err(|error| error.message)
}

#[test]
fn the_method_is_read_from_where_the_encoding_has_it() {
    let frame = Frame { untrusted_plaintext: "get_or_create_keys".to_owned(), ..Frame::default() };
    assert_eq!(kind_and_bytes(Kind::NOISE_SESSION, &cbor::to_vec(&frame)), Ok("get_or_create_keys".to_owned()));
    // Messages of a handshake name none: they connect.
    assert_eq!(kind_and_bytes(Kind::NOISE_SESSION, &cbor::to_vec(&Frame::default())), Ok(String::new()));
    let request = Request { method: "get_public_key".to_owned(), ..Request::default() };
    assert_eq!(kind_and_bytes(Kind::INSECURE_QUERY, &cbor::to_vec(&request)), Ok("get_public_key".to_owned()));
}

#[test]
fn malformed_calls_do_not_get_that_far() {
    let request = cbor::to_vec(&Request { method: "get_public_key".to_owned(), ..Request::default() });
    for bytes in [&b""[..], b"\xff", b"\xa1", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", &request] {
        assert_eq!(kind_and_bytes(Kind::NOISE_SESSION, bytes), Err("malformed RPC frame".to_owned()), "{bytes:?}");
    }
    let frame = cbor::to_vec(&Frame::default());
    for bytes in [&b""[..], b"\xff", b"\xa1\x66method\x01", &frame] {
        assert_eq!(kind_and_bytes(Kind::INSECURE_QUERY, bytes), Err("malformed RPC request".to_owned()), "{bytes:?}");
    }
    for kind in [Kind::LOCAL_QUERY, Kind(7)] {
        assert_eq!(kind_and_bytes(kind, &request), Err("unsupported RPC kind".to_owned()));
    }
}
