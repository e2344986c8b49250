//! Pretty-printing against recorded outputs of the reference.

use base_codec::json::{from_str, value_to_string_pretty};

use super::*;

fn text(v: &Value) -> Option<String> {
    v.as_str().map(str::to_owned)
}

struct Recorded {
    name: String,
    cx: PrettyContext,
    prefix: String,
    tx: SignedTransaction,
    entry: Value,
}

fn recorded() -> Vec<Recorded> {
    let path = dev_testkit::paths::vectors_dir().join("pretty/transactions.json");
    let bytes = dev_testkit::read(&path).unwrap();
    let entries: Vec<Value> =
        String::from_utf8(bytes).ok().and_then(|s| parse(&s)).unwrap().as_array().unwrap().clone();
    entries
        .into_iter()
        .map(|entry| {
            let cx = &entry["context"];
            let names = cx["account_names"].as_object().into_iter().flatten();
            let cx = PrettyContext {
                chain: Some(ChainContext::parse(entry["chain_context"].as_str().unwrap()).unwrap()),
                token_symbol: text(&cx["token_symbol"]),
                token_value_exponent: cx["token_value_exponent"].as_u64().map(|n| n.try_into().unwrap()),
                account_names: names.map(|(a, n)| (a.parse().unwrap(), text(n).unwrap())).collect(),
                genesis_hash: text(&cx["genesis_hash"]).map(|h| h.parse().unwrap()),
            };
            let tx = STANDARD.decode(entry["signed_tx"].as_str().unwrap()).unwrap();
            Recorded {
                name: text(&entry["name"]).unwrap(),
                cx,
                prefix: text(&entry["prefix"]).unwrap(),
                tx: cbor::from_slice(&tx).unwrap(),
                entry,
            }
        })
        .collect()
}

/// Any JSON.
fn parse(s: &str) -> Option<Value> {
    #[derive(Default)]
    struct Any(Value);
    impl json::FromJson for Any {
        fn from_json(v: &Value, _: &mut json::Context) -> Result<Self, json::Error> {
            Ok(Self(v.clone()))
        }
    }
    from_str::<Any>(s).ok().map(|any| any.0)
}

#[test]
fn pretty_text_is_the_references() {
    let recorded = recorded();
    assert!(recorded.len() >= 60, "{} entries", recorded.len());
    let mut wrong = Vec::new();
    for r in recorded {
        let mut got = String::new();
        signed_transaction_prefixed(&r.tx, &r.cx, &r.prefix, &mut got);
        let want = r.entry["text"].as_str().unwrap();
        if got != want {
            wrong.push(format!("{}:\n{got}\nis not\n{want}", r.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pretty_json_is_the_references() {
    for r in recorded() {
        let tx: Transaction = cbor::from_slice(r.tx.0.blob()).unwrap();
        let signed = signed_to_pretty_json(&r.tx).ok().map(|v| value_to_string_pretty(&v));
        assert_eq!(signed, text(&r.entry["signed_json"]), "{}", r.name);
        let plain = to_pretty_json(&tx).ok().map(|v| value_to_string_pretty(&v));
        assert_eq!(plain, text(&r.entry["transaction_json"]), "{}", r.name);
    }
}

/// The generators of the transaction vectors record the same JSON.
#[test]
fn pretty_json_equals_the_transaction_vectors() {
    for name in ["staking", "registry", "governance"] {
        let path = dev_testkit::paths::vectors_dir().join(format!("transactions/{name}.json.gz"));
        for (i, entry) in dev_testkit::transactions::load(&path).unwrap().iter().enumerate() {
            let tx: Transaction = cbor::from_slice(&entry.encoded_tx).unwrap();
            let got = to_pretty_json(&tx).unwrap();
            assert_eq!(got.to_string(), entry.tx.to_string(), "{name} {i}");
        }
    }
}

#[test]
fn pretty_text_of_malformed_content_shows_the_bytes() {
    let mut tx = SignedTransaction::default();
    tx.0.untrusted_raw_value = Some(vec![0xff].into());
    let mut got = String::new();
    signed_transaction(&tx, &PrettyContext::default(), &mut got);
    assert!(got.contains("        [INVALID SIGNATURE]\nContent:\n  <error: "), "{got}");
    assert!(got.ends_with(">\n  <malformed: /w==>\n"), "{got}");

    let tx = Transaction { method: "staking.Burn".to_owned(), body: vec![0x61, 0x78].into(), ..Default::default() };
    let mut got = String::new();
    transaction(&tx, &PrettyContext::default(), &mut got);
    assert!(got.starts_with("Method: staking.Burn\nBody:\n  <error: "), "{got}");
    assert!(got.ends_with(">\n  <malformed: YXg=>\nNonce:  0\nFee:   none\n"), "{got}");
}

#[test]
fn pretty_floats_have_the_shortest_text() {
    let show = |item: &[u8]| {
        let map = [b"\xa1\x61x", item].concat();
        value::entries(&map).map(|e| e[0].1.clone()).unwrap()
    };
    assert_eq!(show(b"\xf9\x3c\x00"), "1");
    assert_eq!(show(b"\xf9\xc1\x00"), "-2.5");
    assert_eq!(show(b"\xf9\x7c\x00"), "+Inf");
    assert_eq!(show(b"\xfb\x44\x4b\x1a\xe4\xd6\xe2\xef\x50"), "1e+21");
    assert_eq!(show(b"\xfb\x3e\xe4\xf8\xb5\x88\xe3\x68\xf1"), "1e-05");
    assert_eq!(show(b"\xf9\x00\x01"), "5.960464477539063e-08");
}
