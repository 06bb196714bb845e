//! What a rule may cost: steps of evaluation, and bytes of text and items of lists that it makes.

use super::value::Fail;

/// Most that one rule may cost.
pub(super) const PER_RULE: u64 = 1_000_000;
/// Most that all rules of one object may cost.
pub(super) const PER_OBJECT: u64 = 10_000_000;

/// What is left to one rule.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { left: limit }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Pays for `cost` steps.
    pub(super) fn pay(&mut self, cost: u64) -> Result<(), Fail> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Fail::OverBudget)
            }
        }
    }

    /// Pays for going through, or making, `size` bytes or items.
    pub(super) fn pay_for_size(&mut self, size: usize) -> Result<(), Fail> {
        self.pay(1 + u64::try_from(size).unwrap_or(u64::MAX) / 10)
    }
}
