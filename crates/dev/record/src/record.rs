//! Recording: walks over the heights and writes the three files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use mkvs_tree::{Root, RootType};
use serde_json::{Value, json};
use wire_cometbft::{Message, evidence::EvidenceList};

use crate::{
    Error, Node,
    api::Api,
    chain::{self, Head, check},
    state::{Difference, StateReader},
};

/// Evidence by height, which no method of a node gives.
pub type Evidence = BTreeMap<i64, EvidenceList>;

/// What to record, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folder to write to; made if missing.
    pub out: PathBuf,
    /// First height; the first of the chain if absent.
    pub from: Option<i64>,
    /// Last height; the last with a known state root if absent.
    pub to: Option<i64>,
    /// Evidence of the blocks that hold any.
    pub evidence: Evidence,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Chain context.
    pub chain_context: String,
    /// First height.
    pub from: i64,
    /// Last height.
    pub to: i64,
    /// Transactions.
    pub transactions: u64,
    /// Of these failed.
    pub failed: u64,
    /// Blocks with evidence.
    pub evidence: u64,
    /// Changed keys in all heights, those of the first state included.
    pub changes: u64,
    /// Calls made to the node.
    pub calls: u64,
}

impl Report {
    /// The report as one JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "chain_context": self.chain_context,
            "from": self.from,
            "to": self.to,
            "transactions": self.transactions,
            "failed_transactions": self.failed,
            "blocks_with_evidence": self.evidence,
            "changes": self.changes,
            "calls": self.calls,
        })
    }
}

/// A file that gets its name when it is complete.
struct Output {
    path: PathBuf,
    part: PathBuf,
    writer: GzEncoder<BufWriter<File>>,
}

impl Output {
    fn create(path: PathBuf) -> Result<Self, Error> {
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|source| Error::Io { path: part.clone(), source })?;
        Ok(Self { path, part, writer: GzEncoder::new(BufWriter::new(file), Compression::best()) })
    }

    fn line(&mut self, value: &Value) -> Result<(), Error> {
        writeln!(self.writer, "{value}").map_err(|source| Error::Io { path: self.part.clone(), source })
    }

    fn finish(self) -> Result<(), Error> {
        let Self { path, part, writer } = self;
        let io = |source| Error::Io { path: part.clone(), source };
        writer.finish().and_then(|mut w| w.flush()).map_err(io)?;
        fs::rename(&part, &path).map_err(io)
    }
}

