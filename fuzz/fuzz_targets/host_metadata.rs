//! Answers of bundle registries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rt_host::discovery::bundle_address;

fuzz_target!(|data: &[u8]| {
    if let Ok(address) = bundle_address(data) {
        assert!(address.starts_with("http://") || address.starts_with("https://"));
        assert!(!address.contains(char::is_whitespace));
    }
});
