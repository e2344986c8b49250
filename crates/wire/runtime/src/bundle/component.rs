//! Components of a bundle.

use std::{fmt, str::FromStr};

use base_codec::{Codec, int_type};
use base_prims::Version;
use wire_consensus::tee::EnclaveIdentity;

/// Kind of the on-chain component.
pub const KIND_RONL: &str = "ronl";
/// Kind of off-chain components.
pub const KIND_ROFL: &str = "rofl";

/// Fewest characters of an off-chain component's name.
const MIN_NAME: usize = 3;
/// Most characters of an off-chain component's name.
const MAX_NAME: usize = 128;

/// Least memory of a virtual machine in MiB.
pub const MIN_TDX_MEMORY_MIB: u64 = 16;

/// Model of a GPU.
pub const GPU_NVIDIA_H100: &str = "nvidia-h100";
/// Model of a GPU.
pub const GPU_NVIDIA_H200: &str = "nvidia-h200";

/// The rule that a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

fn require(holds: bool, rule: impl Into<String>) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid(rule.into())) }
}

int_type! { text
    /// What a component runs in.
    pub struct TeeKind: u8 {
        /// Nothing special.
        NONE = 0 => "none",
        /// An SGX enclave.
        SGX = 1 => "sgx",
        /// A TDX virtual machine.
        TDX = 2 => "tdx",
    }
}

/// Names a component of a runtime. Text: `ronl`, `rofl.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentId {
    /// The on-chain component.
    Ronl,
    /// The off-chain component of that name.
    Rofl(String),
}

impl ComponentId {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ronl => KIND_RONL,
            Self::Rofl(_) => KIND_ROFL,
        }
    }

    /// The name; empty for the on-chain component.
    pub fn name(&self) -> &str {
        match self {
            Self::Ronl => "",
            Self::Rofl(name) => name,
        }
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rofl(name) if !name.is_empty() => write!(f, "{KIND_ROFL}.{name}"),
            _ => f.write_str(self.kind()),
        }
    }
}

impl FromStr for ComponentId {
    type Err = Invalid;

    fn from_str(s: &str) -> Result<Self, Invalid> {
        let (kind, name) = match s.split_once('.') {
            Some((_, "")) => return Err(Invalid(format!("malformed component identifier: {s:?}"))),
            Some((kind, name)) => (kind, name),
            None => (s, ""),
        };
        match kind {
            KIND_RONL if name.is_empty() => Ok(Self::Ronl),
            KIND_RONL => Err(Invalid(format!("RONL component must have an empty name, got: {name}"))),
            KIND_ROFL => Ok(Self::Rofl(name.into())),
            _ => Err(Invalid(format!("malformed component kind: {kind}"))),
        }
    }
}

/// A component. CBOR and JSON: map of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Component {
    /// [`KIND_RONL`] or [`KIND_ROFL`].
    pub kind: String,
    /// Name of an off-chain component.
    #[codec(omitempty)]
    pub name: String,
    /// Version.
    #[codec(omitempty)]
    pub version: Version,
    /// File of the ELF executable, in an older form.
    #[codec(omitempty)]
    pub executable: String,
    /// How to run it without enclave.
    #[codec(omitempty)]
    pub elf: Option<Elf>,
    /// How to run it in SGX.
    #[codec(omitempty)]
    pub sgx: Option<Sgx>,
    /// How to run it in TDX.
    #[codec(omitempty)]
    pub tdx: Option<Tdx>,
    /// Enclave identities, where they are known; else they are computed, for SGX only.
    #[codec(rename = "identity", omitempty)]
    pub identities: Vec<Identity>,
    /// Whether it must be switched on by configuration.
    #[codec(omitempty)]
    pub disabled: bool,
}

impl Component {
    /// Whether it is the on-chain component.
    pub fn is_ronl(&self) -> bool {
        self.kind == KIND_RONL && self.name.is_empty()
    }

    /// Its id, unless the kind is unknown or an on-chain component has a name.
    pub fn id(&self) -> Option<ComponentId> {
        match self.kind.as_str() {
            KIND_RONL if self.name.is_empty() => Some(ComponentId::Ronl),
            KIND_ROFL => Some(ComponentId::Rofl(self.name.clone())),
            _ => None,
        }
    }

    /// Text for errors, also of components that have no id.
    pub(super) fn label(&self) -> String {
        if self.name.is_empty() { self.kind.clone() } else { format!("{} ({})", self.kind, self.name) }
    }

    /// What it is made for.
    pub fn tee_kind(&self) -> TeeKind {
        match (&self.tdx, &self.sgx) {
            (Some(_), _) => TeeKind::TDX,
            (None, Some(_)) => TeeKind::SGX,
            (None, None) => TeeKind::NONE,
        }
    }

    /// Whether it may use the network.
    pub fn is_network_allowed(&self) -> bool {
        self.kind == KIND_ROFL
    }

    /// The file of its ELF executable, in whichever form it is given.
    pub fn elf_executable(&self) -> Option<&str> {
        match &self.elf {
            Some(elf) => Some(&elf.executable),
            None => (!self.executable.is_empty()).then_some(self.executable.as_str()),
        }
    }

    /// Names of the volumes that it must be given.
    pub fn required_volumes(&self) -> Vec<&str> {
        match &self.tdx {
            Some(tdx) if tdx.stage2_persist && !tdx.stage2_image.is_empty() => {
                vec![&tdx.stage2_image]
            }
            _ => Vec::new(),
        }
    }

