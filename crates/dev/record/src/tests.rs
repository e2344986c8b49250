//! An in-memory node serves recorded chains over the same messages; recording it must give the recorded files again.

use std::collections::{BTreeMap, HashMap};

use base_codec::{Bytes, Codec, cbor, json};
use base_prims::Hash;
use base64::Engine as _;
use dev_testkit::chains::{Chain, RecordedBlock, StateDiff};
use mkvs_tree::{
    KvWrite, Root, RootType, Sequential, Tree,
    sync::{GetPrefixesRequest, IterateRequest, ProofResponse, ReadSyncer, Server},
};
use wire_cometbft::{
    Duration, Message,
    abci::{self, AbciResponses, DeliverTx},
    block::{Block, Commit, Header, LightBlock, SignedHeader},
    evidence::EvidenceList,
    validators::ValidatorSet,
};
use wire_consensus::genesis::Document;

use crate::{
    Error, Evidence, Node, Options,
    api::{self, Attribute, BlockMeta, Event, ResultsMeta, TxResult},
    read_evidence, record,
};

/// Changes an answer.
type Spoil = fn(&mut Vec<u8>);

/// A node that has a recorded chain, the last recorded block being its newest.
struct Recorded {
    genesis: Document,
    blocks: Vec<(RecordedBlock, Block)>,
    diffs: Vec<StateDiff>,
    states: HashMap<u64, Tree>,
    /// Changes an answer of this method at this height.
    spoil: Option<(&'static str, i64, Spoil)>,
    iterates: usize,
}

fn events(events: Vec<abci::Event>) -> Vec<Event> {
    let attribute = |a: abci::EventAttribute| Attribute { key: a.key, value: a.value, index: a.index };
    let event = |e: abci::Event| Event { kind: e.kind, attributes: e.attributes.into_iter().map(attribute).collect() };
    events.into_iter().map(event).collect()
}

fn tx_result(r: DeliverTx) -> TxResult {
    TxResult {
        code: r.code,
        data: Bytes(r.data),
        log: r.log,
        info: r.info,
        gas_wanted: r.gas_wanted,
        gas_used: r.gas_used,
        events: events(r.events),
        codespace: r.codespace,
    }
}

/// A chain below `vectors/`.
fn chain(path: &str) -> Chain {
    Chain::open(&dev_testkit::paths::vectors_dir().join(path))
}

impl Recorded {
    fn open(name: &str) -> Self {
        let chain = chain(name);
        let text = String::from_utf8(chain.genesis().unwrap()).unwrap();
        let blocks: Vec<_> = chain
            .blocks()
            .unwrap()
            .into_iter()
            .map(|b| {
                let block = Block::decode(&b.block).unwrap();
                (b, block)
            })
            .collect();
        let diffs = chain.state_diffs().unwrap();
        // One tree per version: proofs are asked for the version at hand.
        let (mut states, mut pairs) = (HashMap::new(), BTreeMap::new());
        for diff in &diffs {
            for (key, value) in &diff.diff {
                match value {
                    Some(value) => pairs.insert(key.clone(), value.clone()),
                    None => pairs.remove(key),
                };
            }
            let mut tree = Tree::in_memory();
            for (key, value) in &pairs {
                tree.insert(key, value).unwrap();
            }
            tree.commit(diff.version, 0, &Sequential);
            states.insert(diff.version, tree);
        }
        let genesis = Document::from_json(&text).unwrap();
        Self { genesis, blocks, diffs, states, spoil: None, iterates: 0 }
    }

    fn at(&self, height: i64) -> &(RecordedBlock, Block) {
        &self.blocks[usize::try_from(height).unwrap() - 1]
    }

    fn newest(&self) -> i64 {
        self.blocks.last().unwrap().1.header.height
    }

    fn root(&self, version: u64, hash: Hash) -> Root {
        Root { version, hash, root_type: RootType::STATE, ..Root::default() }
    }

    /// The commit as the next block holds it.
    fn canonical_commit(&self, height: i64) -> Commit {
        if height == self.newest() {
            return Commit::decode(&self.at(height).0.seen_commit).unwrap();
        }
        self.at(height + 1).1.last_commit.clone().unwrap()
    }

    fn validators(&self, height: i64) -> ValidatorSet {
        ValidatorSet::decode(&self.at(height).0.validators).unwrap()
    }

