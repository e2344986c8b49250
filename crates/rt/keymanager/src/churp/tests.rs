//! A committee in memory: dealing, handoffs to itself and to others, with nodes that drop out and nodes that lie.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    suite::{Point, Scalar, hash_to_point, hash_to_scalar, point_from_bytes, point_to_bytes, scalar_from_bytes},
    *,
};

const THRESHOLD: u8 = 2;
const DOMAIN: &[u8] = b"test domain";

fn x(node: u8) -> Scalar {
    suite::shareholder(&[node], DOMAIN).unwrap()
}

fn xs(nodes: &[u8]) -> Vec<Scalar> {
    nodes.iter().map(|node| x(*node)).collect()
}

/// The new committee of a handoff at work.
struct Committee {
    nodes: Vec<u8>,
    handoffs: BTreeMap<u8, Handoff>,
    dealers: BTreeMap<u8, Dealer>,
}

type Shares = BTreeMap<u8, Arc<Share>>;

impl Committee {
    fn new(kind: HandoffKind, nodes: &[u8]) -> Self {
        let deal =
            || if kind == HandoffKind::DealingPhase { Dealer::new(THRESHOLD) } else { Dealer::proactive(THRESHOLD) };
        let begin = |node: &u8| (*node, Handoff::new(kind, THRESHOLD, x(*node), xs(nodes)).unwrap());
        Self {
            nodes: nodes.to_vec(),
            handoffs: nodes.iter().map(begin).collect(),
            dealers: nodes.iter().map(|node| (*node, deal().unwrap())).collect(),
        }
    }

    /// Everybody gets what everybody dealt.
    fn proactivize(&mut self) {
        for (node, handoff) in &mut self.handoffs {
            for dealer in &self.nodes {
                assert!(handoff.needs_dealt_share(&x(*dealer)));
                let share = self.dealers[dealer].share(&x(*node), handoff.kind());
                let done = handoff.add_dealt_share(&x(*dealer), share).unwrap();
                assert_eq!(done, dealer == self.nodes.last().unwrap());
            }
        }
    }

    fn reduce(&mut self, old: &Shares) {
        for (node, handoff) in &mut self.handoffs {
            assert!(handoff.needs_matrix());
            handoff.set_matrix(Arc::clone(&old.values().next().unwrap().matrix)).unwrap();
            let mut done = false;
            for (from, share) in old {
                if handoff.needs_reduction_point(&x(*from)) {
                    done = handoff.add_reduction_point(x(*from), share.switch_point(&x(*node))).unwrap();
                }
            }
            assert!(done);
        }
    }

    fn distribute(&mut self) {
        let reduced: Shares = self.handoffs.iter().map(|(node, h)| (*node, h.reduced_share().unwrap())).collect();
        for (node, handoff) in &mut self.handoffs {
            let mut done = false;
            for (from, share) in &reduced {
                if handoff.needs_distribution_point(&x(*from)) {
                    done = handoff.add_distribution_point(x(*from), share.switch_point(&x(*node))).unwrap();
                }
            }
            assert!(done);
        }
    }

    fn shares(&self) -> Shares {
        self.handoffs.iter().map(|(node, h)| (*node, h.full_share().unwrap())).collect()
    }
}

fn dealt(nodes: &[u8]) -> Shares {
    let mut committee = Committee::new(HandoffKind::DealingPhase, nodes);
    committee.proactivize();
    committee.shares()
}

fn secret(shares: &Shares, of: &[u8]) -> Scalar {
    let shares: Vec<Share> = of.iter().map(|node| (*shares[node]).clone()).collect();
    recover_secret(&shares, THRESHOLD, HandoffKind::CommitteeUnchanged).unwrap()
}

fn key(shares: &Shares, of: &[u8]) -> Point {
    let parts: Vec<_> = of.iter().map(|node| shares[node].key_share(b"key", DOMAIN).unwrap()).collect();
    recover_key(&parts, THRESHOLD).unwrap()
}