/// Records a chain.
///
/// # Errors
/// If the node cannot answer, an answer contradicts a header, or a file cannot be written; files of earlier recordings
/// in the folder are then as they were.
pub fn record(node: &mut dyn Node, options: &Options) -> Result<Report, Error> {
    let mut api = Api::new(node);
    let (doc, chain_context) = chain::genesis(&mut api)?;
    let (oldest, newest) = (api.last_retained_height()?, api.latest_height()?);
    let from = options.from.unwrap_or(oldest);
    let to = options.to.unwrap_or(newest.saturating_sub(1));
    if from < oldest || from > to || to >= newest {
        return Err(Error::Range { from, to, oldest, newest });
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    fs::create_dir_all(&options.out).map_err(io(&options.out))?;
    let mut blocks = Output::create(options.out.join("blocks.jsonl.gz"))?;
    let mut diffs = Output::create(options.out.join("state_diffs.jsonl.gz"))?;

    let mut report = Report { chain_context, from, to, ..Report::default() };
    let mut recorder = Recorder {
        state: StateReader::new(),
        next: Head::fetch(&mut api, from)?,
        validators: (chain::validators(&mut api, from)?, chain::validators(&mut api, from.saturating_add(1))?),
    };
    for height in from..=to {
        let (block, diff) = recorder.height(&mut api, height, &options.evidence, &mut report)?;
        blocks.line(&block)?;
        diffs.line(&diff)?;
    }
    report.calls = api.calls;

    let genesis = options.out.join("genesis.json");
    fs::write(&genesis, doc.to_canonical_json()).map_err(io(&genesis))?;
    blocks.finish()?;
    diffs.finish()?;
    Ok(report)
}

/// What is carried from one height to the next.
struct Recorder {
    state: StateReader,
    /// The block to be recorded next.
    next: Head,
    /// Validators of that block and of the one after it.
    validators: (wire_cometbft::validators::ValidatorSet, wire_cometbft::validators::ValidatorSet),
}

impl Recorder {
    /// The lines of a height.
    fn height(
        &mut self,
        api: &mut Api<'_>,
        height: i64,
        evidence: &Evidence,
        report: &mut Report,
    ) -> Result<(Value, Value), Error> {
        let head = std::mem::replace(&mut self.next, Head::fetch(api, height.saturating_add(1))?);
        let next = &self.next;
        check(height, "block named by the next header", &next.header.last_block_id.hash, &head.hash)?;
        if head.header.consensus_hash != next.header.consensus_hash {
            return Err(Error::Parameters { height });
        }
        let after_next = chain::validators(api, height.saturating_add(2))?;
        let after = std::mem::replace(&mut self.validators.1, after_next);
        let now = std::mem::replace(&mut self.validators.0, after);
        check(height, "hash of the validators", &head.header.validators_hash, &now.hash())?;
        check(height, "hash of the next validators", &head.header.next_validators_hash, &self.validators.0.hash())?;
        check(height, "hash of the validators after", &next.header.next_validators_hash, &self.validators.1.hash())?;

        let block = chain::block(api, &head, evidence)?;
        let commit = chain::commit(api, &head, next)?;
        let results =
            chain::results(api.block_results(height)?, next, (&self.validators.0, &self.validators.1), height)?;
        report.transactions += results.deliver_txs.len() as u64;
        report.failed += results.deliver_txs.iter().filter(|r| r.code != 0).count() as u64;
        report.evidence += u64::from(!block.evidence.evidence.is_empty());

        let root = Root {
            version: u64::try_from(height).unwrap_or_default(),
            root_type: RootType::STATE,
            hash: next.app_hash()?,
            ..Root::default()
        };
        let difference = self.state.advance(root, api)?;
        report.changes += difference.changes.len() as u64;

        let base64 = |bytes: Vec<u8>| STANDARD.encode(bytes);
        let line = json!({
            "abci_responses": base64(results.encode_to_vec()),
            "block": base64(block.encode_to_vec()),
            "hash": hex::encode(&head.hash),
            "height": height,
            "seen_commit": base64(commit.encode_to_vec()),
            "validators": base64(now.encode_to_vec()),
        });
        Ok((line, difference_line(height, &root, &difference)))
    }
}

fn difference_line(height: i64, root: &Root, difference: &Difference) -> Value {
    let pairs: Vec<Value> = difference
        .changes
        .iter()
        .map(|(key, value)| json!([hex::encode(key), value.as_ref().map(hex::encode)]))
        .collect();
    json!({
        "diff": pairs,
        "keys": difference.keys,
        "root": hex::encode(root.hash.as_bytes()),
        "version": height,
    })
}

/// Reads evidence from lines `{"height": H, "evidence": base64 of EvidenceList}`.
///
/// # Errors
/// If the file cannot be read or a line has another form.
pub fn read_evidence(path: &Path) -> Result<Evidence, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut out = Evidence::new();
    for (i, line) in BufReader::new(File::open(path).map_err(io)?).lines().enumerate() {
        let line = line.map_err(io)?;
        let bad = |reason: String| Error::EvidenceFile { path: path.to_owned(), line: i + 1, reason };
        let value: Value = serde_json::from_str(&line).map_err(|e| bad(e.to_string()))?;
        let height = value.get("height").and_then(Value::as_i64).ok_or_else(|| bad("no height".to_owned()))?;
        let text = value.get("evidence").and_then(Value::as_str).ok_or_else(|| bad("no evidence".to_owned()))?;
        let bytes = STANDARD.decode(text).map_err(|e| bad(e.to_string()))?;
        out.insert(height, EvidenceList::decode(&bytes).map_err(|e| bad(e.to_string()))?);
    }
    Ok(out)
}
