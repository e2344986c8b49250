//! `oasis-node doctor`: checks of the machine and the configuration, with remedies.

use std::path::Path;
use std::process::ExitCode;

use base_service::out;
use node_config::Config;
use node_doctor::{Options, State, examine, gather, to_json, to_text, worst};
use wire_consensus::genesis::Document;

use crate::tool::fail;

/// Where blocks are kept, below the data directory.
const STORES: &str = "consensus/data/store";

#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Connect to nothing: neither seeds nor own addresses nor a time server.
    #[arg(long)]
    offline: bool,
    /// Time server to compare the clock with.
    #[arg(long, value_name = "HOST", default_value = "pool.ntp.org")]
    time_server: String,
}

/// Exit code 1 if something will keep the node from working.
pub(crate) fn run(args: &DoctorArgs, path: Option<&Path>) -> ExitCode {
    let loaded = match crate::config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return fail(error),
    };
    let options = Options { offline: args.offline, time_server: Some(args.time_server.clone()) };
    let facts = gather(&loaded.config, &options, |document| compare(&loaded.config, document));
    let mut checks = examine(&facts);
    if !loaded.findings.is_empty() {
        checks.push(node_doctor::Check {
            name: "configuration",
            state: State::Warn,
            found: format!(
                "of generation {}, {} keys are mapped at every start",
                loaded.generation,
                loaded.findings.len()
            ),
            remedy: "run `oasis-node config migrate` and use the new file".to_owned(),
        });
    }
    out!("{}", if args.json { to_json(&checks) + "\n" } else { to_text(&checks) });
    ExitCode::from(u8::from(worst(&checks) == State::Fail))
}

/// Whether the stores are of the document's chain.
fn compare(config: &Config, document: &Document) -> Result<(), String> {
    let folder = Path::new(&config.common.data_dir).join(STORES);
    if !folder.is_dir() {
        return Ok(());
    }
    comet_store::open(&folder, &document.comet_chain_id()).map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(args: &[&str]) -> String {
        let args = std::iter::once("oasis-node").chain(args.iter().copied()).map(Into::into);
        format!("{:?}", crate::run(args))
    }

    #[test]
    fn fails_where_the_node_would() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let data = dir.path().join("data");
        let text = format!(
            "common: {{data_dir: {}}}\ngenesis: {{file: {}/none}}\nconsensus: {{listen_address: \"tcp://127.0.0.1:0\"}}\np2p: \
             {{port: 0}}\n",
            data.display(),
            dir.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let failure = format!("{:?}", ExitCode::FAILURE);
        assert_eq!(exit(&["--config", &config, "doctor", "--offline"]), failure);
        assert_eq!(exit(&["--config", &config, "doctor", "--offline", "--json"]), failure);
        assert_eq!(exit(&["--config", "/no/such/file", "doctor", "--offline"]), failure);
        assert!(!data.exists(), "nothing is made");
    }
}