#[test]
fn the_dealt_secret_is_the_sum_of_what_was_dealt() {
    let nodes = [1, 2, 3, 4, 5];
    let mut committee = Committee::new(HandoffKind::DealingPhase, &nodes);
    committee.proactivize();
    let shares = committee.shares();
    let sum: Scalar = committee.dealers.values().map(|d| d.polynomial().at_x(&Scalar::ZERO).constant()).sum();
    assert_eq!(secret(&shares, &[1, 2, 3]), sum);
    assert_eq!(secret(&shares, &[5, 3, 1, 4]), sum);
    assert_eq!(key(&shares, &[2, 4, 5]), hash_to_point(b"key", DOMAIN).unwrap() * sum);
    for share in shares.values() {
        share.verify(THRESHOLD, false, true).unwrap();
    }
    let few: Vec<Share> = [1, 2].iter().map(|n: &u8| (*shares[n]).clone()).collect();
    let recovered = recover_secret(&few, THRESHOLD, HandoffKind::CommitteeUnchanged);
    assert_eq!(recovered, Err(ChurpError::NotEnoughShares));
    let twice = [few[0].clone(), few[0].clone(), few[1].clone()];
    let recovered = recover_secret(&twice, THRESHOLD, HandoffKind::CommitteeUnchanged);
    assert_eq!(recovered, Err(ChurpError::NotDistinct));
}

#[test]
fn the_secret_stays_when_the_committee_stays_and_old_shares_become_worthless() {
    let nodes = [1, 2, 3, 4];
    let before = dealt(&nodes);
    let expected = secret(&before, &[1, 2, 3]);
    let mut committee = Committee::new(HandoffKind::CommitteeUnchanged, &nodes);
    for (node, handoff) in &mut committee.handoffs {
        assert!(!handoff.needs_dealt_share(&x(1)), "first its own share");
        handoff.set_share(Arc::clone(&before[node])).unwrap();
    }
    committee.proactivize();
    let after = committee.shares();
    assert_eq!(secret(&after, &[4, 2, 1]), expected);
    let mixed = [(*before[&1]).clone(), (*after[&2]).clone(), (*after[&3]).clone()];
    assert_ne!(recover_secret(&mixed, THRESHOLD, HandoffKind::CommitteeUnchanged), Ok(expected));
}

#[test]
fn the_secret_stays_when_the_committee_changes_and_some_of_the_old_dropped_out() {
    let mut shares = dealt(&[1, 2, 3, 4, 5]);
    let (expected, expected_key) = (secret(&shares, &[1, 2, 3]), key(&shares, &[1, 2, 3]));
    // Two of five are gone; three are enough for a threshold of two.
    shares.retain(|node, _| ![2, 5].contains(node));
    for nodes in [[3, 4, 6, 7, 8], [6, 7, 8, 9, 10]] {
        let mut committee = Committee::new(HandoffKind::CommitteeChanged, &nodes);
        committee.reduce(&shares);
        committee.proactivize();
        committee.distribute();
        shares = committee.shares();
        assert_eq!(secret(&shares, &nodes[..3]), expected);
        assert_eq!(key(&shares, &nodes[2..]), expected_key);
        for share in shares.values() {
            share.verify(THRESHOLD, false, true).unwrap();
        }
    }
}

#[test]
fn a_handoff_does_not_complete_with_too_few_of_the_old_committee() {
    let mut shares = dealt(&[1, 2, 3, 4]);
    shares.retain(|node, _| *node < 3);
    let mut handoff = Handoff::new(HandoffKind::CommitteeChanged, THRESHOLD, x(7), xs(&[5, 6, 7, 8, 9])).unwrap();
    handoff.set_matrix(Arc::clone(&shares[&1].matrix)).unwrap();
    for (from, share) in &shares {
        assert_eq!(handoff.add_reduction_point(x(*from), share.switch_point(&x(7))), Ok(false));
    }
    assert!(handoff.full_share().is_err() && handoff.reduced_share().is_err());
    assert!(!handoff.needs_dealt_share(&x(5)));
}

