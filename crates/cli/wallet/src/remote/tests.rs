//! Which nodes are spoken to over TLS.

use super::*;

#[test]
fn nodes_elsewhere_are_spoken_to_over_tls() {
    for near in ["unix:/run/node/internal.sock", "127.0.0.1:9001", "[::1]:9001", "dns:127.0.0.1:9001", "localhost:9001"]
    {
        assert!(!is_elsewhere(near), "{near}");
    }
    // A name that nobody knows might be anywhere.
    for far in ["192.0.2.1:443", "[2001:db8::1]:443", "no-such-name.invalid:443", "nonsense"] {
        assert!(is_elsewhere(far), "{far}");
    }
}

#[test]
fn a_plain_node_is_not_mistaken_for_one_with_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        // HTTP/2 without TLS begins with settings.
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).expect("written");
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    let dir = tempfile::tempdir().expect("a directory");
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, include_str!("test_root.pem")).expect("written");
    let tls = ClientTls::with_roots(&roots).expect("a certificate");
    let error = Remote::open_with(&address, Some(tls)).expect_err("no TLS there").to_string();
    assert!(error.starts_with(&format!("failed to connect to {address}: ")), "{error}");
    assert!(error.contains("is the node running?"), "{error}");
    server.join().expect("ended");
}
