//! What a configuration must hold beyond the type of each key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base_prims::PublicKey;

use crate::load::Problem;
use crate::schema::{Config, Consensus, Metrics, Mode, P2p, Runtime};

/// Collects problems.
#[derive(Default)]
struct Checks(Vec<Problem>);

impl Checks {
    fn fail(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Problem { line: None, path: path.to_owned(), message: message.into() });
    }

    fn unless(&mut self, holds: bool, path: &str, message: impl Into<String>) {
        if !holds {
            self.fail(path, message);
        }
    }

    fn one_of(&mut self, path: &str, value: &str, allowed: &[&str]) {
        let list = allowed.join(", ");
        self.unless(allowed.contains(&value), path, format!("found {value:?}, expected one of {list}"));
    }

    fn not_negative(&mut self, path: &str, value: i64) {
        self.unless(value >= 0, path, format!("must be >= 0, found {value}"));
    }

    /// `pubkey@IP:port`, with the key left out if `bare` allows it.
    fn peers(&mut self, path: &str, peers: &[String], bare: bool) {
        for (at, peer) in peers.iter().enumerate() {
            let (key, address) = match peer.split_once('@') {
                Some((key, address)) => (Some(key), address),
                None => (None, peer.as_str()),
            };
            let key_holds = key.map_or(bare, |key| key.parse::<PublicKey>().is_ok());
            let address_holds =
                address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            self.unless(
                key_holds && address_holds,
                &format!("{path}[{at}]"),
                format!("found {peer:?}, expected PUBLIC_KEY@IP:PORT with the key in base64"),
            );
        }
    }
}

impl Config {
    /// Everything that does not hold.
    pub fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        if !self.consensus.local_storage
            && (self.consensus.validator || !matches!(self.mode, Mode::Client | Mode::Observer))
        {
            let message = "local storage not available in specified mode: false is for client and observer nodes \
                           that do not validate";
            checks.fail("consensus.local_storage", message);
        }
        self.common.check(&mut checks);
        self.common.check_web(&mut checks);
        checks.unless(!self.genesis.file.is_empty(), "genesis.file", "must be set");
        self.consensus.check(&mut checks);
        self.runtime.check(&mut checks);
        self.p2p.check(&mut checks);
        let registration = &self.registration;
        checks.unless(
            registration.entity.is_empty() || registration.entity_id.is_empty(),
            "registration",
            "only one of `entity` and `entity_id` must be set",
        );
        if !registration.entity_id.is_empty() {
            let holds = registration.entity_id.parse::<PublicKey>().is_ok();
            checks.unless(holds, "registration.entity_id", "malformed entity ID, expected a public key in base64");
        }
        checks.one_of("storage.backend", &self.storage.backend, &["auto", "badger", "pathbadger"]);
        self.metrics.check(&mut checks);
        checks.0
    }
}

impl crate::schema::Common {
    fn check(&self, checks: &mut Checks) {
        checks.one_of("common.log.format", &self.log.format.to_ascii_lowercase(), &["logfmt", "json"]);
        for (module, level) in &self.log.level {
            let path = format!("common.log.level.{module}");
            checks.one_of(&path, &level.to_ascii_lowercase(), &["debug", "info", "warn", "error"]);
        }
    }

    /// What web pages may call is on this machine only, and named in full.
    fn check_web(&self, checks: &mut Checks) {
        let web = &self.grpc_web;
        for (path, address) in [
            ("common.grpc_web.listen_address", &web.listen_address),
            ("common.dashboard.listen_address", &self.dashboard.listen_address),
        ] {
            let parsed = address.parse::<std::net::SocketAddr>();
            let holds = address.is_empty() || parsed.is_ok_and(|address| address.ip().is_loopback());
            checks.unless(holds, path, format!("found {address:?}, expected IP:PORT with a loopback address"));
        }
        for (at, method) in web.methods.iter().enumerate() {
            let holds = method.split_once('/').is_some_and(|(service, name)| {
                service.starts_with("oasis-core.") && !name.is_empty() && !method.contains('*')
            });
            let message = format!("found {method:?}, expected SERVICE/METHOD such as oasis-core.Consensus/GetStatus");
            checks.unless(holds, &format!("common.grpc_web.methods[{at}]"), message);
        }
    }
}

