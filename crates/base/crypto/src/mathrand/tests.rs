//! Draws recorded from the reference, and uniformity.

use super::*;
use crate::vectors::{bytes, cases};

fn rng(entropy: &[u8], nonce: &[u8], personalization: &[u8]) -> Rng {
    Rng::new(Drbg::new(entropy, nonce, personalization).unwrap())
}

#[test]
fn recorded_draws() {
    let mut seen = 0;
    for case in cases("mathrand.json") {
        let mut rng = rng(&bytes(&case, "entropy"), &bytes(&case, "nonce"), &bytes(&case, "personalization"));
        for (i, draw) in case["draws"].as_array().unwrap().iter().enumerate() {
            let n = draw["n"].as_u64().unwrap();
            let op = draw["op"].as_str().unwrap();
            let list = |v: Vec<usize>| serde_json::json!(v);
            let number = |v: u64| serde_json::json!(v.to_string());
            let got = match op {
                "perm" => list(rng.perm(n as usize)),
                "shuffle" => {
                    let mut items: Vec<usize> = (0..n as usize).collect();
                    rng.shuffle(&mut items);
                    list(items)
                }
                "uint64" => number(rng.next_u64()),
                "int63" => number(rng.int63()),
                "uint32" => number(rng.uint32().into()),
                "int31" => number(rng.int31().into()),
                "int31n" => number(rng.int31n(n as u32).into()),
                "int63n" => number(rng.int63n(n)),
                "intn" => number(rng.intn(n)),
                other => panic!("unknown draw {other}"),
            };
            assert_eq!(got, draw["out"], "draw {i}: {op} {n}");
            seen += 1;
        }
    }
    assert!(seen > 1000);
}

/// Pearson's test as the reference does it: six faces, 1000 throws, one in a hundred fair dice would fail.
#[test]
fn throws_of_a_die_are_even() {
    let entropy = b"Anyone who attempts to generate random numbers by deterministic means is, of course, living in a state of sin.";
    let mut rng = rng(entropy, b"mathrand:tests", b"");
    let mut faces = [0u32; 6];
    for _ in 0..1000 {
        faces[rng.intn(6) as usize] += 1;
    }
    let expected = 1000.0 / 6.0;
    let chi: f64 = faces.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    assert!(chi < 15.086, "{chi} {faces:?}");
}

#[test]
fn senseless_bounds_do_not_hang_or_panic() {
    let mut rng = rng(&[0; 32], b"", b"");
    assert_eq!(rng.int31n(0), 0);
    assert_eq!(rng.int63n(0), 0);
    assert_eq!(rng.intn(0), 0);
    assert!(rng.int31n(u32::MAX) < MAX_I31);
    assert!(rng.int63n(u64::MAX) < i64::MAX as u64);
    rng.shuffle::<u8>(&mut []);
}
