//! The `oasis-core-runtime-loader` command: runs a runtime's SGX enclave and connects it to its host.
//!
//! Layer L5. Reference counterpart: `runtime-loader`. The host starts it in the sandbox
//! (`rt_host::sgx::loader_arguments`); it is of no use by itself. An enclave cannot open sockets: it asks the loader to, and
//! the loader lets it reach its host, and others only with `--allow-network`.
//!
//! Tested: arguments, and which destinations are let through. What needs a processor with SGX is in `docs/hardware.md`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

/// Loads a runtime's SGX enclave and connects it to its host.
#[derive(Debug, Parser, PartialEq)]
#[command(name = "oasis-core-runtime-loader", version)]
struct Arguments {
    /// Socket of the host.
    #[arg(long)]
    host_socket: PathBuf,
    /// Kind of the runtime's image.
    #[arg(long = "type", value_enum, default_value = "sgxs")]
    kind: Kind,
    /// Signature of the image.
    #[arg(long)]
    signature: Option<PathBuf>,
    /// Lets the enclave connect to others than its host.
    #[arg(long)]
    allow_network: bool,
    /// The image.
    #[arg(value_name = "RUNTIME")]
    runtime: PathBuf,
}

/// Kinds of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// An SGXS stream.
    Sgxs,
}

/// What becomes of a connection that an enclave asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]
enum Destination {
    /// It is the host.
    Host,
    /// The system makes it.
    Network,
    /// It is refused.
    Refused,
}

#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]
impl Destination {
    /// Names by which enclaves call their host.
    const HOST_NAMES: [&str; 2] = ["worker-host", "worker-host:0"];

    fn of(address: &str, allow_network: bool) -> Self {
        if Self::HOST_NAMES.contains(&address) {
            Self::Host
        } else if allow_network {
            Self::Network
        } else {
            Self::Refused
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("runtime execution failed: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    enclave::run(arguments)
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn run(_: &Arguments) -> anyhow::Result<()> {
    anyhow::bail!("SGX enclaves run on Linux on x86-64 only")
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod enclave {
    //! Loading and running.

    use std::{future::Future, io, path::PathBuf, pin::Pin};

    use anyhow::{Context as _, anyhow, ensure};
    use enclave_runner::{
        EnclaveBuilder,
        usercalls::{AsyncStream, UsercallExtension},
    };
    use sgxs_loaders::isgx::Device;
    use tokio::net::UnixStream;

    use super::{Arguments, Destination};

    /// Makes the connections that an enclave asks for.
    #[derive(Debug)]
    struct Connections {
        host_socket: PathBuf,
        allow_network: bool,
    }

    /// What [`UsercallExtension`] wants to be given: `None` leaves the connection to the system.
    type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Option<Box<dyn AsyncStream>>>> + 'a>>;

    impl UsercallExtension for Connections {
        fn connect_stream<'a>(
            &'a self,
            address: &'a str,
            _local: Option<&'a mut String>,
            _peer: Option<&'a mut String>,
        ) -> Connecting<'a> {
            Box::pin(async move {
                match Destination::of(address, self.allow_network) {
                    Destination::Host => {
                        let stream: Box<dyn AsyncStream> = Box::new(UnixStream::connect(&self.host_socket).await?);
                        Ok(Some(stream))
                    }
                    Destination::Network => Ok(None),
                    Destination::Refused => Err(io::Error::other("invalid destination")),
                }
            })
        }
    }

    /// Runs the enclave until it ends.
    pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
        ensure!(arguments.runtime.is_file(), "{} is not there", arguments.runtime.display());
        let signature = arguments.signature.as_ref().context("--signature is missing")?;
        // Processors with flexible launch control, which DCAP needs too, start enclaves without a launch token.
        let mut device = Device::new().context("cannot open the SGX device")?.build();
        let mut builder = EnclaveBuilder::new(&arguments.runtime);
        builder.signature(signature).with_context(|| format!("cannot read {}", signature.display()))?;
        builder.usercall_extension(Connections {
            host_socket: arguments.host_socket.clone(),
            allow_network: arguments.allow_network,
        });
        let enclave = builder.build(&mut device).map_err(|e| anyhow!("cannot load the enclave: {e}"))?;
        enclave.run().map_err(|e| anyhow!("{e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_arguments_that_hosts_give() {
        let arguments = Arguments::try_parse_from([
            "oasis-core-runtime-loader",
            "--host-socket",
            "/host.sock",
            "--type",
            "sgxs",
            "--signature",
            "/runtime.sig",
            "/runtime",
            "--allow-network",
        ]);
        let expected = Arguments {
            host_socket: "/host.sock".into(),
            kind: Kind::Sgxs,
            signature: Some("/runtime.sig".into()),
            allow_network: true,
            runtime: "/runtime".into(),
        };
        assert_eq!(arguments.ok(), Some(expected));
        assert!(Arguments::try_parse_from(["l", "/runtime"]).is_err(), "no socket");
        assert!(Arguments::try_parse_from(["l", "--host-socket", "s", "--type", "elf", "/runtime"]).is_err());
    }

    #[test]
    fn enclaves_reach_their_host_and_nobody_else() {
        assert_eq!(Destination::of("worker-host:0", false), Destination::Host);
        assert_eq!(Destination::of("worker-host", true), Destination::Host);
        for address in ["example.com:443", "127.0.0.1:80", "worker-host:1", "worker-host.example.com", ""] {
            assert_eq!(Destination::of(address, false), Destination::Refused);
            assert_eq!(Destination::of(address, true), Destination::Network);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let arguments =
            Arguments::try_parse_from(["l", "--host-socket", "s", "--signature", "x", "/nowhere/runtime"]).ok();
        let error = arguments.and_then(|arguments| run(&arguments).err()).map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("/nowhere/runtime") || error.contains("x86-64"), "{error}");
    }
}
