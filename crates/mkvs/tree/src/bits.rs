//! Bit strings: most significant bit first, as keys and labels are read.

/// The bit at `pos`; bits past the end read as zero.
pub(crate) fn bit(bytes: &[u8], pos: usize) -> bool {
    bytes.get(pos / 8).is_some_and(|b| b & (0x80 >> (pos % 8)) != 0)
}

/// Eight bits of `bytes` from bit `pos` on, zero-filled past the end.
fn octet(bytes: &[u8], pos: usize) -> u8 {
    let (byte, shift) = (pos / 8, pos % 8);
    let high = bytes.get(byte).copied().unwrap_or(0);
    if shift == 0 {
        return high;
    }
    let low = bytes.get(byte + 1).copied().unwrap_or(0);
    (high << shift) | (low >> (8 - shift))
}

/// Number of equal leading bits of `a[a_from..a_len]` and `b[..b_len]`, all positions in bits.
pub(crate) fn common_prefix(a: &[u8], a_from: usize, a_len: usize, b: &[u8], b_len: usize) -> usize {
    let max = a_len.saturating_sub(a_from).min(b_len);
    let mut n = 0;
    while n < max {
        let diff = octet(a, a_from + n) ^ octet(b, n);
        if diff != 0 {
            return (n + diff.leading_zeros() as usize).min(max);
        }
        n += 8;
    }
    max
}

/// The bits `from..to` of `bytes`, moved to the front; unused low bits are zero.
pub(crate) fn slice(bytes: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    out.clear();
    let len = to.saturating_sub(from);
    out.extend((0..len.div_ceil(8)).map(|i| octet(bytes, from + 8 * i)));
    if let (Some(last), used @ 1..) = (out.last_mut(), len % 8) {
        *last &= 0xff << (8 - used);
    }
}

/// The first `a_len` bits of `a` followed by the first `b_len` bits of `b`.
pub(crate) fn concat(a: &[u8], a_len: usize, b: &[u8], b_len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    slice(a, 0, a_len, &mut out);
    out.resize((a_len + b_len).div_ceil(8), 0);
    let (at, shift) = (a_len / 8, a_len % 8);
    for i in 0..b_len.div_ceil(8) {
        let used = (b_len - 8 * i).min(8);
        let byte = octet(b, 8 * i) & (0xff_u16 << (8 - used)) as u8;
        if let Some(o) = out.get_mut(at + i) {
            *o |= byte >> shift;
        }
        if shift != 0
            && let Some(o) = out.get_mut(at + i + 1)
        {
            *o |= byte << (8 - shift);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8], from: usize, to: usize) -> String {
        (from..to).map(|i| if bit(bytes, i) { '1' } else { '0' }).collect()
    }

    proptest! {
        #[test]
        fn slices_and_concatenations_agree_with_bit_strings(
            a in proptest::collection::vec(any::<u8>(), 0..6), b in proptest::collection::vec(any::<u8>(), 0..6),
            x in 0usize..48, y in 0usize..48, z in 0usize..48,
        ) {
            let (al, bl) = (a.len() * 8, b.len() * 8);
            let (x, y) = (x.min(al).min(y.min(al)), y.min(al).max(x.min(al)));
            let mut s = Vec::new();
            slice(&a, x, y, &mut s);
            prop_assert_eq!(s.len(), (y - x).div_ceil(8));
            let (got, want) = (text(&s, 0, s.len() * 8), text(&a, x, y));
            prop_assert_eq!(got.trim_end_matches('0'), want.trim_end_matches('0'));
            let z = z.min(bl);
            let c = concat(&a, y, &b, z);
            prop_assert_eq!(c.len(), (y + z).div_ceil(8));
            prop_assert_eq!(text(&c, 0, y + z), text(&a, 0, y) + &text(&b, 0, z));
            prop_assert!(!text(&c, y + z, c.len() * 8).contains('1'));
            let n = common_prefix(&a, x, al, &b, z);
            let (ta, tb) = (text(&a, x, al), text(&b, 0, z));
            prop_assert_eq!(n, ta.bytes().zip(tb.bytes()).take_while(|(p, q)| p == q).count());
        }
    }
}
