//! Queries of the staking service: nothing is lost, and nothing comes from nowhere.

use base_prims::{Address, Quantity};
use wire_consensus::staking::{Account, AllowanceQuery, OwnerQuery, REQUIRED_THRESHOLDS, ThresholdQuery};

use super::Queries;
use crate::node::{WorkloadError, violated};

impl Queries {
    pub(super) async fn staking(&mut self, height: i64) -> Result<(), WorkloadError> {
        let kind = REQUIRED_THRESHOLDS[self.job.random.index(REQUIRED_THRESHOLDS.len())];
        let threshold: Quantity = self.node().call("Staking", "Threshold", ThresholdQuery { height, kind }).await?;
        let expected = self.staking.thresholds.get(&kind).cloned().unwrap_or_default();
        if threshold != expected {
            return violated(format!("invalid threshold {kind} at height {height}: {threshold}, not {expected}"));
        }
        let mut sum = Quantity::default();
        for method in ["CommonPool", "LastBlockFees", "GovernanceDeposits"] {
            let part: Quantity = self.at("Staking", method, height).await?;
            sum.add_assign(&part);
        }
        let addresses: Option<Vec<Address>> = self.at("Staking", "Addresses", height).await?;
        let addresses = addresses.unwrap_or_default();
        for owner in &addresses {
            let account: Account = self.node().call("Staking", "Account", OwnerQuery { height, owner: *owner }).await?;
            sum.add_assign(&account.general.balance);
            sum.add_assign(&account.escrow.active.balance);
            sum.add_assign(&account.escrow.debonding.balance);
            self.allowances(height, *owner, &account).await?;
        }
        let total: Quantity = self.at("Staking", "TotalSupply", height).await?;
        if total != sum {
            let count = addresses.len();
            return violated(format!("total supply {total} at height {height}, {sum} in {count} accounts and pools"));
        }
        let with: Option<Vec<Address>> = self.at("Staking", "CommissionScheduleAddresses", height).await?;
        for owner in with.unwrap_or_default() {
            let account: Account = self.node().call("Staking", "Account", OwnerQuery { height, owner }).await?;
            if account.escrow.commission_schedule.is_empty() {
                return violated(format!("empty commission schedule of {owner} at height {height}"));
            }
        }
        Ok(())
    }

    async fn allowances(&self, height: i64, owner: Address, account: &Account) -> Result<(), WorkloadError> {
        for (beneficiary, known) in &account.general.allowances {
            let query = AllowanceQuery { height, owner, beneficiary: *beneficiary };
            let found: Quantity = self.node().call("Staking", "Allowance", query).await?;
            if found != *known {
                return violated(format!("allowance of {owner} for {beneficiary} is {known} and {found}"));
            }
        }
        Ok(())
    }
}
