//! How large a bundle may be, and what its files may be called.

/// Most bytes of a file's name.
pub const MAX_NAME_BYTES: usize = 255;

/// Bounds of what is read from a bundle.
///
/// The reference bounds only downloads, and only the archive (`runtime.max_bundle_size`, 20 MiB unless configured).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// Bytes of all files unpacked.
    pub unpacked_bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
}

impl Default for Limits {
    /// For bundles that the operator chose.
    fn default() -> Self {
        Self { archive_bytes: 16 << 30, unpacked_bytes: 64 << 30, files: 4096, manifest_bytes: 4 << 20 }
    }
}

impl Limits {
    /// Default of `runtime.max_bundle_size`.
    pub const DEFAULT_DOWNLOAD_BYTES: u64 = 20 << 20;

    /// How much larger a downloaded bundle may get when unpacked.
    const UNPACKED_FACTOR: u64 = 128;

    /// For bundles from elsewhere, of up to `archive_bytes`.
    pub fn downloaded(archive_bytes: u64) -> Self {
        let default = Self::default();
        Self {
            archive_bytes,
            unpacked_bytes: archive_bytes.saturating_mul(Self::UNPACKED_FACTOR).min(default.unpacked_bytes),
            ..default
        }
    }
}

/// Checks the name of a file in a bundle.
///
/// Stricter than the reference, which accepts whatever has no folder by its path rules: the special names, a leading
/// `./`, and backslashes. None of these can be unpacked usefully.
///
/// # Errors
/// The rule that it breaks.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("it has more than 255 bytes");
    }
    if name.contains(['/', '\\']) {
        return Err("files lie at the top, without folders");
    }
    if name == "." || name == ".." || name == wire_runtime::bundle::MANIFEST_DIR {
        return Err("it is the name of a folder");
    }
    if name.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    Ok(())
}
