//! The CometBFT genesis that follows from a genesis document.
