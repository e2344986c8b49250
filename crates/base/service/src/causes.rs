//! Errors as people read them: in one line, with what led to them.

use std::error::Error;

/// An error and its causes in one line; what is in the text already is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("outer")]
        Silent(#[source] io::Error),
        #[error("outer: {0}")]
        Telling(#[source] io::Error),
    }

    #[test]
    fn causes_are_told_once() {
        assert_eq!(chain(&Outer::Silent(io::Error::other("inner"))), "outer: inner");
        assert_eq!(chain(&Outer::Telling(io::Error::other("inner"))), "outer: inner");
    }
}
