//! YAML text as a tree that knows its lines and keeps scalars as they were written.

use std::collections::HashMap;
use std::fmt::Write as _;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::read::{print_scalar, quoted, scalar};

/// Most nodes, after aliases were resolved.
const MAX_NODES: usize = 100_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line, from 1.
    pub line: usize,
    /// The value.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text.
    Scalar {
        /// The text.
        text: String,
        /// Without quotes, so that it may stand for a number or for nothing.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys with their lines, in order, perhaps repeated.
    Map(Vec<(String, usize, Node)>),
}

impl Node {
    /// Whether it stands for nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } if text.chars().count() > 60 => {
                format!("{:?}…", text.chars().take(60).collect::<String>())
            }
            Kind::Scalar { text, .. } => format!("{text:?}"),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// Text as it would stand in quotes.
    pub fn text(line: usize, text: impl Into<String>) -> Self {
        Self { line, kind: Kind::Scalar { text: text.into(), plain: false } }
    }

    /// A word, number or truth value without quotes.
    pub fn word(line: usize, text: impl Into<String>) -> Self {
        Self { line, kind: Kind::Scalar { text: text.into(), plain: true } }
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// As a YAML document that reads back as the same tree.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, 0);
        out.trim_start().to_owned()
    }

    /// Prints the value after its key and colon, and ends the line.
    pub(crate) fn print(&self, out: &mut String, indent: usize) {
        match &self.kind {
            Kind::Scalar { text, plain: true } if !text.contains(['\n', '"', '#']) => {
                let _ = writeln!(out, " {text}");
            }
            Kind::Scalar { text, plain: true } => print_scalar(out, text),
            Kind::Scalar { text, plain: false } => {
                let _ = writeln!(out, " {}", quoted(text));
            }
            Kind::List(items) if items.is_empty() => out.push_str(" []\n"),
            Kind::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Kind::List(items) => {
                out.push('\n');
                for item in items {
                    let mut text = String::new();
                    item.print(&mut text, indent + 1);
                    // A block starts on a line of its own; its first line goes behind the dash.
                    let _ = write!(out, "{:width$}- {}", "", text.trim_start(), width = indent * 2);
                }
            }
            Kind::Map(entries) => {
                out.push('\n');
                for (key, _, item) in entries {
                    let _ = write!(out, "{:width$}{}:", "", scalar(key), width = indent * 2);
                    item.print(out, indent + 1);
                }
            }
        }
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, _, node)| node.size()).sum::<usize>(),
        }
    }
}

/// Why text is not YAML, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: usize,
    /// Why.
    pub message: String,
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// The first document of the text; `None` if there is none.
pub fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    loop {
        let (event, line) = builder.next()?;
        match event {
            Event::StreamEnd => return Ok(None),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => return builder.node(event, line, 0).map(Some),
        }
    }
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(SyntaxError { line: error.marker().line(), message: error.info().to_owned() }),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn count(&mut self, line: usize, nodes: usize) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(SyntaxError { line, message: format!("more than {MAX_NODES} values") });
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(SyntaxError { line, message: format!("nested deeper than {MAX_DEPTH}") });
        }
        self.count(line, 1)?;
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix != "str");
                (Kind::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => items.push(self.node(event, line, depth + 1)?),
                    }
                }
                (Kind::List(items), anchor)
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let (event, line) = self.next()?;
                    if event == Event::MappingEnd {
                        break;
                    }
                    let key = self.node(event, line, depth + 1)?;
                    let Kind::Scalar { text, .. } = key.kind else {
                        return Err(SyntaxError {
                            line,
                            message: "a key must be text (a placeholder such as {{ name }} is left to fill?)"
                                .to_owned(),
                        });
                    };
                    let (event, value_line) = self.next()?;
                    entries.push((text, line, self.node(event, value_line, depth + 1)?));
                }
                (Kind::Map(entries), anchor)
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id).cloned() else {
                    return Err(SyntaxError { line, message: "alias of an unknown anchor".to_owned() });
                };
                self.count(line, target.size())?;
                return Ok(target);
            }
            _ => return Err(SyntaxError { line, message: "unexpected end".to_owned() }),
        };
        let node = Node { line, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}
