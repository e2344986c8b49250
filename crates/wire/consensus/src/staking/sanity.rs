//! Sanity checks of the staking section of a genesis document and of staking parameters.
