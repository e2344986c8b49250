//! A device that is none: the application's commands over keys derived from words.

use std::sync::Arc;

use base_codec::cbor;
use base_crypto::context::ChainContext;
use base_prims::{Hash, Namespace};
use k256::ecdsa::signature::hazmat::PrehashSigner as _;

use super::super::{derive, keys};
use super::*;

const WORDS: &str = "equip will roof matter pink blind book anxiety banner elbow sun young";

/// What the device does when it is asked to sign.
#[derive(Clone, Copy, PartialEq)]
enum Person {
    Agrees,
    Rejects,
}

struct Device {
    person: Person,
    /// The path and the pieces so far of what is to be signed.
    parts: Vec<Vec<u8>>,
    /// Shows another address than that of its key.
    lies: bool,
}

fn indices(path: &[u8]) -> Vec<u32> {
    path.chunks(4).map(|index| u32::from_le_bytes(index.try_into().expect("four bytes"))).collect()
}

impl Device {
    fn keys(path: &[u8], sr25519: bool) -> Keys {
        let indices = indices(path);
        let number = indices.last().copied().unwrap_or_default() & !HARDENED;
        match indices.as_slice() {
            [_, coin, ..] if *coin == 60 | HARDENED => {
                assert_eq!(indices[..4], [44 | HARDENED, 60 | HARDENED, HARDENED, 0]);
                Keys::Secp256k1(derive::secp256k1(WORDS, number).expect("derived"))
            }
            [_, _, _] if sr25519 => Keys::Sr25519(Box::new(derive::sr25519(WORDS, number).expect("derived"))),
            [_, _, _] => Keys::Ed25519(derive::ed25519(WORDS, number).expect("derived")),
            // The first application's path; any key of its own will do here.
            _ => Keys::Ed25519(SecretKey::from_seed(Hash::of(&[path]).as_bytes())),
        }
    }

    fn address(&self, path: &[u8], sr25519: bool) -> Vec<u8> {
        let public = Self::keys(path, sr25519).public();
        let key = match &public {
            Public::Ed25519(key) | Public::Sr25519(key) => key.to_vec(),
            Public::Secp256k1(key, _) => key.to_vec(),
        };
        let shown = match public.ethereum() {
            _ if self.lies => "oasis1qrec770vrek0a9a5lcrv0zvt22504k68svq7kzve".to_owned(),
            Some(ethereum) => hex::encode(ethereum),
            None => public.address().to_string(),
        };
        [key, shown.into_bytes()].concat()
    }

    fn signature(&self, command: u8) -> Vec<u8> {
        let keys = Self::keys(&self.parts[0], command == 6);
        let rest = self.parts[1..].concat();
        if command == SIGN_CONSENSUS {
            let (length, rest) = rest.split_first().expect("a length");
            let (context, message) = rest.split_at(usize::from(*length));
            let Keys::Ed25519(key) = keys else { panic!("the consensus layer has Ed25519 keys") };
            return key.sign(Hash::of(&[context, message]).as_bytes()).to_vec();
        }
        // The metadata is one CBOR item, the message follows.
        let end = cbor::well_formed(&rest, 0).expect("metadata");
        let metadata: Metadata = cbor::from_slice(&rest[..end]).expect("metadata");
        let mut original = [0; 20];
        let original = hex::decode_to_slice(&metadata.orig_to, &mut original).is_ok().then_some(original);
        let context = SigningContext {
            runtime: metadata.runtime_id.parse().expect("a namespace"),
            chain_context: metadata.chain_context,
            original_to: original,
        };
        if let Keys::Secp256k1(key) = &keys {
            let digest = Hash::of(&[context.text().as_bytes(), &rest[end..]]);
            let signature: k256::ecdsa::Signature = key.sign_prehash(digest.as_bytes()).expect("signed");
            return [&signature.to_bytes()[..], &[0]].concat();
        }
        keys.sign_paratime(&context, &rest[end..]).expect("signed")
    }
}

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let [class, command, parameter, 0, length, data @ ..] = command else { return Ok(vec![0x67, 0x00]) };
        assert_eq!((*class, usize::from(*length)), (CLASS, data.len()));
        let mut answer = match command {
            1 | 3 | 4 => self.address(data, *command == 3),
            2 | 5 | 6 | 7 => {
                assert!(data.len() <= PIECE);
                if *parameter == 0 {
                    self.parts.clear();
                }
                self.parts.push(data.to_vec());
                match (parameter, self.person) {
                    (2, Person::Agrees) => self.signature(*command),
                    (2, Person::Rejects) => return Ok(NOT_ALLOWED.to_be_bytes().to_vec()),
                    _ => Vec::new(),
                }
            }
            _ => return Ok(vec![0x6d, 0x00]),
        };
        answer.extend_from_slice(&OK.to_be_bytes());
        Ok(answer)
    }
}

