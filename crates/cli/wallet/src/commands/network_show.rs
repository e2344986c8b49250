//! `oasis network show`.

use base_codec::json::{Map, ToJson, Value, to_string_pretty, value_to_string_pretty};
use base_codec::{Codec, cbor};
use base_grpc::Cbor;
use base_prims::{Address, Namespace, PublicKey, Quantity};
use clap::Args;
use wire_consensus::entity::Entity;
use wire_consensus::node::Node;
use wire_consensus::registry::{self, NodeStatus, Runtime, RuntimeKind};
use wire_consensus::scheduler::{Committee, GetCommitteesRequest, Validator};
use wire_consensus::staking::{self, Account, ThresholdKind};
use wire_consensus::{consensus, keymanager, roothash, scheduler};

use super::Selection;
use crate::args::{Format, FormatFlag, HeightFlag, NetworkFlag};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::remote::{OwnerQuery, Remote};
use crate::{address, amount, table};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// ID, or one of committees, entities, gas-costs, native-token, nodes, parameters, paratimes, validators.
    id: String,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    height: HeightFlag,
    #[command(flatten)]
    format: FormatFlag,
}

/// Argument of queries about one thing in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct IdQuery {
    height: i64,
    id: PublicKey,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct RuntimesQuery {
    height: i64,
    include_suspended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct RuntimeQuery {
    height: i64,
    id: Namespace,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct ThresholdQuery {
    height: i64,
    kind: ThresholdKind,
}

/// The sections of the genesis document that are shown: public nodes do not answer queries about them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
#[codec(cbor_only)]
struct Genesis {
    consensus: consensus::Genesis,
    keymanager: keymanager::Genesis,
}

struct View<'a> {
    selection: Selection<'a>,
    remote: Remote,
    height: i64,
    format: Format,
}

pub(super) fn run(store: &Store, show: &Show) -> Result<()> {
    let selection = Selection::network(store, &show.network)?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let height = remote.height(show.height.height)?;
    let view = View { selection, remote, height, format: show.format.format };
    match show.id.trim().to_lowercase().as_str() {
        "entities" => view.each::<Entity>("Registry", "GetEntities"),
        "nodes" => view.each::<Node>("Registry", "GetNodes"),
        "validators" => view.each::<Validator>("Scheduler", "GetValidators"),
        "paratimes" | "runtimes" => {
            for runtime in view.runtimes(true)? {
                print_json(&runtime);
            }
            Ok(())
        }
        "native-token" => view.native_token(),
        "gas-costs" => view.gas_costs(),
        "committees" => view.committees(),
        "parameters" => view.parameters(),
        _ => view.by_id(&show.id),
    }
}

fn print_json(value: &impl ToJson) {
    outln!("{}", to_string_pretty(value));
}

impl View<'_> {
    fn at<R: cbor::Encode + cbor::Decode>(&self, service: &str, method: &str) -> Result<R> {
        self.remote.call(service, method, &Cbor(self.height))
    }

    fn each<T: cbor::Encode + cbor::Decode + ToJson>(&self, service: &str, method: &str) -> Result<()> {
        for item in self.at::<Vec<T>>(service, method)? {
            print_json(&item);
        }
        Ok(())
    }

    fn runtimes(&self, include_suspended: bool) -> Result<Vec<Runtime>> {
        self.remote.call("Registry", "GetRuntimes", &Cbor(RuntimesQuery { height: self.height, include_suspended }))
    }

    fn native_token(&self) -> Result<()> {
        let symbol: String = self.at("Staking", "TokenSymbol")?;
        let exponent: u8 = self.at("Staking", "TokenValueExponent")?;
        let parameters: staking::Parameters = self.at("Staking", "ConsensusParameters")?;
        let tokens = |value: &Quantity| format!("{} {symbol}", amount::format(value, exponent));
        outln!("{:<25} {}", "Network:", self.selection.pretty_network());
        outln!("{:<25} {symbol}", "Token's ticker symbol:");
        outln!("{:<25} {exponent}", "Token's base-10 exponent:");
        let sums = [
            ("Total supply:", "TotalSupply"),
            ("Common pool:", "CommonPool"),
            ("Last block fees:", "LastBlockFees"),
            ("Governance deposits:", "GovernanceDeposits"),
        ];
        for (title, method) in sums {
            let value: Quantity = self.at("Staking", method)?;
            outln!("{title:<25} {}", tokens(&value));
        }
        outln!("{:<25} {} epoch(s)\n", "Debonding interval:", parameters.debonding_interval);
        outln!("=== STAKING THRESHOLDS ===");
        let kinds = [
            ThresholdKind::ENTITY,
            ThresholdKind::NODE_VALIDATOR,
            ThresholdKind::NODE_COMPUTE,
            ThresholdKind::NODE_KEY_MANAGER,
            ThresholdKind::RUNTIME_COMPUTE,
            ThresholdKind::RUNTIME_KEY_MANAGER,
        ];
        for kind in kinds {
            let query = Cbor(ThresholdQuery { height: self.height, kind });
            let value: Quantity = self.remote.call("Staking", "Threshold", &query)?;
            outln!("  {:<19} {}", format!("{kind}:"), tokens(&value));
        }
        Ok(())
    }

    fn gas_costs(&self) -> Result<()> {
        let parameters: staking::Parameters = self.at("Staking", "ConsensusParameters")?;
        outln!("Gas costs for network {}:", self.selection.pretty_network());
        for (kind, cost) in &parameters.gas_costs {
            outln!("  - {:<26} {cost}", format!("{kind}:"));
        }
        Ok(())
    }

    fn committees(&self) -> Result<()> {
        let paratimes = &self.selection.network.paratimes.all;
        for runtime in self.runtimes(false)?.into_iter().filter(|runtime| runtime.kind == RuntimeKind::COMPUTE) {
            let id = runtime.id.to_string();
            let name = paratimes.iter().find(|(_, paratime)| paratime.id == id).map_or("unknown", |(name, _)| name);
            outln!("=== COMMITTEE ===\nParatime: {name}({id})\nHeight:   {}\n", self.height);
            let query = Cbor(GetCommitteesRequest { height: self.height, runtime_id: runtime.id });
            let committees: Vec<Committee> = self.remote.call("Scheduler", "GetCommittees", &query)?;
            let mut rows = Vec::new();
            for member in committees.iter().flat_map(Committee::members) {
                let query = Cbor(IdQuery { height: self.height, id: member.public_key });
                let node: Node = self.remote.call("Registry", "GetNode", &query)?;
                rows.push(vec![node.entity_id.to_string(), member.public_key.to_string(), member.role.to_string()]);
            }
            outln!("{}", table::render(&["Entity ID", "Node ID", "Role"], &rows));
        }
        Ok(())
    }

    fn parameters(&self) -> Result<()> {
        let genesis: Genesis = self.remote.call("Consensus", "GetGenesisDocument", &())?;
        let sections: [(&str, Value); 8] = [
            ("consensus", genesis.consensus.to_json()),
            ("keymanager", genesis.keymanager.to_json()),
            ("registry", self.at::<registry::Parameters>("Registry", "ConsensusParameters")?.to_json()),
            ("roothash", self.at::<roothash::Parameters>("RootHash", "ConsensusParameters")?.to_json()),
            ("staking", self.at::<staking::Parameters>("Staking", "ConsensusParameters")?.to_json()),
            ("scheduler", self.at::<scheduler::Parameters>("Scheduler", "ConsensusParameters")?.to_json()),
            ("beacon", self.at::<wire_consensus::beacon::Parameters>("Beacon", "ConsensusParameters")?.to_json()),
            (
                "governance",
                self.at::<wire_consensus::governance::Parameters>("Governance", "ConsensusParameters")?.to_json(),
            ),
        ];
        if self.format == Format::Json {
            let all: Map<String, Value> = sections.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            outln!("{}", value_to_string_pretty(&Value::Object(all)));
            return Ok(());
        }
        for (name, value) in sections {
            outln!("=== {} PARAMETERS ===\n{}\n", name.to_uppercase(), plain(&value));
        }
        Ok(())
    }

    fn by_id(&self, text: &str) -> Result<()> {
        if let Ok(id) = text.parse::<PublicKey>() {
            return self.by_key(text, id);
        }
        let address = address::resolve_address(self.selection.network, text)
            .map_err(|_| CliError::new(format!("unrecognized id: '{text}'")))?;
        for entity in self.at::<Vec<Entity>>("Registry", "GetEntities")? {
            if Address::of_key(&entity.id) == address {
                return self.entity(&entity);
            }
        }
        for node in self.at::<Vec<Node>>("Registry", "GetNodes")? {
            if Address::of_key(&node.id) == address {
                print_json(&node);
                return Ok(());
            }
        }
        Err(format!("id '{text}' not found").into())
    }

    fn by_key(&self, text: &str, id: PublicKey) -> Result<()> {
        let query = || Cbor(IdQuery { height: self.height, id });
        if let Ok(entity) = self.remote.call::<_, Entity>("Registry", "GetEntity", &query()) {
            return self.entity(&entity);
        }
        if let Ok(status) = self.remote.call::<_, NodeStatus>("Registry", "GetNodeStatus", &query()) {
            if let Ok(node) = self.remote.call::<_, Node>("Registry", "GetNode", &query()) {
                print_json(&node);
            }
            print_json(&status);
            return Ok(());
        }
        let runtime = RuntimeQuery { height: self.height, id: Namespace::from_bytes_unchecked(*id.as_bytes()) };
        if let Ok(runtime) = self.remote.call::<_, Runtime>("Registry", "GetRuntime", &Cbor(runtime)) {
            print_json(&runtime);
            return Ok(());
        }
        Err(format!("id '{text}' not found").into())
    }

    fn entity(&self, entity: &Entity) -> Result<()> {
        if self.format == Format::Json {
            print_json(entity);
            return Ok(());
        }
        let names = address::names(self.selection.config);
        let owner = Address::of_key(&entity.id);
        let account: Account =
            self.remote.call("Staking", "Account", &Cbor(OwnerQuery { height: self.height, owner }))?;
        let epoch: u64 = self.at("Beacon", "GetEpoch")?;
        let schedule = &account.escrow.commission_schedule;
        let rate = schedule.rates.iter().rev().find(|step| step.start <= epoch);
        outln!("=== ENTITY ===");
        outln!("Entity Address: {}", address::pretty(&names, &owner));
        outln!("Entity ID:      {}", entity.id);
        outln!("Stake:          {}", self.selection.tokens(&account.escrow.active.balance));
        match rate {
            Some(step) => outln!("Commission:     {}", amount::percent(&step.rate)),
            None => outln!("Commission:     not set"),
        }
        outln!("\n=== NODES ===");
        for (index, id) in entity.nodes.iter().enumerate() {
            if index > 0 {
                outln!();
            }
            outln!("Node Address: {}", address::pretty(&names, &Address::of_key(id)));
            outln!("Node ID:      {id}");
            let query = || Cbor(IdQuery { height: self.height, id: *id });
            let status: std::result::Result<NodeStatus, _> = self.remote.call("Registry", "GetNodeStatus", &query());
            let (Ok(status), Ok(node)) = (status, self.remote.call::<_, Node>("Registry", "GetNode", &query())) else {
                outln!("  Node is not active");
                continue;
            };
            outln!("  Node Roles:       {}", node.roles);
            outln!("  Software Version: {}", node.software_version);
            if !node.runtimes().is_empty() {
                outln!("  Runtimes:");
            }
            for runtime in node.runtimes() {
                outln!("    Runtime ID: {}\n      Runtime Version: {}", runtime.id, runtime.version);
            }
            outln!("  Node Status:");
            outln!("    Expiration Processed:    {}", status.expiration_processed);
            outln!("    Freeze End Time:         {}", status.freeze_end_time);
            outln!("    Election Eligible After: {}", status.election_eligible_after);
        }
        Ok(())
    }
}

/// JSON without its punctuation: indented lines of `key: value`.
pub(super) fn plain(value: &Value) -> String {
    let mut text = value_to_string_pretty(value);
    text.retain(|c| !matches!(c, '{' | '}' | '[' | ']' | ',' | '"'));
    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
