//! The work of a node in a runtime's committee, and its transaction pool.
