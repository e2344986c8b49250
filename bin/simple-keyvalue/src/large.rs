//! The key-value ParaTime, version 0.0.0, with large batches: for measuring what nodes can do.

fn main() -> std::process::ExitCode {
    simple_keyvalue::main_with(base_prims::Version::new(0, 0, 0), simple_keyvalue::LARGE_BATCH_SIZE)
}
