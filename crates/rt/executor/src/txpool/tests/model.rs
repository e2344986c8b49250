//! The main queue against a model that keeps a plain list and searches it.

use super::*;

#[derive(Clone, Debug)]
struct Item {
    tx: u8,
    sender: u8,
    seq: u64,
    priority: u64,
    age: u64,
}

#[derive(Default)]
struct Model {
    items: Vec<Item>,
    /// Only of senders that have transactions.
    state: BTreeMap<u8, u64>,
    scheduled: BTreeMap<u8, u64>,
    age: u64,
}

impl Model {
    fn tidy(&mut self) {
        let items = &self.items;
        self.state.retain(|sender, _| items.iter().any(|i| i.sender == *sender));
    }

    fn forward(&mut self, sender: u8, seq: u64) {
        if let Some(state) = self.state.get_mut(&sender)
            && *state < seq
        {
            *state = seq;
            self.items.retain(|i| i.sender != sender || i.seq >= seq);
        }
    }

    fn add(&mut self, capacity: usize, new: Item, state: u64) -> Result<(), Refused> {
        self.forward(new.sender, state);
        let result = self.place(capacity, new, state);
        self.tidy();
        result
    }

    fn place(&mut self, capacity: usize, new: Item, state: u64) -> Result<(), Refused> {
        if new.seq < *self.state.get(&new.sender).unwrap_or(&state) {
            return Err(Refused::Expired);
        }
        if let Some(at) = self.items.iter().position(|i| (i.sender, i.seq) == (new.sender, new.seq)) {
            if self.items[at].priority >= new.priority {
                return Err(Refused::ReplacementUnderpriced);
            }
            self.items.remove(at);
        }
        self.items.retain(|i| i.tx != new.tx);
        self.state.entry(new.sender).or_insert(state);
        let tx = new.tx;
        self.items.push(Item { age: self.age, ..new });
        self.age += 1;
        if self.items.len() > capacity {
            let least = self.items.iter().map(|i| (i.priority, u64::MAX - i.age)).min().unwrap();
            let at = self.items.iter().position(|i| (i.priority, u64::MAX - i.age) == least).unwrap();
            if self.items.remove(at).tx == tx {
                return Err(Refused::Underpriced);
            }
        }
        Ok(())
    }

    fn used(&mut self, tx: u8) {
        if let Some(at) = self.items.iter().position(|i| i.tx == tx) {
            let gone = self.items.remove(at);
            if gone.seq < u64::MAX {
                self.forward(gone.sender, gone.seq + 1);
            }
        }
        self.tidy();
    }

    fn extra(&mut self, limit: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < limit.min(100) {
            let next = |i: &&Item| match self.scheduled.get(&i.sender) {
                Some(last) => *last < u64::MAX && i.seq == (last + 1).max(self.state[&i.sender]),
                None => i.seq == self.state[&i.sender],
            };
            let best = self.items.iter().filter(next).max_by_key(|i| (i.priority, u64::MAX - i.age)).cloned();
            let Some(best) = best else { break };
            self.scheduled.insert(best.sender, best.seq);
            out.push(best.tx);
        }
        out
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add { tx: u8, sender: u8, seq: u64, priority: u64, state: u64 },
    Used(u8),
    Schedule(usize),
    Extra(usize),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let seq = prop_oneof![8 => 0..6u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)];
    prop_oneof![
        8 => (0..40u8, 0..4u8, seq, 0..4u64, 0..4u64).prop_map(|(tx, sender, seq, priority, state)| {
            Op::Add { tx, sender, seq, priority, state: state.min(seq) }
        }),
        3 => (0..40u8).prop_map(Op::Used),
        2 => (0..5usize).prop_map(Op::Schedule),
        2 => (0..5usize).prop_map(Op::Extra),
        1 => Just(Op::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn main_queue_is_the_model(capacity in 1..12usize, ops in prop::collection::vec(op(), 1..60)) {
        let mut queue = MainQueue::new(capacity, usize::MAX);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Add { tx: n, sender, seq, priority, state } => {
                    let how = Schedule { priority, sender: vec![sender], seq, state_seq: state };
                    let result = queue.add(Tx::new(tx(n)), &how).map(drop);
                    let item = Item { tx: n, sender, seq, priority, age: 0 };
                    prop_assert_eq!(result, model.add(capacity, item, state));
                }
                Op::Used(n) => {
                    queue.used(&[hash(n)]);
                    model.used(n);
                }
                Op::Schedule(limit) => {
                    model.scheduled.clear();
                    let expected: Vec<Hash> = model.extra(limit).into_iter().map(hash).collect();
                    let got: Vec<Hash> = queue.schedule(limit).iter().map(|t| t.hash).collect();
                    prop_assert_eq!(got, expected);
                }
                Op::Extra(limit) => {
                    let expected: Vec<Hash> = model.extra(limit).into_iter().map(hash).collect();
                    let got: Vec<Hash> = queue.schedule_extra(limit).iter().map(|t| t.hash).collect();
                    prop_assert_eq!(got, expected);
                }
                Op::Drain => {
                    let mut items = std::mem::take(&mut model.items);
                    items.sort_by_key(|i| i.age);
                    model.tidy();
                    let expected: Vec<Hash> = items.iter().map(|i| hash(i.tx)).collect();
                    let got: Vec<Hash> = queue.drain().iter().map(|t| t.hash).collect();
                    prop_assert_eq!(got, expected);
                }
            }
            queue.check();
            let mut held: Vec<Hash> = queue.iter().map(|t| t.hash).collect();
            let mut expected: Vec<Hash> = model.items.iter().map(|i| hash(i.tx)).collect();
            held.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(held, expected);
        }
    }
}
