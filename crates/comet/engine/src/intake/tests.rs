//! Turns, bounds and ends of waiting.

use std::time::Duration;

use wire_cometbft::consensus::BlockPart;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::vote::Vote;

use super::*;

fn peer(name: &str) -> PeerId {
    PeerId::new(name)
}

fn vote(from: &PeerId, height: i64) -> Input {
    let vote = Vote { height, ..Vote::default() };
    Input::Message { peer: from.clone(), message: Box::new(Message::Vote(vote)) }
}

fn part(from: &PeerId) -> Input {
    let part = PartSet::from_bytes(&[7; 65_536], 65_536).part(0).unwrap().clone();
    let message = Box::new(Message::BlockPart(BlockPart { height: 1, round: 0, part }));
    Input::Message { peer: from.clone(), message }
}

fn taken_from(taken: Taken) -> String {
    match taken {
        Taken::Peer(input) => match *input {
            Input::Message { peer, .. } | Input::Claim { peer, .. } => peer.0.to_string(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

#[tokio::test]
async fn peers_take_turns_whatever_one_of_them_sends() {
    let intake = Arc::new(Intake::default());
    let (flood, honest) = (peer("flood"), peer("honest"));
    intake.add_peer(&flood);
    intake.add_peer(&honest);
    for height in 0..100 {
        intake.put(&flood, vote(&flood, height)).await;
    }
    for height in 0..3 {
        intake.put(&honest, vote(&honest, height)).await;
    }
    let order: Vec<String> = (0..8).map(|_| taken_from(intake.take(soon()))).collect();
    assert_eq!(order, ["flood", "honest", "flood", "honest", "flood", "honest", "flood", "flood"]);
}

#[tokio::test]
async fn a_full_row_holds_up_its_own_peer_only() {
    let intake = Arc::new(Intake::default());
    let (flood, honest) = (peer("flood"), peer("honest"));
    intake.add_peer(&flood);
    intake.add_peer(&honest);
    for height in 0..PEER_MESSAGES as i64 {
        intake.put(&flood, vote(&flood, height)).await;
    }
    let (held, of) = (Arc::clone(&intake), flood.clone());
    let blocked = tokio::spawn(async move { held.put(&of, vote(&of, 1)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!blocked.is_finished());
    intake.put(&honest, vote(&honest, 1)).await;
    assert_eq!(taken_from(intake.take(soon())), "flood");
    tokio::time::timeout(Duration::from_secs(5), blocked).await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let intake = Arc::new(Intake::default());
    let flood = peer("flood");
    intake.add_peer(&flood);
    let (held, of) = (Arc::clone(&intake), flood.clone());
    let blocked = tokio::spawn(async move {
        for _ in 0..100 {
            held.put(&of, part(&of)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bytes = intake.queue.lock().rows[&flood].bytes;
    assert!((PEER_BYTES..PEER_BYTES + 70_000).contains(&bytes), "{bytes}");
    // The end of the peer is the end of the wait, and of what it left.
    intake.remove_peer(&flood);
    tokio::time::timeout(Duration::from_secs(5), blocked).await.unwrap().unwrap();
    assert!(matches!(intake.take(soon()), Taken::Nothing));
}

#[tokio::test]
async fn signals_come_first_and_a_stop_before_everything() {
    let intake = Intake::default();
    let honest = peer("honest");
    intake.add_peer(&honest);
    intake.put(&honest, vote(&honest, 1)).await;
    intake.signal(Signal::Input(Box::new(Input::TxsAvailable)));
    assert!(matches!(intake.take(soon()), Taken::Signal(Signal::Input(_))));
    intake.set_paused(true);
    assert!(matches!(intake.take(soon()), Taken::Nothing));
    intake.set_paused(false);
    intake.signal(Signal::Resume(None));
    intake.stop();
    assert!(matches!(intake.take(soon()), Taken::Stop));
    // Nothing is taken in any more, and nobody waits for ever.
    for height in 0..1000 {
        intake.put(&honest, vote(&honest, height)).await;
    }
}

#[tokio::test]
async fn strangers_and_cleared_rows_leave_nothing() {
    let intake = Intake::default();
    let (known, unknown) = (peer("known"), peer("unknown"));
    intake.put(&unknown, vote(&unknown, 1)).await;
    assert!(!intake.has_waiting());
    intake.add_peer(&known);
    intake.put(&known, vote(&known, 1)).await;
    assert!(intake.has_waiting());
    intake.clear();
    assert!(!intake.has_waiting());
    intake.put(&known, vote(&known, 2)).await;
    assert_eq!(taken_from(intake.take(soon())), "known");
}
