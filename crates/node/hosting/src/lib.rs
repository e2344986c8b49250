//! Hosting of the configured runtimes by a node.
