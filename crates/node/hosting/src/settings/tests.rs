//! Settings that are read, and those that are refused.

use super::*;
use crate::testing::{config, id};

fn sample() -> std::sync::Arc<Config> {
    let text = format!(
        r#"  config:
    {three}:
      old: 1
  runtimes:
    - id: {one}
      config:
        estimate_gas_by_simulating_contracts: true
        limit: 1.5
        large: 18446744073709551615
        negative: -3
        nested:
          bb: [1, two, null]
          a: x
      components:
        - id: rofl.app
          tee: tdx
          permissions: [bundle_add, log_view]
          networking:
            incoming:
              - ip: 127.0.0.1
                protocol: udp
                src_port: 1000
                dst_port: 2000
          config:
            mine: yes
        - id: rofl.off
          disabled: true
    - id: {two}
      components:
        - id: ronl
          tee: none
          config:
            only: ronl
"#,
        one = id(1),
        two = id(2),
        three = id(3),
    );
    config("client", std::path::Path::new("/tmp"), &text)
}

fn rofl(name: &str) -> ComponentId {
    ComponentId::Rofl(name.into())
}

#[test]
fn local_configuration_is_that_of_the_component_or_for_the_on_chain_one_of_the_runtime() {
    let config = &sample().runtime;
    let of = |n: u8, component: &ComponentId| local_config(config, &id(n), component);
    let ronl = of(1, &ComponentId::Ronl);
    assert_eq!(ronl["estimate_gas_by_simulating_contracts"].0, [0xf5]);
    assert_eq!(ronl["limit"].0, [0xf9, 0x3e, 0x00]);
    assert_eq!(ronl["large"].0, [0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(ronl["negative"].0, [0x22]);
    // Keys in canonical order: the shorter first.
    assert_eq!(ronl["nested"].0, b"\xa2\x61a\x61x\x62bb\x83\x01\x63two\xf6");
    assert_eq!(of(1, &rofl("app"))["mine"].0, b"\x63yes");
    assert!(of(1, &rofl("unknown")).is_empty());
    // An entry of the component replaces what the runtime's says.
    assert_eq!(of(2, &ComponentId::Ronl)["only"].0, b"\x64ronl");
    assert_eq!(of(3, &ComponentId::Ronl)["old"].0, [1]);
    assert!(of(3, &rofl("app")).is_empty());
}

#[test]
fn numbers_take_the_shortest_form_that_keeps_them() {
    let cases: [(f64, &[u8]); 11] = [
        (0.0, &[0xf9, 0, 0]),
        (-0.0, &[0xf9, 0x80, 0]),
        (1.0, &[0xf9, 0x3c, 0]),
        (65504.0, &[0xf9, 0x7b, 0xff]),
        (65536.0, &[0xfa, 0x47, 0x80, 0, 0]),
        (100_000.0, &[0xfa, 0x47, 0xc3, 0x50, 0]),
        (5.960_464_477_539_063e-8, &[0xf9, 0, 1]),
        (0.000_061_035_156_25, &[0xf9, 4, 0]),
        (-4.0, &[0xf9, 0xc4, 0]),
        (1.1, &[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]),
        (f64::INFINITY, &[0xf9, 0x7c, 0]),
    ];
    for (value, expected) in cases {
        assert_eq!(float(value), expected, "{value}");
    }
    assert_eq!(float(f64::NAN), [0xf9, 0x7e, 0]);
    assert_eq!(float(3.4e38), [0xfb, 0x47, 0xef, 0xf9, 0x33, 0xc7, 0x8c, 0xdf, 0xad].to_vec());
}

#[test]
fn components_have_their_settings() {
    let config = &sample().runtime;
    let section = component(config, &id(1), &rofl("app")).expect("an entry");
    assert_eq!(component_settings(section), ComponentSettings { tee: Some(TeeKind::TDX), disabled: false });
    let port = PortForward { ip: "127.0.0.1".into(), protocol: "udp".into(), src_port: 1000, dst_port: 2000 };
    assert_eq!(incoming(Some(section)), [port]);
    let off = component(config, &id(1), &rofl("off")).expect("an entry");
    assert_eq!(component_settings(off), ComponentSettings { tee: None, disabled: true });
    assert!(component(config, &id(2), &rofl("app")).is_none());
    assert!(component(config, &id(1), &ComponentId::Ronl).is_none());

    let may = |n: u8, name: &str, what| permitted(config, &id(n), &rofl(name), what);
    assert!(may(1, "app", Permission::BundleAdd) && may(1, "app", Permission::LogView));
    assert!(!may(1, "app", Permission::BundleRemove) && !may(1, "app", Permission::VolumeAdd));
    assert!(!may(1, "off", Permission::BundleAdd) && !may(2, "app", Permission::BundleAdd));
}

#[test]
fn modes_and_runtimes_must_fit() {
    for (mode, any, fits) in [
        (Mode::Validator, true, false),
        (Mode::Seed, true, false),
        (Mode::Validator, false, true),
        (Mode::Compute, false, false),
        (Mode::KeyManager, false, false),
        (Mode::Observer, false, false),
        (Mode::Compute, true, true),
        (Mode::Client, false, true),
        (Mode::Client, true, true),
    ] {
        assert_eq!(check_mode(mode, any, false).is_ok(), fits, "{mode:?} {any}");
        assert!(check_mode(mode, any, true).is_ok());
    }
}