#[test]
fn lies_are_found_and_do_not_stop_the_honest() {
    let old = dealt(&[1, 2, 3, 4]);
    let nodes = [3, 4, 5, 6, 7];
    let mut committee = Committee::new(HandoffKind::CommitteeChanged, &nodes);
    // Points that are not on the polynomial, before the right ones.
    for (node, handoff) in &mut committee.handoffs {
        handoff.set_matrix(Arc::clone(&old[&1].matrix)).unwrap();
        assert_eq!(handoff.set_matrix(Arc::clone(&old[&1].matrix)), Err(ChurpError::InvalidState));
        let right = old[&1].switch_point(&x(*node));
        assert_eq!(handoff.add_reduction_point(x(1), right + Scalar::ONE), Err(ChurpError::InvalidSwitchPoint));
        assert_eq!(handoff.add_reduction_point(x(2), right), Err(ChurpError::InvalidSwitchPoint));
        handoff.add_reduction_point(x(1), right).unwrap();
        assert_eq!(handoff.add_reduction_point(x(1), right), Err(ChurpError::DuplicateShareholder));
        for from in [2, 4] {
            handoff.add_reduction_point(x(from), old[&from].switch_point(&x(*node))).unwrap();
        }
    }
    let kind = HandoffKind::CommitteeChanged;
    let handoff = committee.handoffs.get_mut(&5).unwrap();
    let honest = &committee.dealers[&3];
    let mut refuse = |share: Share, why| assert_eq!(handoff.add_dealt_share(&x(3), share), Err(why));
    // For another node; of another polynomial than committed to; one that changes the secret; too simple; too small.
    refuse(honest.share(&x(6), kind), ChurpError::IdentityMismatch);
    let other = Dealer::proactive(THRESHOLD).unwrap();
    refuse(Share { matrix: Arc::clone(other.matrix()), ..honest.share(&x(5), kind) }, ChurpError::InvalidPolynomial);
    refuse(Dealer::new(THRESHOLD).unwrap().share(&x(5), kind), ChurpError::ZeroHoleMismatch);
    refuse(honest.share(&x(5), HandoffKind::CommitteeUnchanged), ChurpError::DegreeMismatch);
    refuse(Dealer::proactive(1).unwrap().share(&x(5), kind), ChurpError::DimensionMismatch);
    let mut flat = honest.polynomial().to_bytes();
    let end = flat.len();
    flat[end - suite::SCALAR_BYTES..].fill(0);
    refuse(Dealer::from(Bivariate::from_bytes(&flat).unwrap()).share(&x(5), kind), ChurpError::Insecure);
    assert_eq!(handoff.add_dealt_share(&x(9), honest.share(&x(5), kind)), Err(ChurpError::UnknownShareholder));
    // After all that the handoff completes with what was right.
    committee.proactivize();
    let reduced = committee.handoffs[&3].reduced_share().unwrap();
    let handoff = committee.handoffs.get_mut(&5).unwrap();
    let wrong = reduced.switch_point(&x(6));
    assert_eq!(handoff.add_distribution_point(x(3), wrong), Err(ChurpError::InvalidSwitchPoint));
    committee.distribute();
    assert_eq!(secret(&committee.shares(), &[3, 5, 7]), secret(&old, &[1, 2, 3]));
}

