//! What is not seen with a real plugin, which the node's tests start.

use super::*;

#[test]
fn the_first_line_is_checked() {
    let (path, certificate) = parse_line("1|1|unix|/tmp/x|netrpc|AQID").unwrap();
    assert_eq!((path, certificate), (PathBuf::from("/tmp/x"), vec![1, 2, 3]));
    for (line, expected) in [
        ("", "no plugin"),
        ("hello", "no plugin"),
        ("1|1|unix|/tmp/x|netrpc", "no plugin"),
        ("2|1|unix|/tmp/x|netrpc|AQID", "version 2.1"),
        ("1|2|unix|/tmp/x|netrpc|AQID", "version 1.2"),
        ("1|1|tcp|127.0.0.1:1|netrpc|AQID", "netrpc over tcp"),
        ("1|1|unix|/tmp/x|grpc|AQID", "grpc over unix"),
        ("1|1|unix|/tmp/x|netrpc|***", "certificate"),
    ] {
        assert!(parse_line(line).unwrap_err().contains(expected), "{line}");
    }
}

#[test]
fn programs_that_are_no_plugins() {
    let start = |path: &str, name: &str, roles: &[KeyRole]| {
        let config = PluginConfig { name: name.to_owned(), path: path.into(), config: String::new() };
        Plugin::start(&config, roles).unwrap_err().to_string()
    };
    assert!(start("/bin/echo", "x", &[KeyRole::Node]).contains("no plugin"));
    assert!(start("/nonexistent", "x", &[KeyRole::Node]).contains("signer plugin /nonexistent"));
    assert!(start("/bin/echo", "", &[KeyRole::Node]).contains("signer.plugin.name"));
    assert!(start("/bin/echo", "x", &[KeyRole::Vrf]).contains("vrf:file"));
}
