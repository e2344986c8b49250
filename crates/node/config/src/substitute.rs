//! Shell-style substitution of environment variables in the text of a configuration file.

/// Deepest nesting of defaults.
const MAX_DEPTH: usize = 16;
/// Most bytes of the text after substitution.
const MAX_OUTPUT: usize = 4 << 20;

/// Why variables could not be substituted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// `${` without its `}`.
    #[error("line {line}: closing brace expected after `${{`; write `$$` for a dollar sign")]
    Unclosed {
        /// Line of the `${`.
        line: usize,
    },
    /// `${…}` holds no name of a variable.
    #[error("line {line}: {found:?} is not the name of a variable; write `$$` for a dollar sign")]
    Name {
        /// Line.
        line: usize,
        /// What stands in its place.
        found: String,
    },
    /// Too deep or too long.
    #[error("line {line}: substitution nests deeper than 16 or gives more than 4 MiB")]
    TooLarge {
        /// Line.
        line: usize,
    },
}

/// Replaces `$V`, `${V}`, `${V:-default}`, `${V-default}`, `${V:=default}`, `${V=default}`, `${V:+other}`, `${V+other}`
/// and `$$`. An unset variable gives nothing. Defaults are substituted in turn.
pub fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, SubstituteError> {
    expand(text, lookup, 1, 0)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    first_line: usize,
    depth: usize,
) -> Result<String, SubstituteError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let line_at = |rest: &str| first_line + text[..text.len() - rest.len()].matches('\n').count();
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let start = &rest[dollar..];
        let line = line_at(start);
        if depth > MAX_DEPTH || out.len() > MAX_OUTPUT {
            return Err(SubstituteError::TooLarge { line });
        }
        rest = &start[1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner).ok_or(SubstituteError::Unclosed { line })?;
            out.push_str(&expression(&inner[..end], lookup, line, depth)?);
            rest = &inner[end + 1..];
        } else {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if end == 0 {
                out.push('$');
            } else {
                out.push_str(&lookup(&rest[..end]).unwrap_or_default());
                rest = &rest[end..];
            }
        }
    }
    out.push_str(rest);
    if out.len() > MAX_OUTPUT {
        return Err(SubstituteError::TooLarge { line: first_line });
    }
    Ok(out)
}

/// Where the brace closes that is open already.
fn closing(inner: &str) -> Option<usize> {
    let mut depth = 1usize;
    let mut before = ' ';
    for (at, c) in inner.char_indices() {
        match c {
            '{' if before == '$' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        before = c;
    }
    None
}

fn expression(
    inner: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    line: usize,
    depth: usize,
) -> Result<String, SubstituteError> {
    let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
    let (name, operator) = inner.split_at(end);
    if name.is_empty() {
        return Err(SubstituteError::Name { line, found: inner.to_owned() });
    }
    let value = lookup(name);
    let (also_empty, operator) = match operator.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, operator),
    };
    let present = value.as_ref().is_some_and(|value| !also_empty || !value.is_empty());
    let mut chars = operator.chars();
    match chars.next() {
        None if !also_empty => Ok(value.unwrap_or_default()),
        Some('-' | '=') if present => Ok(value.unwrap_or_default()),
        Some('-' | '=') => expand(chars.as_str(), lookup, line, depth + 1),
        Some('+') if present => expand(chars.as_str(), lookup, line, depth + 1),
        Some('+') => Ok(String::new()),
        _ => Err(SubstituteError::Name { line, found: inner.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        assert_eq!(substitute(text, &lookup).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn substitutes_as_a_shell_does() {
        check("$A/${A}", "a/a");
        check("${A:-x}${EMPTY:-x}${NONE:-x}", "axx");
        check("${A-x}[${EMPTY-x}]${NONE-x}", "a[]x");
        check("${A:=x}${EMPTY:=x}${NONE=x}", "axx");
        check("${A:+x}[${EMPTY:+x}][${EMPTY+x}][${NONE+x}]", "x[][x][]");
        check("${NONE:-${EMPTY:-${A}}}", "a");
        check("$$A $ 5$", "$A $ 5$");
        check("[$NONE]", "[]");
    }

    #[test]
    fn names_the_line_of_what_is_wrong() {
        let none = |_: &str| None;
        assert_eq!(substitute("a\nb: ${X", &none), Err(SubstituteError::Unclosed { line: 2 }));
        assert_eq!(substitute("${}", &none), Err(SubstituteError::Name { line: 1, found: String::new() }));
        assert_eq!(substitute("${A:}", &none), Err(SubstituteError::Name { line: 1, found: "A:".to_owned() }));
        let deep = "${X:-".repeat(40) + &"}".repeat(40);
        assert_eq!(substitute(&deep, &none), Err(SubstituteError::TooLarge { line: 1 }));
    }
}