#[test]
fn dealers_that_cancel_each_other_out_are_found() {
    let nodes = [1, 2, 3, 4];
    // Four dealers whose polynomials add up to nothing: p, p, -p, -p.
    let p = Dealer::new(THRESHOLD).unwrap();
    let bytes = p.polynomial().to_bytes();
    let mut minus = bytes[..2].to_vec();
    for number in bytes[2..].chunks(suite::SCALAR_BYTES) {
        minus.extend(suite::scalar_to_bytes(&-scalar_from_bytes(number).unwrap()));
    }
    let minus = Dealer::from(Bivariate::from_bytes(&minus).unwrap());
    let mut handoff = Handoff::new(HandoffKind::DealingPhase, THRESHOLD, x(1), xs(&nodes)).unwrap();
    let kind = HandoffKind::DealingPhase;
    for (node, dealer) in nodes[..3].iter().zip([&p, &p, &minus]) {
        assert_eq!(handoff.add_dealt_share(&x(*node), dealer.share(&x(1), kind)), Ok(false));
    }
    assert_eq!(handoff.add_dealt_share(&x(4), minus.share(&x(1), kind)), Err(ChurpError::ZeroHoleMismatch));
    assert!(handoff.full_share().is_err());
}

#[test]
fn committees_need_enough_nodes() {
    let begin = |kind, nodes: &[u8]| Handoff::new(kind, THRESHOLD, x(nodes[0]), xs(nodes)).map(drop);
    let few = Err(ChurpError::NotEnoughShareholders);
    assert_eq!(begin(HandoffKind::DealingPhase, &[1, 2, 3]), few);
    assert_eq!(begin(HandoffKind::DealingPhase, &[1, 2, 3, 4]), Ok(()));
    assert_eq!(begin(HandoffKind::CommitteeUnchanged, &[1, 2]), few);
    assert_eq!(begin(HandoffKind::CommitteeChanged, &[1, 2, 3]), Ok(()));
    let stranger = Handoff::new(HandoffKind::CommitteeUnchanged, THRESHOLD, x(9), xs(&[1, 2, 3]));
    assert_eq!(stranger.map(drop), Err(ChurpError::UnknownShareholder));
}

#[test]
fn bytes_of_shares_and_matrices() {
    let shares = dealt(&[1, 2, 3, 4]);
    let wire = WireShare::from(&*shares[&1]);
    assert_eq!(wire.verification_matrix.len(), 2 + 3 * 5 * suite::POINT_BYTES);
    assert_eq!(wire.share.polynomial.len(), 5 * suite::SCALAR_BYTES);
    assert_eq!(Share::try_from(&wire).unwrap(), *shares[&1]);
    // The commitment of a polynomial without secret has the neutral point, which is zeros.
    let dealer = Dealer::proactive(THRESHOLD).unwrap();
    let matrix = dealer.matrix().to_bytes();
    assert_eq!(matrix[2..2 + suite::POINT_BYTES], [0; suite::POINT_BYTES]);
    assert_eq!(Matrix::from_bytes(&matrix).unwrap(), **dealer.matrix());
    let mut too_large = wire.clone();
    too_large.share.x.0 = vec![0xff; suite::SCALAR_BYTES];
    assert_eq!(Share::try_from(&too_large), Err(ChurpError::Decoding));
    for bytes in [&[][..], &[0], &[255, 255, 1], &matrix[..matrix.len() - 1]] {
        assert!(Matrix::from_bytes(bytes).is_err() && Bivariate::from_bytes(bytes).is_err());
    }
    assert!(Poly::from_bytes(&[]).is_err() && Poly::from_bytes(&[0; 47]).is_err());
    assert!(point_from_bytes(&[9; 49]).is_err());
    let point = hash_to_point(b"m", DOMAIN).unwrap();
    assert_eq!(point_from_bytes(&point_to_bytes(&point)), Ok(point));
    let part = shares[&2].key_share(b"key", DOMAIN).unwrap();
    assert_eq!(WireKeyShare::new(&part.0, &part.1).open(), Ok(part));
}

#[test]
fn hashing_depends_on_message_and_domain() {
    let a = hash_to_scalar(b"m", DOMAIN).unwrap();
    assert_ne!(a, hash_to_scalar(b"n", DOMAIN).unwrap());
    assert_ne!(a, hash_to_scalar(b"m", b"other").unwrap());
    assert_eq!(hash_to_scalar(b"m", &[1; 256]), Err(ChurpError::Encoding));
}
