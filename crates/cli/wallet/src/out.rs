//! Standard output that may be closed early, as by `| head`: then the command ends quietly instead of failing.

use std::io::Write as _;

/// Writes to standard output; ends the process if nobody reads any more.
pub(crate) fn write(text: std::fmt::Arguments<'_>) {
    if let Err(error) = std::io::stdout().write_fmt(text) {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("Error: could not write to standard output: {error}");
        }
        std::process::exit(i32::from(!quiet));
    }
}

/// As `print!`.
macro_rules! out {
    ($($text:tt)*) => { $crate::out::write(format_args!($($text)*)) };
}

/// As `println!`.
macro_rules! outln {
    () => { $crate::out::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {out, outln};