    fn answer(&mut self, method: &str, request: &[u8]) -> Result<Vec<u8>, String> {
        let height = || cbor::from_slice::<i64>(request).map_err(|e| e.to_string());
        Ok(match method {
            "GetGenesisDocument" => cbor::to_vec(&self.genesis),
            "GetChainContext" => cbor::to_vec(&self.genesis.chain_context().as_str().to_owned()),
            "GetLatestHeight" => cbor::to_vec(&self.newest()),
            "GetLastRetainedHeight" => cbor::to_vec(&1i64),
            "GetBlock" => {
                let (recorded, block) = self.at(height()?);
                let app_hash = Hash::new(block.header.app_hash.as_slice().try_into().unwrap());
                cbor::to_vec(&api::Block {
                    height: block.header.height,
                    hash: Hash::new(recorded.hash.as_slice().try_into().unwrap()),
                    state_root: self.root(u64::try_from(block.header.height - 1).unwrap(), app_hash),
                    meta: BlockMeta {
                        header: Bytes(block.header.encode_to_vec()),
                        last_commit: Bytes(block.last_commit.clone().unwrap().encode_to_vec()),
                    },
                })
            }
            "GetTransactions" => {
                let txs: Vec<_> = self.at(height()?).1.data.txs.iter().cloned().map(Bytes).collect();
                cbor::to_vec(&txs)
            }
            "GetBlockResults" => {
                let height = height()?;
                let results = AbciResponses::decode(&self.at(height).0.abci_responses).unwrap();
                let meta = ResultsMeta {
                    txs_results: Some(results.deliver_txs.into_iter().map(tx_result).collect()),
                    begin_block_events: Some(events(results.begin_block.unwrap().events)),
                    end_block_events: Some(events(results.end_block.unwrap().events)),
                };
                cbor::to_vec(&api::BlockResults { height, meta })
            }
            "GetValidators" => {
                let height = height()?;
                let mut set = self.validators(height);
                set.total_voting_power = set.validators.iter().map(|v| v.voting_power).sum();
                cbor::to_vec(&api::AtHeight { height, meta: Bytes(set.encode_to_vec()) })
            }
            "GetLightBlock" => {
                let height = height()?;
                let signed_header = SignedHeader {
                    header: Some(self.at(height).1.header.clone()),
                    commit: Some(self.canonical_commit(height)),
                };
                let block =
                    LightBlock { signed_header: Some(signed_header), validator_set: Some(self.validators(height)) };
                cbor::to_vec(&api::AtHeight { height, meta: Bytes(block.encode_to_vec()) })
            }
            "StateSyncGetPrefixes" => {
                let mut request: GetPrefixesRequest = cbor::from_slice(request).map_err(|e| e.to_string())?;
                // Less than asked for, so that the rest has to be fetched node by node.
                request.limit = 40;
                let tree = &self.states[&request.tree.root.version];
                let proof = Server::new(tree, request.tree.root, 1 << 24).get_prefixes(&request)?;
                cbor::to_vec(&ProofResponse { proof })
            }
            "StateSyncIterate" => {
                let request: IterateRequest = cbor::from_slice(request).map_err(|e| e.to_string())?;
                self.iterates += 1;
                let tree = &self.states[&request.tree.root.version];
                let proof = Server::new(tree, request.tree.root, 1 << 24).iterate(&request)?;
                cbor::to_vec(&ProofResponse { proof })
            }
            other => return Err(format!("unknown method {other}")),
        })
    }
}

impl Node for Recorded {
    fn call(&mut self, method: &'static str, request: &[u8]) -> Result<Vec<u8>, Error> {
        let mut answer = self.answer(method, request).map_err(|reason| Error::Call { method, reason })?;
        if let Some((spoiled, height, how)) = self.spoil
            && spoiled == method
            && (request.is_empty() || method.starts_with("State") || cbor::from_slice(request) == Ok(height))
        {
            how(&mut answer);
        }
        Ok(answer)
    }
}

fn sorted_updates(bytes: &[u8]) -> AbciResponses {
    let mut results = AbciResponses::decode(bytes).unwrap();
    if let Some(end) = &mut results.end_block {
        end.validator_updates.sort_by_key(|u| u.pub_key.encode_to_vec());
    }
    results
}

/// Records the whole chain from the in-memory node and compares with what was recorded from the reference.
fn records_again(name: &str, evidence: &Evidence) {
    let mut node = Recorded::open(name);
    let out = tempfile::tempdir().unwrap();
    // Recording needs the validators of two heights on, and nothing is recorded of the height after the newest.
    let to = node.newest() - 2;
    let options =
        Options { out: out.path().to_owned(), evidence: evidence.clone(), to: Some(to), ..Options::default() };
    let report = record(&mut node, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!((report.from, report.to), (1, to), "{name}");
    assert!(node.iterates > 0, "{name}");

    let (again, original) = (Chain::open(out.path()), chain(name));
    let parse = |bytes: Vec<u8>| -> json::Value { serde_json::from_slice(&bytes).unwrap() };
    assert_eq!(parse(again.genesis().unwrap()), parse(original.genesis().unwrap()), "{name}: genesis");
    let (blocks, recorded) = (again.blocks().unwrap(), original.blocks().unwrap());
    assert_eq!(blocks.len(), usize::try_from(to).unwrap());
    for (found, expected) in blocks.iter().zip(&recorded) {
        let at = format!("{name}, height {}", expected.height);
        assert_eq!(found.height, expected.height, "{at}");
        assert_eq!(found.hash, expected.hash, "{at}");
        assert_eq!(found.block, expected.block, "{at}");
        assert_eq!(found.validators, expected.validators, "{at}");
        assert_eq!(sorted_updates(&found.abci_responses), sorted_updates(&expected.abci_responses), "{at}");
        let commit = Commit::decode(&found.seen_commit).unwrap();
        assert_eq!(commit, node.canonical_commit(i64::try_from(found.height).unwrap()), "{at}");
    }
    for (found, expected) in again.state_diffs().unwrap().iter().zip(&node.diffs) {
        let at = format!("{name}, version {}", expected.version);
        assert_eq!((found.version, &found.root, found.keys), (expected.version, &expected.root, expected.keys), "{at}");
        let expected: BTreeMap<_, _> = expected.diff.iter().cloned().collect();
        let found: BTreeMap<_, _> = found.diff.iter().cloned().collect();
        assert_eq!(found, expected, "{at}");
    }
}

#[test]
fn recorded_chains_are_recorded_again() {
    for name in ["debond", "gas-fees-staking", "byzantine-beacon-vrf-honest", "vault", "runtime-runtime"] {
        records_again(&format!("chains/{name}"), &Evidence::new());
    }
}

#[test]
fn chains_with_evidence_and_upgrades_are_recorded_again() {
    let mut evidence_blocks = 0;
    let dir = dev_testkit::paths::vectors_dir().join("chains-recorded");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| format!("chains-recorded/{}", entry.file_name().to_str().unwrap()))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let lists = chain(&name).blocks().unwrap().into_iter().filter_map(|b| {
            let evidence = Block::decode(&b.block).unwrap().evidence;
            (!evidence.evidence.is_empty()).then(|| (i64::try_from(b.height).unwrap(), evidence))
        });
        let evidence: Evidence = lists.collect();
        evidence_blocks += evidence.len();
        if let Some(height) = evidence.keys().next() {
            let out = tempfile::tempdir().unwrap();
            let options = Options { out: out.path().to_owned(), ..Options::default() };
            let error = record(&mut Recorded::open(&name), &options).unwrap_err();
            assert!(matches!(error, Error::Evidence { height: h } if h == *height), "{name}: {error}");
        }
        records_again(&name, &evidence);
    }
    assert!(evidence_blocks >= 3, "{evidence_blocks}");
}

