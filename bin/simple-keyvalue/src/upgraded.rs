//! The key-value ParaTime, version 0.1.0: what upgrades upgrade to.

fn main() -> std::process::ExitCode {
    simple_keyvalue::main_with_version(base_prims::Version::new(0, 1, 0))
}
