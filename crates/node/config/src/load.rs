//! From a file to a checked configuration.

use std::fmt;
use std::path::Path;

use crate::read::{Reader, Value};
use crate::schema::Config;
use crate::substitute::{SubstituteError, substitute};
use crate::yaml;

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
        let name = path.display().to_string();
        let size = std::fs::metadata(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?.len();
        if size > MAX_FILE_SIZE {
            let reason = format!("{size} bytes, at most {MAX_FILE_SIZE} allowed");
            return Err(ConfigError::Text { path: name, reason });
        }
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ConfigError::Text { path: name.clone(), reason: "not UTF-8 text".to_owned() })?;
        Self::from_text(&name, &text, &|variable| std::env::var(variable).ok())
    }

    /// Reads and checks the text of a configuration file; `lookup` gives the variables to substitute.
    pub fn from_text(name: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text =
            substitute(text, lookup).map_err(|source| ConfigError::Substitute { path: name.to_owned(), source })?;
        let problems = |problems| Err(ConfigError::Problems { path: name.to_owned(), problems });
        let mut config = Self::default();
        match yaml::parse(&text) {
            Err(error) => {
                let message = format!("not valid YAML: {}", error.message);
                return problems(vec![Problem { line: Some(error.line), path: String::new(), message }]);
            }
            Ok(None) => {}
            Ok(Some(node)) => {
                let mut reader = Reader::default();
                config.read(&node, &mut reader);
                if !reader.problems.is_empty() {
                    let mut found = reader.problems;
                    // Checks of what could be read, so that nothing has to be mended twice.
                    found.extend(config.problems().into_iter().filter(|problem| !problem.path.is_empty()));
                    return problems(found);
                }
            }
        }
        match config.problems() {
            found if found.is_empty() => Ok(config),
            found => problems(found),
        }
    }

    /// The whole configuration with its defaults, as YAML that reads back as itself.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, 0);
        out.trim_start().to_owned()
    }
}
