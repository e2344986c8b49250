//! Configuration files as operators write them, right and wrong.

use node_config::schema::ComponentId;
use node_config::{Config, ConfigError, Mode};

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::from_text("config.yml", text, &|name| (name == "DIR").then(|| "/node/data".to_owned()))
}

/// Checks that exactly these problems are reported.
fn refused(text: &str, expected: &[&str]) {
    let error = read(text).expect_err(text);
    let ConfigError::Problems { problems, .. } = &error else { panic!("{error}") };
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{text}");
    assert!(error.to_string().starts_with("failed to load config file 'config.yml':\n  "));
}

#[test]
fn nothing_gives_the_defaults() {
    for text in ["", "# nothing\n", "---\n", "mode:\ncommon:\n  data_dir:\n"] {
        assert_eq!(read(text).unwrap(), Config::default(), "{text:?}");
    }
    let config = Config::default();
    assert_eq!(config.mode, Mode::Client);
    assert_eq!(config.consensus.listen_address, "tcp://0.0.0.0:26656");
    assert_eq!(config.consensus.prune.num_kept, 250_000);
    assert_eq!(config.consensus.light_client.trust.period.to_string(), "720h0m0s");
    assert_eq!(config.storage.max_cache_size.bytes(), 256 << 20);
    assert_eq!(config.runtime.tdx.cid_start, 2_769_616_896);
}

#[test]
fn reads_a_whole_file() {
    let text = "
mode: compute
common:
  data_dir: ${DIR}
  log:
    format: JSON
    level: {default: debug, cometbft: warn}
consensus:
  listen_address: tcp://0.0.0.0:26656
  external_address: tcp://1.2.3.4:26656
  upgrade_stop_delay: 1m30s
  p2p:
    persistent_peers:
      - H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=@35.199.49.168:26656
  light_client: {trust: {period: 240h, height: 10, hash: \"0000000000000000000000000000000000000000000000000000000000000001\"}}
  state_sync: {enabled: yes}
runtime:
  paths: [a.orc, b.orc]
  runtimes:
    - id: 000000000000000000000000000000000000000000000000e2eaa99fc008f87f
      components:
        - rofl.app
        - id: ronl
          tee: sgx
          permissions: [log_view]
          networking:
            incoming:
              - {ip: 127.0.0.1, src_port: 80}
              - {ip: 127.0.0.2, src_port: 80}
          config: {a: 1, b: [x, 2.5, null, true]}
    - id: 8000000000000000000000000000000000000000000000000000000000000000
  tx_pool: {republishinterval: 5s}
  max_bundle_size: 1gb
registration:
  entity_id: H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=
";
    let config = read(text).unwrap();
    assert_eq!(config.mode, Mode::Compute);
    assert_eq!(config.common.data_dir, "/node/data");
    assert_eq!(config.common.log.level["mkvs/db"], "info", "levels are added to the default ones");
    assert_eq!(config.common.log.level["default"], "debug");
    assert_eq!(config.consensus.upgrade_stop_delay.0.as_secs(), 90);
    assert_eq!(config.runtime.runtimes[0].components[0].0.id, ComponentId::Rofl("app".to_owned()));
    assert_eq!(config.runtime.max_bundle_size.bytes(), 1 << 30);
    // All digits and no quotes: read as text, not as a number.
    assert_eq!(
        config.runtime.runtimes[1].id.to_string(),
        "8000000000000000000000000000000000000000000000000000000000000000"
    );
    let printed = config.to_yaml();
    assert_eq!(read(&printed).unwrap(), config, "{printed}");
    assert_eq!(read(&Config::default().to_yaml()).unwrap(), Config::default());
}

#[test]
fn reports_everything_at_once() {
    refused(
        "mode: vallidator
common:
  log:
    level: debug
  datadir: x
consensus:
  min_gas_price: -1
  min_gas_price: 2
  p2p: [a]
  upgrade_stop_delay: 5
runtime:
  runtimes:
    - id: 12
      componentz: []
  provisioner: dockered
p2p:
  port: 70000
  seeds: [nobody@1.2.3.4:1]
nonsense: 1
",
        &[
            "line 1: mode: found \"vallidator\", expected a node mode: validator, compute, observer, keymanager, \
             client, seed or archive",
            "line 4: common.log.level: found \"debug\", expected a map of keys and values",
            "line 5: common.datadir: unknown key; did you mean `data_dir`?",
            "line 7: consensus.min_gas_price: found \"-1\", expected a whole number from 0 to 18446744073709551615",
            "line 8: consensus.min_gas_price: given twice, first in line 7",
            "line 9: consensus.p2p: found a list, expected a map of keys and values",
            "line 10: consensus.upgrade_stop_delay: found \"5\", expected a duration such as 90s, 2m0s or 720h",
            "line 13: runtime.runtimes[0].id: found \"12\", expected a runtime id of 64 hex digits",
            "line 14: runtime.runtimes[0].componentz: unknown key; did you mean `components`?",
            "line 17: p2p.port: found \"70000\", expected a whole number from 0 to 65535",
            "line 19: nonsense: unknown key",
            "runtime.provisioner: found \"dockered\", expected one of sandboxed, unconfined, mock",
            "p2p.seeds[0]: found \"nobody@1.2.3.4:1\", expected PUBLIC_KEY@IP:PORT with the key in base64",
        ],
    );
}

#[test]
fn checks_what_keys_mean_together() {
    refused(
        "consensus: {local_storage: false, validator: true}",
        &["consensus.local_storage: local storage not available in specified mode: false is for client and observer \
           nodes that do not validate"],
    );
    refused(
        "consensus: {halt_epoch: 1, halt_height: 1}",
        &["consensus: only one of {halt_epoch, halt_height} can be set"],
    );
    refused(
        "consensus: {state_sync: {enabled: true}}",
        &["consensus.state_sync.enabled: state sync requires light client to be configured: set \
           consensus.light_client.trust.hash and .height"],
    );
    refused(
        "registration: {entity: a, entity_id: b}",
        &[
            "registration: only one of `entity` and `entity_id` must be set",
            "registration.entity_id: malformed entity ID, expected a public key in base64",
        ],
    );
    let ports = |second: &str| {
        format!(
            "runtime: {{runtimes: [{{id: 8000000000000000000000000000000000000000000000000000000000000000, components: \
             [{{id: ronl, networking: {{incoming: [{{ip: 127.0.0.1, src_port: 1}}, {second}]}}}}]}}]}}"
        )
    };
    read(&ports("{ip: 127.0.0.1, protocol: udp, src_port: 1}")).unwrap();
    let clash = "runtime.runtimes[0].components[0].networking.incoming[1]: overlapping incoming IP/protocol/port";
    refused(&ports("{src_port: 1}"), &[clash]);
    refused(&ports("{ip: 127.0.0.1, src_port: 1}"), &[clash]);
}

#[test]
fn refuses_what_is_not_yaml() {
    for text in ["a: [", "a: b: c", "\tx", "? [a]\n: b", "a: *x"] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains("line "), "{error}");
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(read(bomb).expect_err("a bomb").to_string().contains("more than 100000 values"));
    let deep = "[".repeat(10_000);
    assert!(read(&deep).is_err());
}

#[test]
fn reads_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    let error = Config::load(&path).expect_err("no file").to_string();
    assert!(error.starts_with("unable to read config file"), "{error}");
    std::fs::write(&path, "mode: seed\n").unwrap();
    assert_eq!(Config::load(&path).unwrap().mode, Mode::Seed);
    std::fs::write(&path, "mode: ${X").unwrap();
    assert!(Config::load(&path).expect_err("no brace").to_string().contains("closing brace expected"));
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(Config::load(&path).expect_err("too long").to_string().contains("at most 1048576"));
}