fn device(person: Person) -> Box<dyn Transport> {
    Box::new(Device { person, parts: Vec::new(), lies: false })
}

fn context() -> SigningContext {
    SigningContext {
        runtime: Namespace::from_bytes_unchecked([0; 32]),
        chain_context: "0b91b8e4e44b2003a7c5e23ddadb5e14ef5345c0ebcb3ddcae07fa2f244cab76".to_owned(),
        original_to: Some([9; 20]),
    }
}

#[test]
fn every_kind_of_key_signs_for_paratimes() {
    // More than one piece.
    let body = vec![7; 3 * PIECE + 1];
    for algorithm in ALGORITHMS {
        let unlocked = keys(Account::on(device(Person::Agrees), algorithm, 5).expect(algorithm)).expect(algorithm);
        let signature = unlocked.sign_paratime(&context(), &body).expect(algorithm);
        let spec = unlocked.public().spec();
        assert!(keys::verifies(&spec, &context(), &body, &signature), "{algorithm}");
        assert!(!keys::verifies(&spec, &context(), &body[1..], &signature), "{algorithm}");
        let other = SigningContext { chain_context: "00".repeat(32), ..context() };
        assert!(!keys::verifies(&spec, &other, &body, &signature), "{algorithm}");
        assert_eq!(unlocked.consensus().is_some(), algorithm.starts_with("ed25519"), "{algorithm}");
        assert!(unlocked.secret_text().is_none());
    }
    let software = Keys::Ed25519(derive::ed25519(WORDS, 5).expect("derived"));
    let hardware = keys(Account::on(device(Person::Agrees), ED25519_ADR8, 5).expect("there")).expect("there");
    assert_eq!(software.public(), hardware.public());
}

#[test]
fn ed25519_keys_sign_for_the_consensus_layer() {
    use wire_consensus::transaction::Transaction;
    let chain = ChainContext::parse(&context().chain_context).expect("a chain");
    let tx = Transaction::new(3, None, "staking.Burn", &vec![1_u64; 300]);
    let unlocked = keys(Account::on(device(Person::Agrees), ED25519_LEGACY, 0).expect("there")).expect("there");
    let signed = tx.sign(unlocked.consensus().expect("a key"), &chain).expect("signed");
    assert_eq!(signed.open(&chain).expect("verifies"), tx);

    let unlocked = keys(Account::on(device(Person::Rejects), ED25519_LEGACY, 0).expect("there")).expect("there");
    let refused = tx.sign(unlocked.consensus().expect("a key"), &chain).expect_err("the person said no");
    assert!(refused.to_string().contains("signing request rejected by user"), "{refused}");
}

/// A device that gives the same answer to everything.
struct Says(Vec<u8>);

impl Transport for Says {
    fn exchange(&mut self, _command: &[u8]) -> Result<Vec<u8>> {
        Ok(self.0.clone())
    }
}

#[test]
fn devices_that_do_not_answer_as_they_should_are_refused() {
    let cases: [(&[u8], &str); 6] = [
        (&[], "has no status"),
        (&[0x6e, 0x00], "the Oasis application is not open"),
        (&[0x55, 0x15], "the device is locked"),
        (&[0x69, 0x00], "status 0x6900"),
        (&[1, 2, 3, 0x90, 0x00], "truncated answer"),
        (&[b'x'; 40], "status 0x7878"),
    ];
    for (answer, reason) in cases {
        let error = Account::on(Box::new(Says(answer.to_vec())), ED25519_ADR8, 0).err().expect(reason);
        assert!(error.to_string().contains(reason), "{error}");
    }
    for algorithm in ALGORITHMS {
        let liar = Box::new(Device { person: Person::Agrees, parts: Vec::new(), lies: true });
        let error = Account::on(liar, algorithm, 0).err().expect("another address");
        assert!(error.to_string().contains("doesn't match internally computed"), "{error}");
    }
    assert!(path("rsa", 0).is_err());
    assert!(path(ED25519_ADR8, HARDENED).is_err());
    // A signature that is not one.
    let account = Arc::new(Account::on(device(Person::Agrees), ED25519_ADR8, 0).expect("there"));
    *account.device.lock() = Box::new(Says(vec![1, 2, 0x90, 0x00]));
    assert!(Holder(account).sign(b"c", b"m").expect_err("short").contains("has not 64 bytes"));
}
