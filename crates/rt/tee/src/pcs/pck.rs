//! The platform's certificate: chain to Intel's root and the SGX extension.

use p256::ecdsa::VerifyingKey;

use super::Error;
use crate::{
    der::{Der, tag},
    time::UnixTime,
    x509::{self, Certificate, CertificateError, CertificateKey, INTEL_SGX_ROOT},
};

/// `1.2.840.113741.1.13.1`, the extension that holds a list of `SEQUENCE { id, value }`.
const OID_SGX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
/// Last arc below [`OID_SGX`] of the TCB's list.
const ARC_TCB: u8 = 2;
/// Last arc below [`OID_SGX`] of the platform kind.
const ARC_FMSPC: u8 = 4;

/// What the platform's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PckInfo {
    pub(super) public_key: VerifyingKey,
    /// Platform kind: family, model, stepping, platform type, custom SKU.
    pub fmspc: [u8; 6],
    /// Security versions of the sixteen SGX TCB components.
    pub tcb_comp_svn: [i32; 16],
    /// Security version of the provisioning enclave.
    pub pce_svn: u16,
    /// Security versions of the processor.
    pub cpu_svn: [u8; 16],
}

/// Verifies a chain of leaf, intermediate and root and reads the leaf.
pub(super) fn verify(chain: &[Certificate], now: UnixTime) -> Result<PckInfo, Error> {
    let [leaf, intermediate, root] = chain else {
        return Err(Error::PckChain(CertificateError::ChainLength { found: chain.len(), expected: 3 }));
    };
    x509::verify_chain(leaf, Some(intermediate), root, &INTEL_SGX_ROOT, now).map_err(Error::PckChain)?;
    read(leaf)
}

fn read(leaf: &Certificate) -> Result<PckInfo, Error> {
    let malformed = |field| Error::MalformedPck { field };
    let Some(CertificateKey::P256(public_key)) = leaf.key() else {
        return Err(malformed("public key"));
    };
    let extension = leaf.extension(OID_SGX).ok_or(malformed("FMSPC"))?;
    let mut fmspc = None;
    let mut info =
        PckInfo { public_key: *public_key, fmspc: [0; 6], tcb_comp_svn: [0; 16], pce_svn: 0, cpu_svn: [0; 16] };
    let mut list = Der::new(extension).read(tag::SEQUENCE).ok_or(malformed("SGX extension"))?;
    while !list.is_empty() {
        let (oid, mut value) = item(&mut list).ok_or(malformed("SGX extension"))?;
        match oid.strip_prefix(OID_SGX) {
            Some([ARC_FMSPC]) => {
                let bytes = value.element(tag::OCTET_STRING).ok_or(malformed("FMSPC"))?.content;
                fmspc = Some(<[u8; 6]>::try_from(bytes).map_err(|_| malformed("FMSPC"))?);
            }
            Some([ARC_TCB]) => read_tcb(value.read(tag::SEQUENCE).ok_or(malformed("TCB"))?, &mut info)?,
            _ => {}
        }
    }
    info.fmspc = fmspc.ok_or(malformed("FMSPC"))?;
    Ok(info)
}

fn read_tcb(mut list: Der<'_>, info: &mut PckInfo) -> Result<(), Error> {
    let malformed = |field| Error::MalformedPck { field };
    while !list.is_empty() {
        let (oid, mut value) = item(&mut list).ok_or(malformed("TCB"))?;
        // The last arc alone decides; arcs above 127 take several bytes and mean nothing here.
        let arc = match oid {
            [.., before, last] if before & 0x80 == 0 => *last,
            _ => 0,
        };
        match arc {
            1..=16 => {
                let svn = value.integer().and_then(|n| i32::try_from(n).ok()).ok_or(malformed("TCB component"))?;
                info.tcb_comp_svn[usize::from(arc) - 1] = svn;
            }
            17 => {
                info.pce_svn = value.integer().and_then(|n| u16::try_from(n).ok()).ok_or(malformed("PCESVN"))?;
            }
            18 => {
                let bytes = value.element(tag::OCTET_STRING).ok_or(malformed("CPUSVN"))?.content;
                for (to, from) in info.cpu_svn.iter_mut().zip(bytes) {
                    *to = *from;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// One `SEQUENCE { id OBJECT IDENTIFIER, value ANY }`: the identifier's octets and a cursor at the value.
fn item<'a>(list: &mut Der<'a>) -> Option<(&'a [u8], Der<'a>)> {
    let mut pair = list.read(tag::SEQUENCE)?;
    let oid = pair.element(tag::OID)?.content;
    Some((oid, pair))
}
