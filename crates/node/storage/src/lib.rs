//! Following and serving the blocks and states of runtimes.
