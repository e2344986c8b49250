//! The exact bytes of a field of a JSON object, for bodies that are signed as text.

/// The bytes of the value of `name` in the object that `text` is; of the last one if there are several.
///
/// Finds the ends of values without recursion; what they hold is not checked beyond that.
pub(crate) fn field<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = expect(text, 0, b'{')?;
    let mut found = None;
    if text.get(space(text, at)) == Some(&b'}') {
        return None;
    }
    loop {
        let start = space(text, at);
        let end = string_end(text, start)?;
        let key = &text[start + 1..end - 1];
        let start = space(text, expect(text, end, b':')?);
        let end = value_end(text, start)?;
        if key == name.as_bytes() {
            found = Some(&text[start..end]);
        }
        at = space(text, end);
        match text.get(at)? {
            b',' => at += 1,
            b'}' => break,
            _ => return None,
        }
    }
    if space(text, at + 1) == text.len() { found } else { None }
}

/// The first position from `at` that holds no white space.
fn space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or(&[]);
    at + rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count()
}

fn expect(text: &[u8], at: usize, byte: u8) -> Option<usize> {
    let at = space(text, at);
    (*text.get(at)? == byte).then_some(at + 1)
}

/// Where the string that begins at `at` ends.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    if *text.get(at)? != b'"' {
        return None;
    }
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that begins at `at` ends.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at),
        b'{' | b'[' => {
            let mut depth = 0usize;
            let mut at = at;
            loop {
                match text.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &text[at..];
            let len =
                rest.iter().take_while(|b| !matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')).count();
            (len > 0).then_some(at + len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn finds_exact_bytes() {
        let text = br#" { "a" : {"x": [1, "}"] , "y":"\""}, "b":"q" ,"c": 12 } "#;
        assert_eq!(field(text, "a"), Some(&br#"{"x": [1, "}"] , "y":"\""}"#[..]));
        assert_eq!(field(text, "b"), Some(&br#""q""#[..]));
        assert_eq!(field(text, "c"), Some(&b"12"[..]));
        assert_eq!(field(text, "x"), None);
        for bad in
            [&b""[..], b"{", b"{}", b"[]", br#"{"a"}"#, br#"{"a":"#, br#"{"a":1"#, br#"{"a":1} x"#, br#"{"a":"\"#]
        {
            assert_eq!(field(bad, "a"), None);
        }
    }
}