/// The upgrade that `meta.json` names is at the only height, but for the first, that changes the consensus parameters.
#[test]
fn recorded_upgrades_are_where_the_state_changes() {
    let dir = dev_testkit::paths::vectors_dir().join("chains-recorded");
    let mut upgrades = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("meta.json").exists() {
            continue;
        }
        let text = dev_testkit::read(&dir.join("meta.json")).unwrap();
        let meta: json::Value = serde_json::from_slice(&text).unwrap();
        let stated: Vec<u64> =
            meta["upgrades"].as_array().unwrap().iter().map(|u| u["height"].as_u64().unwrap()).collect();
        let diffs = Chain::open(&dir).state_diffs().unwrap();
        let changed: Vec<u64> =
            diffs.iter().skip(1).filter(|d| d.diff.iter().any(|(key, _)| *key == [0xf1])).map(|d| d.version).collect();
        assert_eq!(stated, changed, "{}", dir.display());
        upgrades += stated.len();
    }
    assert!(upgrades >= 3, "{upgrades}");
}

#[test]
fn a_part_of_a_chain_starts_with_the_whole_state() {
    let mut node = Recorded::open("chains/gas-fees-staking");
    let out = tempfile::tempdir().unwrap();
    let options = Options { out: out.path().to_owned(), from: Some(7), to: Some(9), ..Options::default() };
    let report = record(&mut node, &options).unwrap();
    assert_eq!((report.from, report.to), (7, 9));
    let diffs = Chain::open(out.path()).state_diffs().unwrap();
    assert_eq!(diffs.iter().map(|d| d.version).collect::<Vec<_>>(), [7, 8, 9]);
    assert_eq!(diffs[0].diff.len() as u64, diffs[0].keys);
    assert_eq!(diffs[2].root, node.diffs[8].root);
}

