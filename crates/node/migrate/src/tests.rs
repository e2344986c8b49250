//! Files as operators have them.

use node_config::{Config, Mode};

use super::*;
use crate::rules::{OLD, Rule, SINCE_23, Special};

/// A ParaTime node as the guides of 2021 set it up, variables filled.
const GUIDE_2021: &str = r#"
datadir: /node/data

log:
  level:
    default: info
    tendermint: info
    tendermint/context: error
  format: JSON

genesis:
  file: /node/etc/genesis.json

consensus:
  tendermint:
    core:
      listen_address: tcp://0.0.0.0:26656
      # Left out behind sentries.
      external_address: tcp://198.51.100.7:26656
    p2p:
      seed:
        - "E27F6B7A350B4CC2B48A6CBE94B0A02B0DCB0BF3@35.199.49.168:26656"

runtime:
  supported:
    - "8000000000000000000000000000000000000000000000000000000000000000"
  paths:
    "8000000000000000000000000000000000000000000000000000000000000000": /node/runtimes/foo-paratime.sgxs
  sgx:
    loader: /node/bin/oasis-core-runtime-loader
    signatures:
      "8000000000000000000000000000000000000000000000000000000000000000": /node/runtimes/foo-paratime.sig

worker:
  registration:
    entity: /node/entity/entity.json
  storage:
    enabled: true
  compute:
    enabled: true
  client:
    port: 30001
    addresses:
      - "198.51.100.7:30001"
  p2p:
    enabled: true
    port: 30002
    addresses:
      - "198.51.100.7:30002"

ias:
  proxy:
    address:
      - "qwrYFcIbZLmnRUVcVpNXHcQdNXJsSpfVJhZnxJQKzfI=@ias.example.com:8650"
"#;

/// A key manager as the pages of 2022 set it up.
const PAGE_2022: &str = r#"
datadir: /node/data
log:
  level:
    default: info
    tendermint: info
    tendermint/context: error
  format: JSON
genesis:
  file: /node/etc/genesis.json
consensus:
  tendermint:
    core:
      listen_address: tcp://0.0.0.0:26656
      external_address: tcp://198.51.100.7:26656
    p2p:
      seed:
        - "53572F689E5BACDD3C6527E6594EC49C8F3093F6@34.86.165.6:26656"
    abci.prune.strategy: keep_n
runtime:
  mode: keymanager
  paths:
    - /node/runtimes/keymanager.orc
  sgx:
    loader: /node/bin/oasis-core-runtime-loader
worker:
  registration:
    entity: /node/etc/entity.json
  keymanager:
    runtime:
      id: "8000000000000000000000000000000000000000000000000000000000000001"
  p2p:
    port: 20104
    addresses:
      - "198.51.100.7:20104"
"#;

/// The guide of today, hot loading.
const GUIDE_TODAY: &str = r"
mode: compute
common:
    data_dir: /node/data
    log:
        format: JSON
        level:
            cometbft: info
            cometbft/context: error
            default: info
consensus:
    external_address: tcp://198.51.100.7:26656
    listen_address: tcp://0.0.0.0:26656
genesis:
    file: /node/etc/genesis.json
p2p:
    port: 9200
    registration:
        addresses:
            - 198.51.100.7:9200
    seeds:
        # More may be added.
        - H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=@35.199.49.168:26656
        - H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=@35.199.49.168:9200
registration:
    entity_id: H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=
runtime:
    runtimes:
        - id: 000000000000000000000000000000000000000000000000f80306c9858e7279
    sgx_loader: /node/bin/oasis-core-runtime-loader
";