    /// The files that it refers to: what for, and the name. An empty name is one that is missing in the manifest.
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut out = Vec::new();
        if let Some(elf) = &self.elf {
            out.push(("ELF executable", elf.executable.as_str()));
        } else if !self.executable.is_empty() {
            out.push(("ELF executable", &self.executable));
        }
        if let Some(sgx) = &self.sgx {
            out.push(("SGX executable", &sgx.executable));
            if !sgx.signature.is_empty() {
                out.push(("SGX signature", &sgx.signature));
            }
        }
        if let Some(tdx) = &self.tdx {
            out.push(("TDX virtual firmware", &tdx.firmware));
            let optional = [
                ("TDX kernel image", &tdx.kernel),
                ("TDX initrd image", &tdx.initrd),
                ("TDX VM stage 2 image", &tdx.stage2_image),
            ];
            for (what, file) in optional {
                if !file.is_empty() {
                    out.push((what, file));
                }
            }
        }
        out
    }

    /// Checks the component by itself.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self) -> Result<(), Invalid> {
        let within = |part: &str, e: Invalid| Invalid(format!("{part}: {e}"));
        require(self.sgx.is_none() || self.tdx.is_none(), "each component can only include metadata for a single TEE")?;
        if let Some(elf) = &self.elf {
            elf.validate().map_err(|e| within("elf", e))?;
        }
        if let Some(sgx) = &self.sgx {
            sgx.validate().map_err(|e| within("sgx", e))?;
        }
        if let Some(tdx) = &self.tdx {
            tdx.validate().map_err(|e| within("tdx", e))?;
        }
        match self.kind.as_str() {
            KIND_RONL => {
                require(self.name.is_empty(), "RONL component must have an empty name")?;
                require(!self.executable.is_empty() || self.elf.is_some(), "RONL component must define an executable")?;
                require(!self.disabled, "RONL component cannot be disabled")
            }
            KIND_ROFL => validate_name(&self.name),
            other => Err(Invalid(format!("unknown component kind: '{other}'"))),
        }
    }
}

fn validate_name(name: &str) -> Result<(), Invalid> {
    require(name.len() >= MIN_NAME, format!("ROFL component name must be at least {MIN_NAME} characters long"))?;
    require(name.len() <= MAX_NAME, format!("ROFL component name must be at most {MAX_NAME} characters long"))?;
    require(
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')),
        "ROFL component name is invalid (only letters, digits, '_' and '-' are allowed)",
    )
}

/// How to run a component without enclave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Elf {
    /// File of the executable.
    pub executable: String,
}

impl Elf {
    fn validate(&self) -> Result<(), Invalid> {
        require(!self.executable.is_empty(), "executable must be set")
    }
}

/// How to run a component in SGX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Sgx {
    /// File of the enclave, SGXS.
    pub executable: String,
    /// File of its signature, SIGSTRUCT; empty for an unsigned enclave, which only debug nodes run.
    pub signature: String,
}

impl Sgx {
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        require(!self.executable.is_empty(), "executable must be set")
    }
}

/// How to run a component in TDX.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Tdx {
    /// File of the virtual firmware.
    pub firmware: String,
    /// File of the kernel.
    #[codec(omitempty)]
    pub kernel: String,
    /// File of the initial RAM disk.
    #[codec(omitempty)]
    pub initrd: String,
    /// Further options of the kernel.
    #[codec(omitempty)]
    pub extra_kernel_options: Vec<String>,
    /// File of the second stage's image.
    #[codec(omitempty)]
    pub stage2_image: String,
    /// The image's format; empty is `raw`.
    #[codec(omitempty)]
    pub stage2_format: String,
    /// Whether changes to the image outlive the machine; then a volume of the image's name is needed.
    #[codec(omitempty)]
    pub stage2_persist: bool,
    /// What the machine gets.
    pub resources: TdxResources,
}

impl Tdx {
    fn validate(&self) -> Result<(), Invalid> {
        require(!self.firmware.is_empty(), "firmware must be set")?;
        require(!self.kernel.is_empty() || self.stage2_image.is_empty(), "kernel must be set if stage 2 image is set")?;
        require(!self.kernel.is_empty() || self.initrd.is_empty(), "kernel must be set if initrd image is set")?;
        self.resources.validate()
    }
}

/// What a virtual machine gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TdxResources {
    /// Memory in MiB.
    pub memory: u64,
    /// Number of virtual processors.
    pub cpus: u8,
    /// GPUs.
    #[codec(omitempty)]
    pub gpu: Option<Gpu>,
}

impl TdxResources {
    fn validate(&self) -> Result<(), Invalid> {
        require(self.memory >= MIN_TDX_MEMORY_MIB, format!("memory limit must be at least {MIN_TDX_MEMORY_MIB}M"))?;
        require(self.cpus >= 1, "vCPU count must be at least 1")?;
        require(self.gpu.as_ref().is_none_or(|gpu| gpu.count >= 1), "GPU count must be at least 1")
    }
}

/// GPUs of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Gpu {
    /// Model; empty for any.
    #[codec(omitempty)]
    pub model: String,
    /// How many.
    pub count: u8,
}

/// Which enclave a component is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Identity {
    /// The hypervisor for which this holds; empty for any.
    #[codec(omitempty)]
    pub hypervisor: String,
    /// The enclave.
    pub enclave: EnclaveIdentity,
}
