//! What came out of proving meets blocks that changed meanwhile.

use dev_testkit::chains::Chain;
use wire_cometbft::Message;
use wire_cometbft::block::{Block, BlockId};

use super::*;

const LIAR: u8 = 1;
const HONEST: u8 = 2;

fn peer(number: u8) -> PeerId {
    PeerId::new(&format!("{number:02x}").repeat(20))
}

struct Recorded {
    blocks: Vec<Block>,
    set: Arc<ValidatorSet>,
}

fn recorded() -> Recorded {
    let chain = Chain::open(&dev_testkit::paths::vectors_dir().join("chains").join("vault"));
    let recorded = chain.blocks().unwrap();
    let set = ValidatorSet::from_wire(&Message::decode(&recorded[0].validators).unwrap()).unwrap();
    let blocks = recorded.iter().take(6).map(|block| Block::decode_checked(&block.block).unwrap()).collect();
    Recorded { blocks, set: Arc::new(set) }
}

fn core() -> Core {
    Core {
        scheduler: Scheduler::new(1, Limits::default()),
        blocks: BTreeMap::new(),
        sets: VecDeque::new(),
        proven: VecDeque::new(),
        phase: Phase::Running,
        blocks_the_chain: false,
        times: StageTimes::default(),
    }
}

fn joins(core: &mut Core, number: u8) -> Vec<PeerAction> {
    core.step(Duration::ZERO, Input::Status { peer: peer(number), base: 1, height: 6 }, None)
}

/// A peer sends a block.
fn sends(core: &mut Core, number: u8, block: &Block) -> Vec<PeerAction> {
    let candidate = Candidate::new(block.clone(), peer(number)).unwrap();
    let input = Input::Block { peer: peer(number), height: candidate.height(), bytes: candidate.bytes };
    core.step(Duration::ZERO, input, Some(Arc::new(candidate)))
}

fn run_of(core: &Core) -> Vec<Arc<Candidate>> {
    core.blocks.values().cloned().collect()
}

fn first_expected(set: &ValidatorSet) -> Expected {
    Expected {
        height: 1,
        validators_hash: set.hash().to_vec(),
        last_block_id: BlockId::default(),
        last_commit_checked_by: None,
    }
}

fn outcome(recorded: &Recorded, expected: &Expected, run: &[Arc<Candidate>]) -> Outcome {
    let chain_id = &recorded.blocks[0].header.chain_id;
    prove(&recorded.set, chain_id, expected.clone(), run)
}

/// The sender of good blocks is banned while they are being proven: nothing of them counts, they are fetched anew, and
/// proving goes on from where it was.
#[test]
fn blocks_forgotten_while_they_are_proven_are_proven_anew() {
    let recorded = recorded();
    let mut core = core();
    joins(&mut core, LIAR);
    for block in &recorded.blocks[..3] {
        sends(&mut core, LIAR, block);
    }
    let (expected, run) = (first_expected(&recorded.set), run_of(&core));
    let done = outcome(&recorded, &expected, &run);
    assert_eq!(done.proven.len(), 2);
    // Meanwhile it sends what it was not asked for.
    joins(&mut core, HONEST);
    let unrequested = sends(&mut core, LIAR, &recorded.blocks[0]);
    assert!(unrequested.iter().any(|action| matches!(action, PeerAction::Drop { .. })), "{unrequested:?}");
    let (expected, actions) = core.conclude(Duration::ZERO, expected, done, &run);
    assert!(expected == first_expected(&recorded.set) && actions.is_empty() && core.proven.is_empty());
    assert_eq!(core.scheduler.next_verify(), 1);
    // Whoever sends them now gets them proven.
    for block in &recorded.blocks[..3] {
        sends(&mut core, HONEST, block);
    }
    let run = run_of(&core);
    let (expected, _) = core.conclude(Duration::ZERO, expected.clone(), outcome(&recorded, &expected, &run), &run);
    assert_eq!((expected.height, core.proven.len(), core.scheduler.next_verify()), (3, 2, 3));
}

/// A wrong block was replaced by another peer's good one while it was looked at: the other peer is not to blame.
#[test]
fn a_wrong_block_that_was_replaced_blames_nobody() {
    let recorded = recorded();
    let mut core = core();
    joins(&mut core, LIAR);
    let mut wrong = recorded.blocks[0].clone();
    wrong.header.app_hash = vec![7; 32];
    sends(&mut core, LIAR, &wrong);
    sends(&mut core, LIAR, &recorded.blocks[1]);
    let (expected, run) = (first_expected(&recorded.set), run_of(&core));
    let done = outcome(&recorded, &expected, &run);
    assert_eq!(done.bad.as_ref().map(|(height, _)| *height), Some(1));
    joins(&mut core, HONEST);
    sends(&mut core, LIAR, &wrong);
    sends(&mut core, HONEST, &recorded.blocks[0]);
    let (expected, actions) = core.conclude(Duration::ZERO, expected, done, &run);
    assert!(actions.is_empty() && core.scheduler.knows(&peer(HONEST)), "{actions:?}");
    // Had it not been replaced, its sender would be banned.
    let mut core = self::core();
    joins(&mut core, LIAR);
    sends(&mut core, LIAR, &wrong);
    sends(&mut core, LIAR, &recorded.blocks[1]);
    let run = run_of(&core);
    let (_, actions) = core.conclude(Duration::ZERO, expected.clone(), outcome(&recorded, &expected, &run), &run);
    assert!(matches!(actions.as_slice(), [PeerAction::Drop { fault: Fault::BadBlock(1), .. }]), "{actions:?}");
}
