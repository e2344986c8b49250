//! The key manager's worker, and access to key managers elsewhere.
