//! What the runtime runs in: nothing special, a mock enclave, or a trust domain; and what each can attest.

use rt_tee::{EnclaveIdentity, MrEnclave, TEST_MR_SIGNER, VerifyOptions};

/// Environment variable that gives a mock enclave its measurement, 64 hexadecimal digits.
pub const MOCK_MRENCLAVE_VARIABLE: &str = "OASIS_MOCK_MRENCLAVE";

/// Bytes of an SGX report with key id and MAC.
const REPORT_BYTES: usize = 432;

/// Bytes of the data that a runtime puts into its report.
pub const REPORT_DATA_BYTES: usize = 64;

/// Where the kernel offers quotes of trust domains.
const TSM_REPORT_DIR: &str = "/sys/kernel/config/tsm/report";

/// Why there is no report or quote.
#[derive(Debug, thiserror::Error)]
pub enum TeeError {
    /// The runtime does not run in a TEE.
    #[error("not in a TEE")]
    NoTee,
    /// The mock's measurement is missing or malformed.
    #[error("{MOCK_MRENCLAVE_VARIABLE} must hold 64 hexadecimal digits")]
    MockMeasurement,
    /// The kernel gave no quote.
    #[error("no quote from the kernel: {0}")]
    Kernel(#[from] std::io::Error),
    /// Another process used the same entry meanwhile.
    #[error("quote is of generation {got}, expected {expected}")]
    Generation {
        /// Expected.
        expected: u64,
        /// Found.
        got: String,
    },
}

/// What the runtime runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tee {
    /// A plain process: fixed test keys, no attestation. For tests and networks without secrets.
    #[default]
    None,
    /// A plain process that plays an enclave: fresh keys, and reports that nothing vouches for.
    MockSgx(EnclaveIdentity),
    /// A trust domain; the identity is that which its quotes must show.
    Tdx(EnclaveIdentity),
}

impl Tee {
    /// A mock enclave whose measurement is in the environment, where the host puts it.
    ///
    /// # Errors
    /// If it is not there.
    pub fn mock_from_env() -> Result<Self, TeeError> {
        let text = std::env::var(MOCK_MRENCLAVE_VARIABLE).map_err(|_| TeeError::MockMeasurement)?;
        let bytes = hex::decode(text).map_err(|_| TeeError::MockMeasurement)?;
        let mr_enclave = MrEnclave::try_from(bytes.as_slice()).map_err(|_| TeeError::MockMeasurement)?;
        Ok(Self::MockSgx(EnclaveIdentity { mr_enclave, mr_signer: TEST_MR_SIGNER }))
    }

    /// The enclave's identity, if this is one.
    pub fn enclave(&self) -> Option<&EnclaveIdentity> {
        match self {
            Self::None => None,
            Self::MockSgx(identity) | Self::Tdx(identity) => Some(identity),
        }
    }

    /// How evidence of other enclaves is verified: mocks accept mocks.
    pub fn verify_options(&self) -> VerifyOptions {
        match self {
            Self::Tdx(_) => VerifyOptions::default(),
            Self::None | Self::MockSgx(_) => VerifyOptions::mock(),
        }
    }

    /// The report that binds `data`; for a trust domain the whole quote.
    ///
    /// # Errors
    /// If there is none.
    pub fn report(&self, data: &[u8; REPORT_DATA_BYTES]) -> Result<Vec<u8>, TeeError> {
        match self {
            Self::None => Err(TeeError::NoTee),
            Self::MockSgx(identity) => Ok(mock_report(identity, data)),
            Self::Tdx(_) => kernel_quote(std::path::Path::new(TSM_REPORT_DIR), data),
        }
    }
}

/// The report of a debug enclave of that identity, with a MAC of zeros.
fn mock_report(identity: &EnclaveIdentity, data: &[u8; REPORT_DATA_BYTES]) -> Vec<u8> {
    /// CPUSVN of the platform whose certificates mock hosts attach.
    const CPU_SVN: [u8; 16] = [8, 9, 14, 13, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    /// INIT | DEBUG | MODE64BIT.
    const FLAGS: u64 = 0b111;
    /// x87 and SSE.
    const XFRM: u64 = 3;
    let mut report = vec![0; REPORT_BYTES];
    let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &CPU_SVN);
    put(48, &FLAGS.to_le_bytes());
    put(56, &XFRM.to_le_bytes());
    put(64, identity.mr_enclave.as_bytes());
    put(128, identity.mr_signer.as_bytes());
    put(320, data);
    report
}

/// Has the kernel make a quote: data in, quote out, and the generation must have moved by what was written alone.
fn kernel_quote(dir: &std::path::Path, data: &[u8]) -> Result<Vec<u8>, TeeError> {
    let entry = dir.join(format!("oasis-{}", std::process::id()));
    std::fs::create_dir_all(&entry)?;
    let generation = || std::fs::read_to_string(entry.join("generation")).map(|text| text.trim().to_owned());
    let quote = || -> Result<Vec<u8>, TeeError> {
        let expected = generation()?.parse::<u64>().unwrap_or_default().saturating_add(1);
        std::fs::write(entry.join("inblob"), data)?;
        let quote = std::fs::read(entry.join("outblob"))?;
        let got = generation()?;
        if got == expected.to_string() { Ok(quote) } else { Err(TeeError::Generation { expected, got }) }
    };
    let quote = quote();
    // The entry is the kernel's; what it holds cannot be removed one by one.
    let removed = std::fs::remove_dir(&entry);
    if let Err(error) = removed {
        tracing::debug!(err = %error, "quote entry stays");
    }
    quote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mock_reports_have_their_fields_where_verifiers_look() {
        let identity = EnclaveIdentity { mr_enclave: MrEnclave::new([7; 32]), mr_signer: TEST_MR_SIGNER };
        let report = Tee::MockSgx(identity).report(&[9; 64]).unwrap();
        assert_eq!(report.len(), 432);
        assert_eq!(report[64..96], [7; 32]);
        assert_eq!(&report[128..160], TEST_MR_SIGNER.as_bytes());
        assert_eq!(report[320..384], [9; 64]);
        assert!(matches!(Tee::None.report(&[0; 64]), Err(TeeError::NoTee)));
    }

    #[test]
    fn kernel_quotes_of_another_generation_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join(format!("oasis-{}", std::process::id()));
        std::fs::create_dir_all(&entry).unwrap();
        std::fs::write(entry.join("generation"), "4\n").unwrap();
        std::fs::write(entry.join("outblob"), b"quote").unwrap();
        // Plain files do not count writes, so the generation seems not to have moved.
        let error = kernel_quote(dir.path(), &[0; 64]).unwrap_err();
        assert!(matches!(error, TeeError::Generation { expected: 5, .. }), "{error}");
        assert!(kernel_quote(&dir.path().join("missing\0"), &[0; 64]).is_err());
    }
}
