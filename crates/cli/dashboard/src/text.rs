//! The same in a terminal.

use std::fmt::Write as _;

use crate::overview::{Overview, State};

/// Most lines of blocks and of transactions.
const FEW: usize = 8;
/// Characters of keys and hashes that are shown.
const SHORT: usize = 12;

/// The whole picture as text, without colours.
#[must_use]
pub fn render(overview: &Overview) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "height {}   epoch {}   {}   chain {}",
        overview.height,
        overview.epoch,
        overview.time,
        short(&overview.chain_context)
    );
    let _ = writeln!(out, "\nNODE             MODE        STATE     HEIGHT  PEERS    WHY");
    for node in &overview.nodes {
        let state = match node.state {
            State::Ready => "ready",
            State::Waiting => "waiting",
            State::Down => "down",
        };
        let peers = format!("{}+{}", node.consensus_peers, node.p2p_peers);
        let _ = writeln!(
            out,
            "{:<16} {:<11} {state:<9} {:<7} {peers:<8} {}",
            line(&node.name),
            line(&node.mode),
            node.height,
            line(&node.why)
        );
        for component in &node.components {
            let _ = writeln!(
                out,
                "  {} {} {} {} round {} {}",
                short(&component.runtime),
                line(&component.name),
                line(&component.version),
                line(&component.state),
                component.round,
                line(&component.worker)
            );
        }
    }
    let _ = writeln!(out, "\nVALIDATOR        POWER   VOTES, newest first (+ for the block, 0 for none, . absent)");
    for validator in &overview.validators {
        let name = if validator.name.is_empty() { short(&validator.address) } else { line(&validator.name) };
        let sign = |vote: &&str| match *vote {
            "commit" => '+',
            "nil" => '0',
            _ => '.',
        };
        let votes: String = validator.votes.iter().map(sign).collect();
        let _ = writeln!(out, "{name:<16} {:<7} {votes}", validator.power);
    }
    paratimes(overview, &mut out);
    let _ = writeln!(out, "\nBLOCK   PROPOSER         TXS  BYTES   HASH");
    for block in overview.blocks.iter().take(FEW) {
        let (height, proposer) = (block.height, line(&block.proposer));
        let _ = writeln!(
            out,
            "{height:<7} {proposer:<16} {:<4} {:<7} {}",
            block.transactions,
            block.size,
            short(&block.hash)
        );
    }
    let _ = writeln!(out, "\nTRANSACTION   HEIGHT  METHOD");
    for tx in overview.transactions.iter().take(FEW) {
        let error = if tx.error.is_empty() { String::new() } else { format!("  failed: {}", line(&tx.error)) };
        let _ = writeln!(
            out,
            "{:<13} {:<7} {} from {}{error}",
            short(&tx.hash),
            tx.height,
            line(&tx.method),
            line(&tx.from)
        );
    }
    out
}

fn paratimes(overview: &Overview, out: &mut String) {
    let _ = writeln!(out, "\nPARATIME         KIND        VERSION  ROUND   COMMITTEE");
    for paratime in &overview.paratimes {
        let members: Vec<_> = paratime
            .committee
            .iter()
            .map(|member| format!("{} ({})", line(&member.node), line(&member.role)))
            .collect();
        let members = if members.is_empty() { "none".to_owned() } else { members.join(", ") };
        let suspended = if paratime.suspended { "suspended; " } else { "" };
        let secrets = if paratime.secrets.is_empty() { String::new() } else { format!("{}; ", paratime.secrets) };
        // The ids of a network differ at their ends.
        let end: String = paratime.id.chars().skip(paratime.id.chars().count().saturating_sub(SHORT)).collect();
        let _ = writeln!(
            out,
            "…{end:<15} {:<11} {:<8} {:<7} {suspended}{secrets}{members}",
            line(&paratime.kind),
            line(&paratime.version),
            paratime.round
        );
    }
}

fn short(text: &str) -> String {
    line(text).chars().take(SHORT).collect()
}

/// What others said, without what would move the cursor.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
