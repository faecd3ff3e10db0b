//! What is special about an order, told by its number alone, so that all parts of a run agree on it.

/// Orders of one guest: their texts go one after another.
const ORDERS_A_GUEST: u64 = 8;
/// Guests whose orders come in turn.
const GUESTS_AT_ONCE: u64 = 8;
/// The guest to whom nothing can be sent until all other texts have gone.
pub(crate) const STUCK: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order(pub(crate) u64);

impl Order {
    pub(crate) fn guest(self) -> u64 {
        self.0 / (ORDERS_A_GUEST * GUESTS_AT_ONCE) * GUESTS_AT_ONCE + self.0 % GUESTS_AT_ONCE
    }

    /// More guests than so many orders can have.
    pub(crate) fn guests(orders: u64) -> u64 {
        (orders / (ORDERS_A_GUEST * GUESTS_AT_ONCE) + 1) * GUESTS_AT_ONCE
    }

    /// Its text is due a second after the order: what is due at once and comes meanwhile goes before it.
    pub(crate) fn waits(self) -> bool {
        self.0 % 5 == 2
    }

    /// Its cancellation follows it.
    pub(crate) fn is_cancelled(self) -> bool {
        self.0 % 11 == 9
    }

    /// The provider takes its text at the second try only.
    pub(crate) fn is_put_off(self) -> bool {
        self.0 % 17 == 7
    }

    /// The provider never takes its text.
    pub(crate) fn is_refused(self) -> bool {
        self.0 % 41 == 11
    }

    /// How long the provider takes for its text, in milliseconds.
    pub(crate) fn takes_ms(self) -> u64 {
        2 + self.0 * 7_919 % 29
    }
}

/// As orders and texts name a guest.
pub(crate) fn phone(guest: u64) -> String {
    format!("+7999{guest:07}")
}
