//! Filters of logs, what nodes are said to be, the text view.

use node_rpc::status::{ConsensusStatus, RegistrationStatus, Status, StatusState};

use crate::logs::{self, LogQuery, MAX_LINES};
use crate::overview::{NodeView, Overview, State, TxView, ValidatorView};
use crate::{collect, text};

fn tail(text: &str, filter: &str, level: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    std::fs::write(&path, text).expect("written");
    let query = LogQuery { node: String::new(), filter: filter.to_owned(), level: level.to_owned() };
    logs::tail(&path, &query).expect("read")
}

#[test]
fn logs_are_filtered_by_text_and_level_and_bounded() {
    let text =
        "level=debug msg=\"a\"\nlevel=info msg=\"Block\"\n{\"level\":\"error\",\"msg\":\"c\"}\nstack of a panic\n";
    assert_eq!(tail(text, "", "").len(), 4);
    assert_eq!(tail(text, "bLOCK", ""), ["level=info msg=\"Block\""]);
    assert_eq!(tail(text, "", "warn"), ["{\"level\":\"error\",\"msg\":\"c\"}", "stack of a panic"]);
    assert_eq!(tail(text, "none of them", ""), Vec::<String>::new());
    let many: String = (0..2_000).map(|n| format!("line {n}\n")).collect();
    let shown = tail(&many, "", "");
    assert_eq!((shown.len(), shown.last().map(String::as_str)), (MAX_LINES, Some("line 1999")));
    let long = "ä".repeat(10_000);
    assert!(tail(&long, "", "").iter().all(|line| line.len() <= 4 << 10));
}

#[test]
fn a_node_says_why_it_is_not_ready() {
    let mut node = NodeView::default();
    let consensus = ConsensusStatus { status: StatusState::READY, latest_height: 7, ..ConsensusStatus::default() };
    let mut status = Status { mode: "validator".to_owned(), consensus: Some(consensus), ..Status::default() };
    collect::describe(&mut node, &status);
    assert_eq!((node.state, node.height, node.why.as_str()), (State::Ready, 7, "nothing is missing"));

    status.consensus.as_mut().expect("set").status = StatusState::SYNCING;
    status.registration =
        Some(RegistrationStatus { last_attempt_error_message: "no stake".to_owned(), ..RegistrationStatus::default() });
    collect::describe(&mut node, &status);
    assert_eq!(node.state, State::Waiting);
    assert_eq!(node.why, "catching up, at height 7; registration failed: no stake");
}

#[test]
fn the_text_shows_everything_and_no_control_characters() {
    let overview = Overview {
        height: 12,
        nodes: vec![NodeView { name: "a\u{1b}[2J".to_owned(), why: "gone".to_owned(), ..NodeView::default() }],
        validators: vec![ValidatorView {
            name: "v".to_owned(),
            votes: vec!["commit", "absent"],
            ..ValidatorView::default()
        }],
        transactions: vec![TxView {
            method: "staking.Transfer".to_owned(),
            error: "no".to_owned(),
            ..TxView::default()
        }],
        ..Overview::default()
    };
    let text = text::render(&overview);
    for wanted in ["height 12", "a [2J", "down", "gone", "+.", "staking.Transfer", "failed: no"] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}
