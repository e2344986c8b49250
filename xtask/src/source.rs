//! A rough view of Rust source: code without comments and literals, without tests, with its functions' lengths.

/// Replaces comments, string and character literals by blanks; line breaks stay, so positions and lines agree.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        if end > i {
            for b in &mut out[i..end] {
                if *b != b'\n' {
                    *b = b' ';
                }
            }
            i = end;
        } else {
            i += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that starts at `i`, or `i` if none does.
fn literal_end(bytes: &[u8], i: usize) -> usize {
    let rest = &bytes[i..];
    let word_before = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => i + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => i + block_comment(rest),
        [b'"', ..] => i + quoted(rest),
        [b'b' | b'c', b'"', ..] if !word_before => i + 1 + quoted(&rest[1..]),
        [b'r', ..] if !word_before => i + raw(rest, 1),
        [b'b' | b'c', b'r', ..] if !word_before => i + raw(rest, 2),
        [b'\'', b'\\', ..] => i + 2 + rest.iter().skip(3).position(|b| *b == b'\'').map_or(0, |p| p + 2),
        [b'\'', ..] => i + char_literal(rest),
        _ => i,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0usize, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

fn quoted(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

fn raw(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = &rest[open + 1..];
    body.windows(close.len()).position(|w| w == close).map_or(rest.len(), |p| open + 1 + p + close.len())
}

/// `'x'` but not a lifetime: the closing quote follows one character.
fn char_literal(rest: &[u8]) -> usize {
    let width = match rest.get(1) {
        Some(b) if *b < 0x80 => 1,
        Some(b) if *b >= 0xf0 => 4,
        Some(b) if *b >= 0xe0 => 3,
        Some(_) => 2,
        None => return 0,
    };
    if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
}

/// Is the file itself a test file, by its path?
pub(crate) fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/") || path.starts_with("fuzz/")
}

/// Names of the modules that the code declares for tests only: `#[cfg(test)] mod name;`.
pub(crate) fn test_modules(code: &str) -> Vec<&str> {
    let after = code.split("#[cfg(test)]").skip(1);
    let declared = after.filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'));
    declared.map(|(name, _)| name.trim()).filter(|name| !name.contains('{')).collect()
}

/// Blanks the items marked `#[cfg(test)]` or `#[test]` in code that [`code_only`] made.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for marker in ["#[cfg(test)]", "#[cfg(all(test", "#[test]"] {
        let mut from = 0;
        while let Some(at) = code[from..].find(marker).map(|p| p + from) {
            let end = item_end(code.as_bytes(), at);
            for b in &mut out[at..end] {
                if *b != b'\n' {
                    *b = b' ';
                }
            }
            from = end.max(at + 1);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether what follows the attribute at `at` is a field (`name: …`), not an item.
fn is_field(code: &[u8], at: usize) -> bool {
    let Some(after) = code[at..].iter().position(|b| *b == b']').map(|p| at + p + 1) else { return false };
    let text = String::from_utf8_lossy(&code[after..code.len().min(after + 200)]).into_owned();
    let text = text.trim_start().trim_start_matches("pub ");
    let name = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    name > 0 && text[name..].starts_with(':') && !text[name..].starts_with("::")
}

/// The end of the item at `at`: its closing brace, or its semicolon if that comes before any brace; of a field, its line.
fn item_end(code: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    if is_field(code, at) {
        let attribute = code[at..].iter().position(|b| *b == b']').map_or(at, |p| at + p);
        let comma = code[attribute..].iter().position(|b| *b == b',').map(|p| attribute + p + 1);
        return comma.unwrap_or(code.len());
    }
    for (i, b) in code.iter().enumerate().skip(at) {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            b';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// Number of lines that are not blank once tests are out; `text` is the file as it is.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let kept = without_tests(&code_only(text));
    // A line counts if it has code, or if it had text (a comment) and lies outside the tests.
    let mut in_tests = 0usize;
    let full = code_only(text);
    for ((original, code), kept) in text.lines().zip(full.lines()).zip(kept.lines()) {
        let blanked = !code.trim().is_empty() && kept.trim().is_empty();
        let empty = original.trim().is_empty();
        in_tests += usize::from(blanked || empty);
    }
    text.lines().count() - in_tests
}

/// Name, first line (from 1) and number of lines of each function with a body.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut out = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ").map(|p| p + from) {
        from = at + 3;
        let before = code[..at].chars().next_back();
        let name: String = code[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let end = item_end(code.as_bytes(), at);
        let body = &code[at..end];
        if body.contains('{') {
            out.push((name, code[..at].matches('\n').count() + 1, body.matches('\n').count() + 1));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_literals() {
        let check = |text: &str, expected: &str| assert_eq!(code_only(text), expected, "{text}");
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("x\"y", 1)"#, "f(      , 1)");
        check(r##"f(r#"a"b"#, br"q")"##, "f(        ,      )");
        check(r"f('a', '\'', 'x: &'b T)", "f(   ,     , 'x: &'b T)");
        check("bar\"s\"", "bar   ");
    }

    #[test]
    fn drops_tests() {
        let text = "fn a() { x }\n#[cfg(test)]\nmod tests {\n  fn b() { y }\n}\nfn c() {}\n#[cfg(test)]\nmod tests;\n";
        let kept = without_tests(&code_only(text));
        assert!(kept.contains("fn a") && kept.contains("fn c") && !kept.contains("fn b") && !kept.contains("mod"));
        assert_eq!(lines_without_tests(text), 2);
    }

    #[test]
    fn finds_test_modules() {
        let code = "#[cfg(test)]\nmod vectors;\nmod real;\n#[cfg(test)]\nmod tests { mod inner; }\n";
        assert_eq!(test_modules(code), ["vectors"]);
    }

    #[test]
    fn measures_functions() {
        let code = "fn a() {\n\n}\ntrait T { fn b(); fn c() { } }\nconst F: fn (u8) = d;\n";
        assert_eq!(functions(code), [("a".into(), 1, 3), ("c".into(), 4, 1)]);
    }
}
