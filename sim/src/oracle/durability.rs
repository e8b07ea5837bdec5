//! Durability: whenever a worker learns that something is written, a quorum of replicas has it.
//!
//! The replicas are looked at directly, without reads, which would repair them. A replica that is down counts as having it,
//! because what is on its disk cannot be seen. A later write may have replaced the cell meanwhile, so one that includes it
//! counts, too.

use crate::oracle::Violation;
use crate::oracle::cell::{Cell, Seen, Value, is_durable};

/// The violation if fewer replicas than a quorum have an acknowledged value.
pub(crate) fn acknowledged(cell: Cell, value: Value, seen: Vec<Seen>) -> Option<Violation> {
    (!is_durable(&seen, value)).then_some(Violation::NotDurable { cell, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_value_that_one_of_three_replicas_has_is_a_violation() {
        let value = Value::Progress(7);
        let seen = vec![Seen::Value(value), Seen::Nothing, Seen::Value(Value::Progress(6))];
        let expected = Violation::NotDurable { cell: Cell::Progress(0), seen: seen.clone() };
        assert_eq!(acknowledged(Cell::Progress(0), value, seen), Some(expected));
        let seen = vec![Seen::Value(value), Seen::Nothing, Seen::Value(Value::Progress(8))];
        assert_eq!(acknowledged(Cell::Progress(0), value, seen), None);
    }
}
