//! From a file to a checked configuration.

use std::fmt;
use std::path::Path;

use crate::read::{Reader, Value};
use crate::schema::Config;
use crate::substitute::{SubstituteError, substitute};
use crate::yaml::{self, Kind, Node};

/// Most bytes of a configuration file.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, if it is about one.
    pub line: Option<usize>,
    /// Path of the key, such as `runtime.runtimes[0].id`; empty for the whole file.
    pub path: String,
    /// What was found and what is expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("unable to read config file '{path}': {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not text, or too long.
    #[error("unable to read config file '{path}': {reason}")]
    Text {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Variables can't be substituted.
    #[error("unable to read config file '{path}': {source}")]
    Substitute {
        /// The file.
        path: String,
        /// Why.
        source: SubstituteError,
    },
    /// Everything that is wrong with the content.
    #[error("failed to load config file '{path}':{}", list(.problems))]
    Problems {
        /// The file.
        path: String,
        /// What is wrong, in the order of the file, then of the checks.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl Config {
    /// Reads and checks a configuration file, with variables of the environment substituted.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read_file(path)?;
        Self::from_text(&path.display().to_string(), &text, &|variable| std::env::var(variable).ok())
    }

    /// Reads and checks the text of a configuration file; `lookup` gives the variables to substitute.
    pub fn from_text(name: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        match parse(name, text, lookup)? {
            Some(tree) => Self::from_tree(name, &tree),
            None => Self::checked(name, Self::default(), Vec::new()),
        }
    }

    /// Reads and checks a configuration that was parsed before.
    pub fn from_tree(name: &str, tree: &Node) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut reader = Reader::default();
        placeholders(tree, String::new(), &mut reader.problems);
        config.read(tree, &mut reader);
        Self::checked(name, config, reader.problems)
    }

    fn checked(name: &str, config: Self, mut found: Vec<Problem>) -> Result<Self, ConfigError> {
        // Checks of what could be read too, so that nothing has to be mended twice.
        let wrong = !found.is_empty();
        found.extend(config.problems().into_iter().filter(|problem| !wrong || !problem.path.is_empty()));
        if found.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Problems { path: name.to_owned(), problems: found })
        }
    }

    /// Paths of all keys that have a value, in the order of sections; what lists and free maps hold is left out.
    pub fn keys() -> Vec<String> {
        let mut keys = Vec::new();
        <Self as Value>::keys("", &mut keys);
        keys
    }

    /// The whole configuration with its defaults, as YAML that reads back as itself.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, 0);
        out.trim_start().to_owned()
    }
}

/// The text of a configuration file.
///
/// # Errors
/// If it can't be read, is too long or not text.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?.len();
    if size > MAX_FILE_SIZE {
        let reason = format!("{size} bytes, at most {MAX_FILE_SIZE} allowed");
        return Err(ConfigError::Text { path: name, reason });
    }
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
    String::from_utf8(bytes).map_err(|_| ConfigError::Text { path: name, reason: "not UTF-8 text".to_owned() })
}

/// Text of a configuration as a tree, with variables substituted; `None` if it holds nothing.
///
/// # Errors
/// If variables can't be substituted or the text is not YAML.
pub fn parse(name: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Node>, ConfigError> {
    let text = substitute(text, lookup).map_err(|source| ConfigError::Substitute { path: name.to_owned(), source })?;
    yaml::parse(&text).map_err(|error| ConfigError::Problems {
        path: name.to_owned(),
        problems: vec![Problem {
            line: Some(error.line),
            path: String::new(),
            message: format!("not valid YAML: {}", error.message),
        }],
    })
}

/// Notes values that still hold a guide's `{{ variable }}`; what a runtime's own configuration holds is its affair.
fn placeholders(node: &Node, path: String, problems: &mut Vec<Problem>) {
    match &node.kind {
        Kind::Scalar { text, .. } => {
            let variable = text.split_once("{{").and_then(|(_, rest)| rest.split_once("}}"));
            if let Some((variable, _)) = variable {
                let message = format!("the placeholder {{{{{variable}}}}} is left: put your own value there");
                problems.push(Problem { line: Some(node.line), path, message });
            }
        }
        Kind::List(items) => {
            for (at, item) in items.iter().enumerate() {
                placeholders(item, format!("{path}[{at}]"), problems);
            }
        }
        Kind::Map(entries) => {
            for (key, _, item) in entries.iter().filter(|(key, ..)| key != "config") {
                let dot = if path.is_empty() { "" } else { "." };
                placeholders(item, format!("{path}{dot}{key}"), problems);
            }
        }
    }
}