impl Consensus {
    fn check(&self, checks: &mut Checks) {
        checks.not_negative("consensus.p2p.max_num_inbound_peers", self.p2p.max_num_inbound_peers);
        checks.not_negative("consensus.p2p.max_num_outbound_peers", self.p2p.max_num_outbound_peers);
        checks.not_negative("consensus.p2p.send_rate", self.p2p.send_rate);
        checks.not_negative("consensus.p2p.recv_rate", self.p2p.recv_rate);
        checks.peers("consensus.p2p.persistent_peers", &self.p2p.persistent_peers, false);
        for (at, key) in self.p2p.unconditional_peers.iter().enumerate() {
            let path = format!("consensus.p2p.unconditional_peers[{at}]");
            let holds = key.parse::<PublicKey>().is_ok();
            checks.unless(holds, &path, format!("found {key:?}, expected a public key in base64"));
        }
        checks.peers("consensus.sentry_upstream_addresses", &self.sentry_upstream_addresses, false);
        checks.unless(
            self.halt_height == 0 || self.halt_epoch == 0,
            "consensus",
            "only one of {halt_epoch, halt_height} can be set",
        );
        checks.one_of("consensus.prune.strategy", &self.prune.strategy, &["none", "keep_n"]);
        let trust = &self.light_client.trust;
        if trust.hash.is_empty() {
            checks.unless(
                !self.state_sync.enabled,
                "consensus.state_sync.enabled",
                "state sync requires light client to be configured: set consensus.light_client.trust.hash and .height",
            );
        } else {
            let path = "consensus.light_client.trust";
            checks.unless(
                !trust.period.0.is_zero(),
                &format!("{path}.period"),
                "trust period must be greater than zero",
            );
            checks.unless(trust.height > 0, &format!("{path}.height"), "trust height must be greater than zero");
            let holds = trust.hash.len() == 64 && trust.hash.bytes().all(|c| c.is_ascii_hexdigit());
            checks.unless(holds, &format!("{path}.hash"), "malformed trust hash, expected 64 hex digits");
        }
        checks.unless(
            !self.supplementary_sanity.enabled || self.supplementary_sanity.interval >= 1,
            "consensus.supplementary_sanity.interval",
            "must be >= 1",
        );
    }
}

impl Runtime {
    fn check(&self, checks: &mut Checks) {
        checks.one_of("runtime.provisioner", &self.provisioner, &["sandboxed", "unconfined", "mock"]);
        checks.unless(
            self.provisioner != "sandboxed" || !self.sandbox_binary.is_empty(),
            "runtime.sandbox_binary",
            "must be set when using sandboxed provisioner",
        );
        checks.one_of("runtime.environment", &self.environment, &["auto", "sgx", "sgx-mock"]);
        if self.environment == "sgx" {
            let message = match (self.sgx_loader.is_empty(), self.sgx.loader.is_empty()) {
                (true, true) => Some("must be set when using sgx environment"),
                (false, false) => Some("only one of sgx_loader and sgx.loader must be set"),
                _ => None,
            };
            if let Some(message) = message {
                checks.fail("runtime.sgx.loader", message);
            }
        }
        checks.one_of("runtime.prune.strategy", &self.prune.strategy, &["none", "keep_last"]);
        checks.unless(
            self.prune.strategy != "keep_last" || self.prune.interval.0.as_secs() >= 1,
            "runtime.prune.interval",
            "must be >= 1 second",
        );
        checks.unless(
            self.load_balancer.num_instances <= 128,
            "runtime.load_balancer.num_instances",
            "cannot specify more than 128 instances for load balancing",
        );
        let size = self.log.max_log_size;
        checks.unless(size >= 1024, "runtime.log.max_log_size", "maximum log size must be at least 1024 bytes");
        checks.peers("runtime.sentry_addresses", &self.sentry_addresses, true);
        for (at, binary) in self.binaries.iter().enumerate() {
            let path = format!("runtime.binaries[{at}].path");
            checks.unless(!binary.path.is_empty(), &path, "must be set");
        }
        self.check_components(checks);
    }