#[test]
fn answers_that_contradict_a_header_are_refused() {
    fn other_time(answer: &mut Vec<u8>) {
        let mut block: api::Block = cbor::from_slice(answer).unwrap();
        let mut header = Header::decode(&block.meta.header.0).unwrap();
        header.time = header.time.saturating_add(Duration::from_nanos(1));
        block.meta.header = Bytes(header.encode_to_vec());
        *answer = cbor::to_vec(&block);
    }
    fn no_transactions(answer: &mut Vec<u8>) {
        *answer = vec![0x80];
    }
    fn other_code(answer: &mut Vec<u8>) {
        #[derive(Default, Codec)]
        struct Results {
            height: i64,
            meta: ResultsMeta,
        }
        let mut results: Results = cbor::from_slice(answer).unwrap();
        results.meta.txs_results.as_mut().unwrap()[0].gas_used += 1;
        *answer = cbor::to_vec(&results);
    }
    fn other_power(answer: &mut Vec<u8>) {
        let mut at: api::AtHeight = cbor::from_slice(answer).unwrap();
        let mut set = ValidatorSet::decode(&at.meta.0).unwrap();
        set.validators[0].voting_power += 1;
        at.meta = Bytes(set.encode_to_vec());
        *answer = cbor::to_vec(&at);
    }
    fn other_block(answer: &mut Vec<u8>) {
        let mut at: api::AtHeight = cbor::from_slice(answer).unwrap();
        let mut block = LightBlock::decode(&at.meta.0).unwrap();
        block.signed_header.as_mut().unwrap().commit.as_mut().unwrap().signatures[0].signature[0] ^= 1;
        at.meta = Bytes(block.encode_to_vec());
        *answer = cbor::to_vec(&at);
    }
    fn other_context(answer: &mut Vec<u8>) {
        *answer = cbor::to_vec(&"0".repeat(64));
    }
    fn other_proof(answer: &mut Vec<u8>) {
        let mut response: ProofResponse = cbor::from_slice(answer).unwrap();
        *response.proof.entries.iter_mut().flatten().last().unwrap().0.last_mut().unwrap() ^= 1;
        *answer = cbor::to_vec(&response);
    }
    let cases: [(&str, Spoil, &str); 8] = [
        ("GetChainContext", other_context, "genesis document hashes to "),
        ("GetBlock", other_time, "height 4: block hash is "),
        ("GetTransactions", no_transactions, "height 4: hash of the transactions is "),
        ("GetBlockResults", other_code, "height 4: hash of the results is "),
        ("GetValidators", other_power, "height 2: hash of the validators after is "),
        ("GetLightBlock", other_block, "height 4: hash of the commit is "),
        ("StateSyncGetPrefixes", other_proof, "version 1: proof has a bad root"),
        ("StateSyncIterate", other_proof, "version 1: proof has a bad root"),
    ];
    for (method, how, expected) in cases {
        let mut node = Recorded::open("chains/gas-fees-staking");
        node.spoil = Some((method, 4, how));
        let out = tempfile::tempdir().unwrap();
        let error = record(&mut node, &Options { out: out.path().to_owned(), ..Options::default() }).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{method}: {text}");
        assert!(!out.path().join("genesis.json").exists(), "{method}");
    }
}

#[test]
fn heights_without_a_known_root_are_refused() {
    let mut node = Recorded::open("chains/debond");
    let newest = node.newest();
    for (from, to) in [(Some(1), Some(newest)), (Some(0), None), (Some(4), Some(3))] {
        let error = record(&mut node, &Options { from, to, ..Options::default() }).unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{error}");
    }
}

/// A supplement without evidence changes nothing; one that the header contradicts is refused.
#[test]
fn supplied_evidence_is_checked() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("evidence.jsonl");
    std::fs::write(&file, "{\"height\": 2, \"evidence\": \"\"}\n").unwrap();
    let evidence = read_evidence(&file).unwrap();
    assert_eq!(evidence, BTreeMap::from([(2, EvidenceList::default())]));
    records_again("chains/debond", &evidence);

    let list = EvidenceList { evidence: vec![wire_cometbft::evidence::Evidence::default()] };
    let text = base64::engine::general_purpose::STANDARD.encode(list.encode_to_vec());
    std::fs::write(&file, format!("{{\"height\": 2, \"evidence\": \"{text}\"}}\n")).unwrap();
    let options = Options { out: out.path().to_owned(), evidence: read_evidence(&file).unwrap(), ..Options::default() };
    let error = record(&mut Recorded::open("chains/debond"), &options).unwrap_err().to_string();
    assert!(error.starts_with("height 2: hash of the evidence is "), "{error}");
    std::fs::write(&file, "{\"height\": 2}\n").unwrap();
    assert!(read_evidence(&file).unwrap_err().to_string().ends_with("line 1: no evidence"));
}
