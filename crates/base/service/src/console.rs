//! Standard output and error that may be closed, as by `| head`, or be a file on a full disk: no such program panics.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Exit code of a command whose output could not be written.
const UNWRITTEN: i32 = 1;

/// What to do about output that could not be written: the exit code with which the program ends.
fn verdict(written: io::Result<()>, errors: &mut dyn Write) -> Option<i32> {
    let error = written.err()?;
    // Nobody reads any more, and that is how they wanted it.
    if error.kind() == ErrorKind::BrokenPipe {
        return Some(0);
    }
    // If not even this can be told, the exit code still tells it.
    let _ = writeln!(errors, "Error: could not write to standard output: {error}");
    Some(UNWRITTEN)
}

/// Writes to standard output. If that fails, the process ends: without error if nobody reads any more, with exit code 1
/// otherwise. For commands, not for what goes on running.
pub fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.flush());
    if let Some(code) = verdict(written, &mut io::stderr()) {
        std::process::exit(code);
    }
}

/// Writes to standard error, or nothing if that fails: there is nowhere left to say so.
pub fn print_error(text: Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// As `print!`, but never panics: see `print` here.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::console::print(format_args!($($text)*)) };
}

/// As `println!`, but never panics: see `print` here.
#[macro_export]
macro_rules! outln {
    () => { $crate::console::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `eprint!`, but never panics: see [`print_error`].
#[macro_export]
macro_rules! err {
    ($($text:tt)*) => { $crate::console::print_error(format_args!($($text)*)) };
}

/// As `eprintln!`, but never panics: see [`print_error`].
#[macro_export]
macro_rules! errln {
    () => { $crate::console::print_error(format_args!("\n")) };
    ($($text:tt)*) => { $crate::console::print_error(format_args!("{}\n", format_args!($($text)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        let mut told = Vec::new();
        assert_eq!(verdict(Ok(()), &mut told), None);
        assert_eq!(verdict(Err(ErrorKind::BrokenPipe.into()), &mut told), Some(0));
        assert!(told.is_empty());
        assert_eq!(verdict(Err(ErrorKind::StorageFull.into()), &mut told), Some(UNWRITTEN));
        assert!(String::from_utf8(told).unwrap().starts_with("Error: could not write to standard output: "));
        // Where errors can't be told either.
        let mut none: &mut [u8] = &mut [];
        assert_eq!(verdict(Err(ErrorKind::StorageFull.into()), &mut none), Some(UNWRITTEN));
    }
}