    fn check_components(&self, checks: &mut Checks) {
        const PERMISSIONS: [&str; 5] = ["bundle_add", "bundle_remove", "volume_add", "volume_remove", "log_view"];
        // Addresses taken by protocol and port; no address stands for all of them.
        let mut taken: BTreeMap<(&str, u16), Vec<Option<IpAddr>>> = BTreeMap::new();
        for (r, runtime) in self.runtimes.iter().enumerate() {
            for (c, component) in runtime.components.iter().enumerate() {
                let path = format!("runtime.runtimes[{r}].components[{c}]");
                let component = &component.0;
                checks.one_of(&format!("{path}.tee"), &component.tee, &["", "none", "sgx", "tdx"]);
                for permission in &component.permissions {
                    checks.one_of(&format!("{path}.permissions"), permission, &PERMISSIONS);
                }
                for (i, incoming) in component.networking.incoming.iter().enumerate() {
                    let path = format!("{path}.networking.incoming[{i}]");
                    checks.one_of(&format!("{path}.protocol"), &incoming.protocol, &["", "tcp", "udp"]);
                    let protocol = if incoming.protocol == "udp" { "udp" } else { "tcp" };
                    let ip = match incoming.ip.parse::<IpAddr>() {
                        _ if incoming.ip.is_empty() => None,
                        Ok(ip) if ip.is_unspecified() => None,
                        Ok(ip) => Some(ip.to_canonical()),
                        Err(_) => {
                            checks.fail(&format!("{path}.ip"), format!("IP address '{}' is malformed", incoming.ip));
                            continue;
                        }
                    };
                    let others = taken.entry((protocol, incoming.src_port)).or_default();
                    let clash = others.iter().any(|other| ip.is_none() || other.is_none() || *other == ip);
                    checks.unless(!clash, &path, "overlapping incoming IP/protocol/port");
                    others.push(ip);
                }
            }
        }
    }
}

impl P2p {
    fn check(&self, checks: &mut Checks) {
        checks.peers("p2p.seeds", &self.seeds, false);
        checks.peers("p2p.connection_manager.persistent_peers", &self.connection_manager.persistent_peers, false);
        checks.not_negative("p2p.connection_manager.max_num_peers", self.connection_manager.max_num_peers);
        let gossipsub = &self.gossipsub;
        checks.not_negative("p2p.gossipsub.peer_outbound_queue_size", gossipsub.peer_outbound_queue_size);
        checks.not_negative("p2p.gossipsub.validate_queue_size", gossipsub.validate_queue_size);
        checks.not_negative("p2p.gossipsub.validate_concurrency", gossipsub.validate_concurrency);
        checks.not_negative("p2p.gossipsub.validate_throttle", gossipsub.validate_throttle);
        for (at, ip) in self.connection_gater.blocked_peers.iter().enumerate() {
            let path = format!("p2p.connection_gater.blocked_peers[{at}]");
            checks.unless(ip.parse::<IpAddr>().is_ok(), &path, format!("found {ip:?}, expected an IP address"));
        }
    }
}

impl Metrics {
    fn check(&self, checks: &mut Checks) {
        checks.one_of("metrics.mode", &self.mode, &["none", "pull", "push"]);
        checks.unless(self.mode == "none" || !self.address.is_empty(), "metrics.address", "missing address");
        if self.mode == "push" {
            checks.unless(!self.job_name.is_empty(), "metrics.job_name", "missing job_name in push mode");
            checks.unless(!self.labels.is_empty(), "metrics.labels", "missing labels in push mode");
            checks.unless(!self.interval.0.is_zero(), "metrics.interval", "missing interval in push mode");
        }
    }
}
