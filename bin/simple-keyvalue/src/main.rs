//! The key-value ParaTime, version 0.0.0.

fn main() -> std::process::ExitCode {
    simple_keyvalue::main_with_version(base_prims::Version::new(0, 0, 0))
}
