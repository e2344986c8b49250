//! Questions to the person at the terminal; all of it goes to standard error.

use std::io::{BufRead as _, IsTerminal as _};

use zeroize::Zeroizing;

use crate::error::{CliError, Result};

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks for a yes; with `yes` it is given without asking. A no is the error `otherwise`.
pub(crate) fn confirm(question: &str, yes: bool, otherwise: &str) -> Result<()> {
    if yes {
        eprintln!("? {question} Yes");
        return Ok(());
    }
    eprint!("? {question} (y/N) ");
    let answer = line()?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(otherwise.into()) }
}

/// Asks for a line of text.
pub(crate) fn ask(question: &str) -> Result<String> {
    eprint!("? {question} ");
    Ok(line()?.trim().to_owned())
}

fn line() -> Result<String> {
    let mut text = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), MAX_ANSWER);
    let read =
        input.read_line(&mut text).map_err(|error| CliError::new(format!("could not read an answer: {error}")))?;
    if read == 0 {
        return Err("no answer: standard input has ended; use -y to answer every question with yes".into());
    }
    Ok(text)
}

/// Asks for a passphrase without showing it.
pub(crate) fn passphrase(question: &str) -> Result<Zeroizing<String>> {
    eprint!("? {question} ");
    if std::io::stdin().is_terminal() {
        let read = rpassword::read_password();
        return read
            .map(Zeroizing::new)
            .map_err(|error| CliError::new(format!("could not read a passphrase: {error}")));
    }
    let mut text = Zeroizing::new(line()?);
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(text)
}

/// Asks for a new passphrase twice; with `yes` it is empty.
pub(crate) fn new_passphrase(yes: bool) -> Result<Zeroizing<String>> {
    if yes {
        return Ok(Zeroizing::default());
    }
    let first = passphrase("Choose a new passphrase:")?;
    let second = passphrase("Repeat passphrase:")?;
    if first == second { Ok(first) } else { Err("passphrases do not match".into()) }
}
