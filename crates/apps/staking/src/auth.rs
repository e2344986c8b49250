//! Who may send transactions, and what they pay. Source: `go/consensus/cometbft/apps/staking/{auth.go,state/gas.go}`.

use apps_core::{Authenticator, Context, Error, GasMeter, Result};
use base_prims::{Address, Quantity};
use wire_consensus::{
    errors::{staking as codes, transaction as tx_codes},
    staking::TransferEvent,
    transaction::{Fee, Gas, Transaction},
};

use crate::{NAME, Staking, fees::BlockFees, state};

impl Authenticator for Staking {
    fn authenticate(&self, ctx: &mut Context<'_>, tx: &Transaction) -> Result<()> {
        if ctx.is_simulation() {
            ctx.set_gas(GasMeter::limited(Gas::MAX));
            return Ok(());
        }
        let address = Address::of_key(&ctx.tx_signer());
        if address.is_reserved() {
            return Err(Error::Uncoded(format!("using reserved account address {address} is prohibited")));
        }
        let mut account = state::account(&ctx.state(), &address)?;
        if account.general.nonce != tx.nonce {
            return Err((&tx_codes::INVALID_NONCE).into());
        }
        let fee = tx.fee.clone().unwrap_or_default();
        let params = state::parameters(&ctx.state())?;
        if account.general.balance < fee.amount.add(&params.min_transact_balance) {
            return Err((&codes::BALANCE_TOO_LOW).into());
        }

        if ctx.is_check_only() {
            ctx.set_gas(GasMeter::limited(fee.gas));
            return check_local_price(ctx, &address, &fee);
        }

        Quantity::transfer(&mut ctx.block_data::<BlockFees>().0, &mut account.general.balance, &fee.amount)?;
        account.general.nonce = account.general.nonce.wrapping_add(1);
        state::set_account(&mut ctx.state(), &address, &account)?;
        if !fee.amount.is_zero() {
            let event = TransferEvent { from: address, to: Address::fee_accumulator(), amount: fee.amount };
            ctx.emit(NAME, &event);
        }
        ctx.set_gas(GasMeter::LimitedInBlock { limit: fee.gas, used: 0 });
        Ok(())
    }

    fn after_check(&self, ctx: &mut Context<'_>, tx: &Transaction) -> Result<()> {
        if !ctx.is_check_only() {
            return Ok(());
        }
        let address = Address::of_key(&ctx.tx_signer());
        let mut account = state::account(&ctx.state(), &address)?;
        if let Some(fee) = &tx.fee {
            account
                .general
                .balance
                .sub_assign(&fee.amount)
                .map_err(|_| Error::from(&tx_codes::INSUFFICIENT_FEE_BALANCE))?;
        }
        account.general.nonce = account.general.nonce.wrapping_add(1);
        state::set_account(&mut ctx.state(), &address, &account)
    }
}

/// The operator's own lowest price. It decides what this node takes into its pool, never what a block holds.
fn check_local_price(ctx: &Context<'_>, address: &Address, fee: &Fee) -> Result<()> {
    let config = ctx.config();
    let own = config.own_tx_signer.as_ref().is_some_and(|key| Address::of_key(key) == *address);
    if !own && fee.gas > 0 && fee.gas_price() < config.min_gas_price {
        return Err((&tx_codes::GAS_PRICE_TOO_LOW).into());
    }
    Ok(())
}
