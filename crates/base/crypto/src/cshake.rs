//! cSHAKE256 (NIST SP 800-185), the basis of TupleHash.

use cshake::{
    CShake256,
    digest::{ExtendableOutput, Update, XofReader},
};

/// Fills `out` with cSHAKE256 of `data` under a function name and a customization string.
pub fn cshake256(function_name: &[u8], customization: &[u8], data: &[u8], out: &mut [u8]) {
    let mut h = CShake256::new_with_function_name(function_name, customization);
    h.update(data);
    h.finalize_xof().read(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cSHAKE samples #3 and #4 published by NIST with SP 800-185.
    #[test]
    fn nist_samples() {
        let mut out = [0; 64];
        cshake256(b"", b"Email Signature", &[0, 1, 2, 3], &mut out);
        assert_eq!(
            hex::encode(out),
            "d008828e2b80ac9d2218ffee1d070c48b8e4c87bff32c9699d5b6896eee0edd1\
             64020e2be0560858d9c00c037e34a96937c561a74c412bb4c746469527281c8c"
        );
        let data: Vec<u8> = (0..200).collect();
        cshake256(b"", b"Email Signature", &data, &mut out);
        assert_eq!(
            hex::encode(out),
            "07dc27b11e51fbac75bc7b3c1d983e8b4b85fb1defaf218912ac864302730917\
             27f42b17ed1df63e8ec118f04b23633c1dfb1574c8fb55cb45da8e25afb092bb"
        );
    }
}
