//! Amounts, names of addresses, and wallet files that ask for too much.

use base_prims::Quantity;

use crate::config::Config;
use crate::{address, amount};

#[test]
fn amounts_are_read_and_written() {
    let cases = [
        ("0", 9, 0),
        ("1", 9, 1_000_000_000),
        ("0.000000001", 9, 1),
        ("12.50", 1, 125),
        ("7", 0, 7),
        ("007.0", 2, 700),
    ];
    for (text, decimals, units) in cases {
        let read = amount::parse(text, decimals).expect(text);
        assert_eq!(read, Quantity::from(units as u64), "{text}");
        assert_eq!(amount::parse(&amount::format(&read, decimals), decimals).expect("its own text"), read);
    }
    for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0x1", " 1", &"9".repeat(200)] {
        assert!(amount::parse(text, 9).is_err(), "{text}");
    }
    assert!(amount::parse("1.05", 1).expect_err("too fine").to_string().contains("this token has 1 decimal places"));
    assert_eq!(amount::format(&Quantity::from(1_500_000_000_u64), 9), "1.5");
    assert_eq!(amount::format(&Quantity::default(), 9), "0.0");
}

#[test]
fn every_form_of_address_is_resolved() {
    let config = Config::default();
    let network = &config.networks.all["mainnet"];
    let resolve = |text: &str| address::resolve(&config, network, text).map(|address| address.to_string());
    let known = [
        ("test:alice", "oasis1qrec770vrek0a9a5lcrv0zvt22504k68svq7kzve"),
        ("test:bob", "oasis1qrydpazemvuwtnp3efm7vmfvg3tde044qg6cxwzx"),
        ("pool:consensus:common", "oasis1qrmufhkkyyf79s5za2r8yga9gnk4t446dcy3a5zm"),
        ("pool:consensus:governance-deposits", "oasis1qp65laz8zsa9a305wxeslpnkh9x4dv2h2qhjz0ec"),
        ("pool:consensus:burn", "oasis1qzq8u7xs328puu2jy524w3fygzs63rv3u5967970"),
        ("pool:paratime:common", "oasis1qz78phkdan64g040cvqvqpwkplfqf6tj6uwcsh30"),
        ("pool:paratime:fee-accumulator", "oasis1qp3r8hgsnphajmfzfuaa8fhjag7e0yt35cjxq0u4"),
        ("pool:paratime:pending-withdrawal", "oasis1qr677rv0dcnh7ys4yanlynysvnjtk9gnsyhvm6ln"),
        ("pool:paratime:rewards", "oasis1qp7x0q9qahahhjas0xde8w0v04ctp4pqzu5mhjav"),
    ];
    for (text, expected) in known {
        assert_eq!(resolve(text).expect(text), expected, "{text}");
        assert_eq!(resolve(expected).expect(expected), expected);
    }
    assert!(resolve("paratime:sapphire").is_ok());
    for wrong in ["nobody", "paratime:moon", "pool:moon:x", "pool:consensus:x", "test:nobody", "moon:x", "oasis1bad"] {
        assert!(resolve(wrong).is_err(), "{wrong}");
    }
}