fn loaded(text: &str) -> Loaded {
    load("config.yml", text, &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    load("config.yml", text, &|_| None).expect_err(text).to_string()
}

fn findings(text: &str) -> Vec<String> {
    migrate(text).unwrap().findings.iter().map(ToString::to_string).collect()
}

/// What is in both files must be the same configuration.
fn same(old: &str, new: &str) {
    let new = Config::from_text("new", new, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded(old).config, new, "{old}");
    let outcome = migrate(old).unwrap();
    let written = Config::from_text("written", &outcome.to_yaml(), &|_| None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(written, new, "{}", outcome.to_yaml());
}

#[test]
fn a_guide_of_2021_becomes_a_compute_node() {
    same(
        GUIDE_2021,
        r#"
mode: compute
common:
  data_dir: /node/data
  log: {format: JSON, level: {default: info, cometbft: info, cometbft/context: error}}
genesis: {file: /node/etc/genesis.json}
consensus:
  listen_address: tcp://0.0.0.0:26656
  external_address: tcp://198.51.100.7:26656
runtime:
  runtimes: [{id: "8000000000000000000000000000000000000000000000000000000000000000"}]
  binaries:
    - id: "8000000000000000000000000000000000000000000000000000000000000000"
      path: /node/runtimes/foo-paratime.sgxs
      signature: /node/runtimes/foo-paratime.sig
  sgx: {loader: /node/bin/oasis-core-runtime-loader}
p2p:
  port: 30002
  registration: {addresses: ["198.51.100.7:30002"]}
  seeds:
    - H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=@35.199.49.168:26656
    - H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=@35.199.49.168:9200
registration: {entity: /node/entity/entity.json}
ias: {proxy_addresses: ["qwrYFcIbZLmnRUVcVpNXHcQdNXJsSpfVJhZnxJQKzfI=@ias.example.com:8650"]}
"#,
    );
    let loaded = loaded(GUIDE_2021);
    assert_eq!((loaded.generation, loaded.config.mode), (Generation::Workers, Mode::Compute));
    let expected = [
        "line 2: datadir is now common.data_dir",
        "line 5: log.level is now common.log.level",
        "line 9: log.format is now common.log.format",
        "line 17: consensus.tendermint.core.listen_address is now consensus.listen_address",
        "line 19: consensus.tendermint.core.external_address is now consensus.external_address",
        "line 21: consensus.tendermint.p2p.seed is now p2p.seeds",
        "line 25: runtime.supported is now runtime.runtimes[].id",
        "line 27: runtime.paths is now runtime.binaries[].path",
        "line 31: runtime.sgx.signatures is now runtime.binaries[].signature",
        "line 36: worker.registration.entity is now registration.entity",
        "line 38: worker.storage.enabled has no effect any more: every node of a runtime keeps its state",
        "line 40: worker.compute.enabled is now mode: compute",
        "line 42: worker.client.port has no effect any more: nodes of the runtime layer are reached through p2p",
        "line 43: worker.client.addresses has no effect any more: nodes of the runtime layer are reached through p2p",
        "line 46: worker.p2p.enabled has no effect any more: it is always on where it is needed",
        "line 47: worker.p2p.port is now p2p.port",
        "line 48: worker.p2p.addresses is now p2p.registration.addresses",
        "line 53: ias.proxy.address is now ias.proxy_addresses",
    ];
    assert_eq!(findings(GUIDE_2021), expected);
}

#[test]
fn a_guide_of_2021_without_enclaves() {
    let without = |text: &str, from: &str, to: &str| {
        let (before, rest) = text.split_once(from).unwrap();
        format!("{before}{}", rest.split_once(to).map_or("", |(_, after)| after))
    };
    let plain = without(&without(GUIDE_2021, "  sgx:\n", "foo-paratime.sig\n"), "\nias:", "\0");
    let two = plain.replace(
        "  supported:\n",
        "  supported:\n    - 4000000000000000000000000000000000000000000000000000000000000000\n",
    );
    let config = loaded(&two).config;
    assert_eq!(config.runtime.runtimes.len(), 2);
    assert_eq!(config.runtime.binaries.len(), 1);
    assert_eq!(config.runtime.binaries[0].signature, "");
    assert_eq!(config.runtime.sgx.loader, "");
}

#[test]
fn a_page_of_2022_becomes_a_key_manager() {
    same(
        PAGE_2022,
        r#"
mode: keymanager
common:
  data_dir: /node/data
  log: {format: JSON, level: {default: info, cometbft: info, cometbft/context: error}}
genesis: {file: /node/etc/genesis.json}
consensus:
  listen_address: tcp://0.0.0.0:26656
  external_address: tcp://198.51.100.7:26656
  prune: {strategy: keep_n, num_kept: 3600}
runtime:
  paths: [/node/runtimes/keymanager.orc]
  sgx: {loader: /node/bin/oasis-core-runtime-loader}
p2p:
  port: 20104
  registration: {addresses: ["198.51.100.7:20104"]}
  seeds:
    - HcDFrTp/MqRHtju5bCx6TIhIMd6X/0ZQ3lUG73q5898=@34.86.165.6:26656
    - HcDFrTp/MqRHtju5bCx6TIhIMd6X/0ZQ3lUG73q5898=@34.86.165.6:9200
keymanager: {runtime_id: "8000000000000000000000000000000000000000000000000000000000000001"}
registration: {entity: /node/etc/entity.json}
"#,
    );
    assert_eq!(loaded(PAGE_2022).generation, Generation::RuntimeMode);
}

#[test]
fn todays_guide_comes_out_as_it_went_in() {
    let loaded = loaded(GUIDE_TODAY);
    assert_eq!(loaded.generation, Generation::Current);
    assert!(loaded.findings.is_empty());
    assert_eq!(loaded.config, Config::from_text("x", GUIDE_TODAY, &|_| None).unwrap());
    let written = migrate(GUIDE_TODAY).unwrap().to_yaml();
    assert_eq!(Config::from_text("x", &written, &|_| None).unwrap(), loaded.config, "{written}");
    assert!(written.starts_with("mode: compute\ncommon:\n  data_dir: /node/data\n"), "{written}");
    assert_eq!(load("x", "", &|_| None).unwrap().config, Config::default());
    let manual = "mode: compute\nregistration: {entity_id: H6u9MtuoWRKn5DKSgarj/dzr2Z9BsjuRHgRAoXITOcU=}\n\
                  runtime: {paths: [/node/runtimes/foo-paratime.orc]}\n";
    assert!(load("x", manual, &|_| None).unwrap().findings.is_empty());
}

#[test]
fn validators_of_old() {
    let base = "datadir: /d\nconsensus:\n  validator: true\n  tendermint.core.external_address: tcp://1.2.3.4:26656\n\
                worker.registration.entity: /e.json\n";
    same(
        base,
        "mode: validator\ncommon: {data_dir: /d}\nconsensus: {external_address: \"tcp://1.2.3.4:26656\"}\n\
         p2p: {port: 9200, registration: {addresses: [\"1.2.3.4:9200\"]}}\nregistration: {entity: /e.json}\n",
    );
    let beside = format!("{base}runtime:\n  mode: compute\n  paths: [/x.orc]\n");
    same(
        &beside,
        "mode: compute\ncommon: {data_dir: /d}\nconsensus: {validator: true, external_address: \"tcp://1.2.3.4:26656\"}\n\
         registration: {entity: /e.json}\nruntime: {paths: [/x.orc]}\n",
    );
    // Dotted keys and any case were the same to the old parser.
    same("DataDir: /d\nworker: {P2P.port: 7}\n", "common: {data_dir: /d}\np2p: {port: 7}\n");
}

#[test]
fn single_keys_of_old() {
    for (old, new) in [
        ("log.level: debug", "common: {log: {level: {default: debug}}}"),
        ("log.level.tendermint/state: debug", "common: {log: {level: {cometbft/state: debug}}}"),
        (
            "debug: {rlimit: 7, allow_root: true, grpc.internal.socket_path: /s}",
            "common: {internal_socket_path: /s, debug: {rlimit: 7, allow_root: true}}",
        ),
        ("pprof.bind: 127.0.0.1:1", "pprof: {bind_address: \"127.0.0.1:1\"}"),
        (
            "metrics: {mode: pull, interval: 5000000000, address: \"0.0.0.0:3000\"}",
            "metrics: {mode: pull, interval: 5s, address: \"0.0.0.0:3000\"}",
        ),
        ("consensus.tendermint.mode: seed", "mode: seed"),
        ("consensus.tendermint.mode: archive", "mode: archive"),
        ("consensus.tendermint.mode: full", ""),
        (
            "consensus.tendermint.state_sync: {enabled: true, trust_height: 5, trust_hash: \
          0000000000000000000000000000000000000000000000000000000000000001, consensus_node: [\"a@b:1\"]}",
            "consensus: {state_sync: {enabled: true}, light_client: {trust: {period: 24h, height: 5, hash: \
          \"0000000000000000000000000000000000000000000000000000000000000001\"}}}",
        ),
        ("consensus.tendermint.min_gas_price: 3", "consensus: {min_gas_price: 3}"),
        (
            "consensus.tendermint.submission: {gas_price: 1, max_fee: 2}",
            "consensus: {submission: {gas_price: 1, max_fee: 2}}",
        ),
        ("consensus.tendermint.halt_epoch: 3", "consensus: {halt_epoch: 3}"),
        (
            "consensus.tendermint.p2p: {max_num_inbound_peers: 1, disable_peer_exchange: true}",
            "consensus: {p2p: {max_num_inbound_peers: 1, disable_peer_exchange: true}}",
        ),
        (
            "consensus.tendermint.supplementarysanity: {enabled: true, interval: 2}",
            "consensus: {supplementary_sanity: {enabled: true, interval: 2}}",
        ),
        ("consensus.tendermint.debug.p2p_addr_book_lenient: true", "consensus: {debug: {addr_book_lenient: true}}"),
        ("consensus.tendermint.db.backend: badger", ""),
        (
            "runtime.history.pruner: {strategy: keep_last, interval: 1m}",
            "runtime: {prune: {strategy: keep_last, interval: 1m, num_kept: 600}}",
        ),
        ("runtime.mode: client-stateless", "consensus: {local_storage: false}"),
        ("runtime.mode: none", ""),
        ("worker.keymanager.enabled: true", "mode: keymanager"),
        ("worker.compute.enabled: false", ""),
        ("worker.registration: {entity: /e.json, force_register: true}", ""),
        (
            "worker.storage: {backend: badger, max_cache_size: 64mb, public_rpc.enabled: true, checkpointer.disabled: false, \
          checkpoint_sync.disabled: true}",
            "storage: {backend: badger, max_cache_size: 64mb, public_rpc_enabled: true, checkpointer: {enabled: true}, \
          checkpoint_sync_disabled: true}",
        ),
        (
            "worker.sentry: {enabled: true, control: {port: 1, authorized_pubkey: [a]}, grpc.enabled: true}",
            "sentry: {enabled: true, control: {port: 1, authorized_pubkeys: [a]}}",
        ),
        ("worker.sentry.address: 1.2.3.4:9009", "runtime: {sentry_addresses: [\"1.2.3.4:9009\"]}"),
        ("worker.executor.schedule_max_tx_pool_size: 9", "runtime: {tx_pool: {schedule_max_tx_pool_size: 9}}"),
        (
            "worker.p2p: {blocked_peers: [1.1.1.1], max_num_peers: 4}",
            "p2p: {connection_gater: {blocked_peers: [1.1.1.1]}, connection_manager: {max_num_peers: 4}}",
        ),
    ] {
        same(
            &format!("datadir: /d\n{old}\n"),
            &format!("common: {{data_dir: /d}}\n{new}\n")
                .replace("common: {data_dir: /d}\ncommon: {", "common: {data_dir: /d, "),
        );
    }
}

#[test]
fn what_cannot_be_mapped_is_one_error() {
    let text = "datadir: /d\nsigner.backend: remote\nbogus.key: 1\nconsensus.tendermint.p2p:\n  seed: [\"AB@1.2.3.4:26656\"]\n  \
                unconditional_peer_ids: [AB]\nworker: {compute.enabled: true, keymanager.enabled: true, storage.enabled: \
                maybe}\n";
    let error = refused(text);
    assert!(
        error.starts_with(
            "config file 'config.yml' is of generation 21.x and can't be used as it is; run `oasis-node \
                               config migrate --in config.yml"
        ),
        "{error}"
    );
    for part in [
        "line 2: signer.backend: give it on the command line, as --signer.backend, or remove it",
        "line 3: bogus.key: not a key of that generation",
        "line 5: consensus.tendermint.p2p.seed: \"AB@1.2.3.4:26656\" names a hash",
        "line 6: consensus.tendermint.p2p.unconditional_peer_ids: \"AB\" is a hash",
        "line 7: worker.keymanager.enabled: mode keymanager can't be had together with mode compute of line 7",
        "line 7: worker.storage.enabled: found \"maybe\", expected true or false",
    ] {
        assert!(error.contains(part), "{part} not in {error}");
    }
    let written = migrate(text).unwrap().to_yaml();
    assert!(written.contains("\"INSERT_P2P_PUBKEY_HERE@1.2.3.4:26656\""), "{written}");
    assert!(written.contains("# Not migrated"), "{written}");
    // The placeholder does not start a node.
    assert!(!problems_of(&written, &|_| None).is_empty());
    for (text, part) in [
        ("datadir: /a\ndatadir: /b", "line 2: datadir: given twice, first in line 1"),
        ("datadir: /a\nworker.storage.enabled: true", "nodes for storage alone do not exist any more"),
        ("datadir: /a\nruntime.mode: x", "found \"x\", expected none, compute"),
        ("datadir: /a\nruntime.sgx.signatures: {a: b}", "no runtime a in runtime.paths"),
        ("datadir: /a\nworker.p2p.port: 70000", "line 2: p2p.port: found \"70000\""),
        ("datadir: /a\nruntime.supported: [zz]", "line 2: runtime.runtimes[0].id: found \"zz\""),
        ("datadir: {{ dir }}", "placeholder"),
        ("datadir: /{{ dir }}/x", "line 1: common.data_dir: the placeholder {{ dir }} is left"),
        (
            "datadir: /a\nworker.tx_pool.recheck_interval: 1\nconsensus.tendermint.debug: {addr_book_lenient: true, \
          p2p_addr_book_lenient: true}",
            "consensus.debug.addr_book_lenient, which it is now, is given by another key too",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{part} not in {error}");
    }
}

#[test]
fn changes_since_23() {
    for (old, new) in [
        ("mode: stateless-client", "mode: client\nconsensus: {local_storage: false}"),
        ("mode: client\nkeymanager: {may_generate: true}", "mode: client"),
        ("mode: client\nconsensus: {prune: {num_light_blocks_kept: 5}}", "mode: client"),
        ("common: {data_dir: a}\nregistration: {rotate_certs: 3}", "common: {data_dir: a}"),
        (
            "mode: client\nconsensus: {state_sync: {enabled: true, trust_period: 10h, trust_height: 5, trust_hash: \
          0000000000000000000000000000000000000000000000000000000000000001}}",
            "mode: client\nconsensus: {state_sync: {enabled: true}, light_client: {trust: {period: 10h, height: 5, hash: \
          \"0000000000000000000000000000000000000000000000000000000000000001\"}}}",
        ),
        (
            "mode: client\nconsensus: {debug: {allow_duplicate_ip: true}}",
            "mode: client\nconsensus: {p2p: {allow_duplicate_ip: true}}",
        ),
        (
            "mode: client\nruntime: {components: [rofl], config: {\
          8000000000000000000000000000000000000000000000000000000000000000: {a: 1}}}",
            "mode: client\nruntime: {config: {8000000000000000000000000000000000000000000000000000000000000000: {a: 1}}, \
          runtimes: [{id: 8000000000000000000000000000000000000000000000000000000000000000, components: [rofl]}]}",
        ),
    ] {
        same(old, new);
        assert!(!loaded(old).findings.is_empty(), "{old}");
    }
    assert!(refused("mode: client\nruntime: {components: [rofl]}").contains("components belong to a runtime now"));
    // Today's parser judges the rest: an unknown key beside one of the past is still an error.
    let error = refused("mode: client\nkeymanager: {may_generate: true, x: 1}\ndatadir: /d\n");
    assert!(
        error.contains("line 2: keymanager.x: unknown key") && error.contains("line 3: datadir: unknown key"),
        "{error}"
    );
}

#[test]
fn variables_stay_in_files_and_are_filled_in_nodes() {
    let text = "datadir: ${DIR}\nworker.p2p.port: ${PORT:-7}\n";
    assert!(migrate(text).unwrap().to_yaml().contains("data_dir: ${DIR}\n"));
    let loaded = load("x", text, &|name| (name == "DIR").then(|| "/d$$".to_owned())).unwrap();
    assert_eq!(loaded.config.common.data_dir, "/d$$");
    assert_eq!(loaded.config.p2p.port, 7);
}

#[test]
fn bad_files_are_errors() {
    for text in ["a: [", "[1, 2]", "text", "a: b: c"] {
        assert!(migrate(text).is_err(), "{text}");
        assert!(load("x", text, &|_| None).is_err(), "{text}");
    }
    assert!(refused("- 1").contains("expected a map of keys and values"));
}

#[test]
fn every_rule_leads_to_a_key() {
    let known = Config::keys();
    let mut seen = Vec::new();
    for (old, rule) in OLD.iter().chain(SINCE_23) {
        assert!(!seen.contains(old), "{old} twice");
        seen.push(old);
        assert_eq!(old.to_lowercase(), *old);
        let to = match rule {
            Rule::To(to) | Rule::Time(to) | Rule::List(to) | Rule::Not(to) => to,
            Rule::Special(Special::Peers(to) | Special::PeerIds(to)) => to,
            _ => continue,
        };
        assert!(known.iter().any(|key| key == to), "{old} leads to {to}");
    }
    assert!(seen.len() > 100, "{}", seen.len());
}
