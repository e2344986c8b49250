//! Manual pages from what programs say of themselves with `--help`: one page per program, a section per subcommand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use crate::dist::stage::answer;

/// Deepest subcommand.
const MAX_DEPTH: usize = 5;

/// The help of a command, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Help {
    /// What it does.
    about: Vec<String>,
    /// The line that says how it is called.
    usage: String,
    /// Names of subcommands.
    pub(super) commands: Vec<String>,
    /// Headings with their lines as they are.
    parts: Vec<(String, Vec<String>)>,
}

/// Takes apart what `--help` prints.
pub(super) fn parse(text: &str) -> Help {
    let mut help = Help::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            help.usage = usage.to_owned();
        } else if let Some(heading) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            let mut part = Vec::new();
            while let Some(inner) = lines.next_if(|line| line.is_empty() || line.starts_with(' ')) {
                part.push(inner.to_owned());
            }
            if heading == "Commands" {
                let names = part.iter().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
                help.commands = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
                help.commands.retain(|name| name != "help");
            }
            while part.last().is_some_and(String::is_empty) {
                part.pop();
            }
            help.parts.push((heading.to_owned(), part));
        } else if help.parts.is_empty() && !line.is_empty() {
            help.about.push(line.to_owned());
        }
    }
    help
}

/// The page of a program.
pub(super) fn page(program: &Path, name: &str, version: &str, epoch: u64) -> Result<String> {
    let top = parse(&String::from_utf8_lossy(&answer(program, &["--help"])?));
    let mut out = String::new();
    let about = top.about.first().cloned().unwrap_or_else(|| name.to_owned());
    // Writing into a string cannot fail.
    let _ = writeln!(out, ".TH {} 1 \"{}\" \"wadi {version}\"", name.to_uppercase(), date(epoch));
    let _ = writeln!(out, ".SH NAME\n{} \\- {}", escape(name), escape(about.trim_end_matches('.')));
    let _ = writeln!(out, ".SH SYNOPSIS\n.B {}", escape(&top.usage));
    if top.about.len() > 1 {
        let _ = writeln!(out, ".SH DESCRIPTION\n{}", escape(&top.about[1..].join(" ")));
    }
    parts(&mut out, &top, ".SH");
    let mut todo: Vec<Vec<String>> = top.commands.iter().rev().map(|command| vec![command.clone()]).collect();
    if !todo.is_empty() {
        let _ = writeln!(out, ".SH SUBCOMMANDS");
    }
    while let Some(words) = todo.pop() {
        let mut line: Vec<&str> = words.iter().map(String::as_str).collect();
        line.push("--help");
        let help = parse(&String::from_utf8_lossy(&answer(program, &line)?));
        let _ = writeln!(out, ".SS {} {}", escape(name), escape(&words.join(" ")));
        let _ = writeln!(out, "{}\n.PP\n.B {}", escape(&help.about.join(" ")), escape(&help.usage));
        parts(&mut out, &help, ".PP\n.B");
        if words.len() < MAX_DEPTH {
            todo.extend(help.commands.iter().rev().map(|command| [&words[..], std::slice::from_ref(command)].concat()));
        }
    }
    Ok(out)
}

fn parts(out: &mut String, help: &Help, heading: &str) {
    for (name, lines) in &help.parts {
        let name = if heading == ".SH" { name.to_uppercase() } else { name.clone() };
        let _ = writeln!(out, "{heading} {}\n.nf", escape(&name));
        for line in lines {
            let _ = writeln!(out, "{}", escape(line));
        }
        let _ = writeln!(out, ".fi");
    }
}

/// Text that the formatter takes as it is.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// The day of a time, `YYYY-MM-DD`.
fn date(epoch: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years.
    let days = epoch / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}
