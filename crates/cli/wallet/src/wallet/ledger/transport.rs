//! Bytes to and from a device: USB through the kernel's `hidraw`, or a socket of an emulator.
//!
//! Over USB a message is sent in reports of 64 bytes: channel 0x0101, tag 0x05, number of the report, then (in the first)
//! the message's length, then its bytes. Over a socket a message has its length before it, and answers a status after it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{CliError, Result};

/// Where an emulator listens: host and port.
const EMULATOR: [&str; 2] = ["LEDGER_PROXY_ADDRESS", "LEDGER_PROXY_PORT"];
/// Where the kernel lists devices.
const SYSFS: &str = "/sys/class/hidraw";
/// The vendor.
const VENDOR: u32 = 0x2c97;
const REPORT: usize = 64;
const CHANNEL: u16 = 0x0101;
const TAG: u8 = 0x05;
/// Longest answer of a device.
const MAX_ANSWER: usize = 4096;
/// Reports of other programs that are passed over before giving up.
const MAX_FOREIGN: usize = 64;
/// How long connecting to an emulator may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a command, waits (for the person at the device, too) and gives the answer with its status.
pub(super) trait Transport: Send {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>>;
}

fn failed(error: &std::io::Error) -> CliError {
    CliError::new(format!("ledger: the device does not answer: {error}"))
}

/// The one device that is connected, or the emulator that the environment names.
pub(super) fn connect() -> Result<Box<dyn Transport>> {
    if let [Ok(host), Ok(port)] = EMULATOR.map(std::env::var) {
        return Socket::connect(&format!("{host}:{port}")).map(|socket| Box::new(socket) as Box<dyn Transport>);
    }
    match devices(Path::new(SYSFS)).as_slice() {
        [] => Err("ledger: no devices connected; plug one in, unlock it and open the Oasis application".into()),
        [one] => {
            let file = OpenOptions::new().read(true).write(true).open(one);
            let file = file.map_err(|error| {
                format!("ledger: failed to open {}: {error}; are the device's udev rules installed?", one.display())
            })?;
            Ok(Box::new(Usb(file)))
        }
        _ => Err("ledger: multiple devices not supported; leave one connected".into()),
    }
}

/// Devices of the vendor: their first interface, which takes commands.
fn devices(sysfs: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sysfs).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| std::fs::read_to_string(entry.path().join("device/uevent")).is_ok_and(|text| is_ours(&text)))
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// Whether the kernel's description is of a device's first interface: `HID_ID=0003:00002C97:…`, `HID_PHYS=…/input0`.
fn is_ours(uevent: &str) -> bool {
    let field = |name: &str| uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let vendor = field("HID_ID").and_then(|id| id.split(':').nth(1)).and_then(|id| u32::from_str_radix(id, 16).ok());
    vendor == Some(VENDOR) && field("HID_PHYS").is_none_or(|phys| phys.ends_with("/input0"))
}

/// A device on USB.
struct Usb<T = File>(T);

/// The reports that carry a message.
fn reports(message: &[u8]) -> Result<Vec<[u8; REPORT]>> {
    let length = u16::try_from(message.len()).map_err(|_| "ledger: a command is too long")?;
    let whole = [&length.to_be_bytes(), message].concat();
    let packed = whole.chunks(REPORT - 5).enumerate().map(|(number, part)| {
        let mut report = [0; REPORT];
        report[..2].copy_from_slice(&CHANNEL.to_be_bytes());
        report[2] = TAG;
        // A message has at most 64 KiB, hence fewer reports than that.
        report[3..5].copy_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
        report[5..5 + part.len()].copy_from_slice(part);
        report
    });
    Ok(packed.collect())
}

impl<T: Read + Write + Send> Transport for Usb<T> {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        for report in reports(command)? {
            // The kernel wants the number of the report before it; the device has but one kind, number 0.
            self.0.write_all(&[&[0], report.as_slice()].concat()).map_err(|error| failed(&error))?;
        }
        let (mut answer, mut length, mut next, mut foreign) = (Vec::new(), None, 0_u16, 0);
        while length.is_none_or(|length| answer.len() < length) {
            let mut report = [0; REPORT];
            self.0.read_exact(&mut report).map_err(|error| failed(&error))?;
            let [c0, c1, tag, n0, n1, rest @ ..] = &report;
            if (u16::from_be_bytes([*c0, *c1]), *tag) != (CHANNEL, TAG) {
                foreign += 1;
                if foreign > MAX_FOREIGN {
                    return Err("ledger: another program talks to the device; close it".into());
                }
                continue;
            }
            if u16::from_be_bytes([*n0, *n1]) != next {
                return Err("ledger: the device's answer is out of order".into());
            }
            next += 1;
            let mut rest: &[u8] = rest;
            if length.is_none() {
                let ([l0, l1], data) = rest.split_first_chunk().ok_or("ledger: an empty report")?;
                let announced = usize::from(u16::from_be_bytes([*l0, *l1]));
                if announced > MAX_ANSWER {
                    return Err(format!("ledger: an answer of {announced} bytes is too long").into());
                }
                length = Some(announced);
                rest = data;
            }
            answer.extend_from_slice(rest);
        }
        answer.truncate(length.unwrap_or(0));
        Ok(answer)
    }
}

