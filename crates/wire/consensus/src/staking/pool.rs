//! Arithmetic of share pools.

use base_prims::{Quantity, quantity::QuantityError};

use super::SharePool;

/// Why shares could not be exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The pool has shares but no tokens left: there is no price.
    #[error("share pool lost its whole balance")]
    Depleted,
    /// Not enough tokens or shares.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
}

/// Source: `SharePool` in `go/staking/api/api.go`.
impl SharePool {
    /// Shares that an amount of tokens buys, rounded down; one each in a pool without shares.
    ///
    /// # Errors
    /// [`PoolError::Depleted`].
    pub fn shares_for_stake(&self, amount: &Quantity) -> Result<Quantity, PoolError> {
        if self.total_shares.is_zero() {
            return Ok(amount.clone());
        }
        if self.balance.is_zero() {
            return Err(PoolError::Depleted);
        }
        Ok(amount.mul(&self.total_shares).quo(&self.balance)?)
    }

    /// Tokens that shares are worth, rounded down.
    pub fn stake_for_shares(&self, shares: &Quantity) -> Quantity {
        // A pool without shares is worth nothing.
        shares.mul(&self.balance).quo(&self.total_shares).unwrap_or_default()
    }

    /// Moves tokens from `source` into the pool and adds the new shares to `shares`; returns these.
    ///
    /// # Errors
    /// [`PoolError`]; then nothing changes.
    pub fn deposit(
        &mut self,
        shares: &mut Quantity,
        source: &mut Quantity,
        amount: &Quantity,
    ) -> Result<Quantity, PoolError> {
        let new = self.shares_for_stake(amount)?;
        Quantity::transfer(&mut self.balance, source, amount)?;
        self.total_shares.add_assign(&new);
        shares.add_assign(&new);
        Ok(new)
    }

    /// Takes `amount` of the shares back and moves what they are worth to `target`.
    ///
    /// # Errors
    /// [`PoolError::Quantity`] if there are not as many shares; then nothing changes.
    pub fn withdraw(
        &mut self,
        target: &mut Quantity,
        shares: &mut Quantity,
        amount: &Quantity,
    ) -> Result<(), PoolError> {
        let value = self.stake_for_shares(amount);
        let left = shares.sub(amount)?;
        self.total_shares.sub_assign(amount)?;
        *shares = left;
        Quantity::transfer(target, &mut self.balance, &value)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(v: u64) -> Quantity {
        v.into()
    }

    #[test]
    fn exchange_rates() {
        // Balance, shares, tokens in, shares out.
        for (balance, total, amount, expected) in [
            (0, 0, 7, Some(7)),
            (100, 100, 7, Some(7)),
            (200, 100, 7, Some(3)),
            (100, 300, 7, Some(21)),
            (0, 5, 1, None),
        ] {
            let mut pool = SharePool { balance: q(balance), total_shares: q(total) };
            let (mut shares, mut source) = (q(0), q(10));
            match expected {
                Some(n) => {
                    assert_eq!(pool.deposit(&mut shares, &mut source, &q(amount)).unwrap(), q(n));
                    assert_eq!((shares, source, pool.balance), (q(n), q(10 - amount), q(balance + amount)));
                    assert_eq!(pool.total_shares, q(total + n));
                }
                None => assert_eq!(pool.deposit(&mut shares, &mut source, &q(amount)), Err(PoolError::Depleted)),
            }
        }
    }

    #[test]
    fn withdrawing_more_than_owned_changes_nothing() {
        let mut pool = SharePool { balance: q(100), total_shares: q(50) };
        let before = pool.clone();
        let (mut target, mut shares) = (q(0), q(10));
        assert_eq!(
            pool.withdraw(&mut target, &mut shares, &q(11)),
            Err(PoolError::Quantity(QuantityError::InsufficientBalance))
        );
        assert_eq!((&pool, &shares, &target), (&before, &q(10), &q(0)));
        pool.withdraw(&mut target, &mut shares, &q(10)).unwrap();
        assert_eq!((target, shares, pool.balance), (q(20), q(0), q(80)));
    }
}
