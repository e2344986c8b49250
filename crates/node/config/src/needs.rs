//! What a configuration needs of the system.

use crate::schema::Config;

/// Open files needed beside connections: stores, logs, sockets.
const BASE_FILES: u64 = 256;

impl Config {
    /// Files that the configured connections and stores can need at once.
    pub fn required_files(&self) -> u64 {
        let consensus = &self.consensus.p2p;
        let peers = [
            consensus.max_num_inbound_peers,
            consensus.max_num_outbound_peers,
            self.p2p.connection_manager.max_num_peers,
        ];
        peers.iter().map(|n| n.unsigned_abs()).fold(BASE_FILES, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_connections() {
        let mut config = Config::default();
        assert_eq!(config.required_files(), BASE_FILES + 220);
        config.p2p.connection_manager.max_num_peers = i64::MAX;
        config.consensus.p2p.max_num_inbound_peers = i64::MAX;
        config.consensus.p2p.max_num_outbound_peers = i64::MAX;
        assert_eq!(config.required_files(), u64::MAX);
    }
}