/// An emulator.
struct Socket(TcpStream);

impl Socket {
    fn connect(address: &str) -> Result<Self> {
        use std::net::ToSocketAddrs as _;
        let wrong =
            |error: &std::io::Error| CliError::new(format!("ledger: no emulator answers at {address}: {error}"));
        let found = address.to_socket_addrs().map_err(|error| wrong(&error))?.next();
        let found = found.ok_or_else(|| CliError::new(format!("ledger: {address} has no address")))?;
        TcpStream::connect_timeout(&found, CONNECT_TIMEOUT).map(Self).map_err(|error| wrong(&error))
    }
}

impl Transport for Socket {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let length = u32::try_from(command.len()).map_err(|_| "ledger: a command is too long")?;
        self.0.write_all(&[&length.to_be_bytes(), command].concat()).map_err(|error| failed(&error))?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(|error| failed(&error))?;
        let length = u32::from_be_bytes(length);
        // The status is not counted.
        let whole = usize::try_from(length).ok().and_then(|length| length.checked_add(2));
        let whole = whole.filter(|whole| *whole <= MAX_ANSWER);
        let whole = whole.ok_or_else(|| CliError::new(format!("ledger: an answer of {length} bytes is too long")))?;
        let mut answer = vec![0; whole];
        self.0.read_exact(&mut answer).map_err(|error| failed(&error))?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, and what is to be read.
    struct Pipe(Vec<u8>, std::io::Cursor<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Read for Pipe {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            self.1.read(bytes)
        }
    }

    #[test]
    fn messages_travel_in_numbered_reports() {
        let answer: Vec<u8> = (0..=255).cycle().take(300).collect();
        let mut packed = vec![0x77; REPORT]; // of another program
        packed.extend(reports(&answer).expect("short").concat());
        let mut usb = Usb(Pipe(Vec::new(), std::io::Cursor::new(packed)));
        let command: Vec<u8> = (0..255).collect();
        assert_eq!(usb.exchange(&command).expect("an answer"), answer);
        let written = &usb.0.0;
        assert_eq!(written.len(), 5 * (REPORT + 1), "257 bytes in five reports");
        assert_eq!(&written[..8], [0, 1, 1, 5, 0, 0, 0, 255]);
        assert_eq!(&written[65..71], [0, 1, 1, 5, 0, 1]);
        // Out of order, too long, cut off.
        let reversed: Vec<u8> = reports(&answer).expect("short").into_iter().rev().flatten().collect();
        let long = [&[1, 1, 5, 0, 0, 0xff, 0xff][..], &[0; 57]].concat();
        for (bytes, reason) in [(reversed, "out of order"), (long, "too long"), (vec![1; 3], "does not answer")] {
            let error = Usb(Pipe(Vec::new(), std::io::Cursor::new(bytes))).exchange(&[1]).expect_err(reason);
            assert!(error.to_string().contains(reason), "{error}");
        }
        let foreign = Usb(Pipe(Vec::new(), std::io::Cursor::new(vec![9; REPORT * 100]))).exchange(&[1]);
        assert!(foreign.expect_err("foreign").to_string().contains("another program"));
    }

    #[test]
    fn devices_are_known_by_vendor_and_interface() {
        let text = |vendor: &str, input: u8| {
            format!("DRIVER=hid-generic\nHID_ID=0003:0000{vendor}:00004011\nHID_PHYS=usb-1/input{input}\n")
        };
        let sysfs = tempfile::tempdir().expect("a directory");
        for (name, vendor, input) in [("hidraw0", "046D", 0), ("hidraw1", "2C97", 1), ("hidraw2", "2C97", 0)] {
            let dir = sysfs.path().join(name).join("device");
            std::fs::create_dir_all(&dir).expect("made");
            std::fs::write(dir.join("uevent"), text(vendor, input)).expect("written");
        }
        assert_eq!(devices(sysfs.path()), [Path::new("/dev/hidraw2")]);
        assert!(devices(&sysfs.path().join("nothing")).is_empty());
    }
}