#[test]
fn names_what_a_guide_left_to_fill() {
    refused(
        "consensus:\n  external_address: tcp://{{ external_address }}:26656\nruntime:\n  config: {x: {a: \"{{ b }}\"}}\n",
        &["line 2: consensus.external_address: the placeholder {{ external_address }} is left: put your own value \
           there"],
    );
    let error = read("p2p:\n  registration:\n    addresses:\n      - {{ ip }}:9200\n").expect_err("a map").to_string();
    assert!(error.contains("line 4") && error.contains("placeholder"), "{error}");
}

#[test]
fn knows_every_key() {
    let keys = Config::keys();
    assert_eq!(keys.first().map(String::as_str), Some("mode"));
    for key in ["common.log.level", "consensus.light_client.trust.hash", "runtime.runtimes", "sentry.control.port"] {
        assert!(keys.iter().any(|known| known == key), "{key}");
    }
    assert!(keys.len() > 100 && !keys.iter().any(|key| key == "common"));
}

#[test]
fn trees_print_and_read_back() {
    let text = "a: [1, \"1\", x y, {b: c, d: []}, [e, f]]\ng: {}\n\"h: i\": 'it''s \"#\"'\nj: |\n  two\n  lines\n";
    let shape = |text: &str| {
        fn plain(node: &node_config::yaml::Node) -> String {
            use node_config::yaml::Kind;
            match &node.kind {
                Kind::Scalar { text, plain } => format!("{plain}{text:?}"),
                Kind::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(",")),
                Kind::Map(entries) => {
                    format!("{{{}}}", entries.iter().map(|(k, _, v)| format!("{k}={}", plain(v))).collect::<String>())
                }
            }
        }
        plain(&node_config::yaml::parse(text).unwrap().unwrap())
    };
    let printed = node_config::yaml::parse(text).unwrap().unwrap().to_yaml();
    assert_eq!(shape(&printed), shape(text), "{printed}");
}
