//! Links between hosts: delay, loss and duplication of their messages.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::Rng;

/// A message in flight, as links see it.
pub trait Message {
    /// What identifies a host.
    type Host: Copy + Ord;

    /// The sender.
    fn sender(&self) -> Self::Host;

    /// The receiver, another host.
    fn receiver(&self) -> Self::Host;
}

/// A rule of [`RuledLinks`]: none leaves the message to the next rule.
pub type Rule<M> = Box<dyn FnMut(&M) -> Option<Vec<Duration>> + Send>;

struct Ruled<M: Message> {
    cut: BTreeSet<(M::Host, M::Host)>,
    rules: Vec<(u64, Rule<M>)>,
    next_rule: u64,
    random: Box<dyn Rng + Send>,
}

/// Links that deliver each message once, after a random delay, except where they are cut or a rule says otherwise.
pub struct RuledLinks<M: Message> {
    shortest: Duration,
    longest: Duration,
    state: Mutex<Ruled<M>>,
}

impl<M: Message> RuledLinks<M> {
    /// Links with delays between `shortest` and `longest`.
    pub fn new(shortest: Duration, longest: Duration, random: impl Rng + Send + 'static) -> Self {
        let state = Ruled { cut: BTreeSet::new(), rules: Vec::new(), next_rule: 0, random: Box::new(random) };
        Self { shortest, longest, state: Mutex::new(state) }
    }

    /// Loses every message from one host to another. The other direction is not changed.
    pub fn cut(&self, from: M::Host, to: M::Host) {
        self.lock().cut.insert((from, to));
    }

    /// Undoes [`cut`](Self::cut).
    pub fn restore(&self, from: M::Host, to: M::Host) {
        self.lock().cut.remove(&(from, to));
    }

    /// Undoes every cut and forgets every rule.
    pub fn restore_all(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.rules.clear();
    }

    /// Adds a rule, evaluated after the existing ones. Returns its number, for [`remove`](Self::remove).
    pub fn rule(&self, rule: impl FnMut(&M) -> Option<Vec<Duration>> + Send + 'static) -> u64 {
        let mut state = self.lock();
        let number = state.next_rule;
        state.next_rule += 1;
        state.rules.push((number, Box::new(rule)));
        number
    }

    /// Removes a rule.
    pub fn remove(&self, rule: u64) {
        self.lock().rules.retain(|(number, _)| *number != rule);
    }

    /// How long each copy of the message takes: one for a message as it should be, none if it is lost, two if it is
    /// duplicated. Only a message that no rule decides about draws a random number.
    pub fn deliveries(&self, message: &M) -> Vec<Duration> {
        let mut state = self.lock();
        if state.cut.contains(&(message.sender(), message.receiver())) {
            return Vec::new();
        }
        if let Some(deliveries) = state.rules.iter_mut().find_map(|(_, rule)| rule(message)) {
            return deliveries;
        }
        let range = (self.longest.saturating_sub(self.shortest).as_nanos() as u64).saturating_add(1);
        vec![self.shortest + Duration::from_nanos(state.random.next_u64() % range)]
    }

    fn lock(&self) -> MutexGuard<'_, Ruled<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand_core::TryRng;

    use super::*;

    /// Draws 0, 1, 2 and so on.
    struct Counting(u64);

    impl TryRng for Counting {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            self.try_next_u64().map(|drawn| drawn as u32)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            self.0 += 1;
            Ok(self.0 - 1)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.fill(0);
            Ok(())
        }
    }

    /// From one host to another.
    impl Message for (u8, u8) {
        type Host = u8;

        fn sender(&self) -> u8 {
            self.0
        }

        fn receiver(&self) -> u8 {
            self.1
        }
    }

    fn links() -> RuledLinks<(u8, u8)> {
        RuledLinks::new(Duration::from_nanos(10), Duration::from_nanos(11), Counting(0))
    }

    /// The delays of the copies of a message, in nanoseconds.
    fn nanos(links: &RuledLinks<(u8, u8)>, from: u8, to: u8) -> Vec<u128> {
        links.deliveries(&(from, to)).iter().map(Duration::as_nanos).collect()
    }

    #[test]
    fn a_message_arrives_once_within_the_bounds() {
        let links = links();
        let all: Vec<_> = (0..4).map(|_| nanos(&links, 1, 2)).collect();
        assert_eq!(all, [[10], [11], [10], [11]]);
    }

    #[test]
    fn a_cut_loses_the_messages_of_one_direction_until_it_is_restored() {
        let links = links();
        links.cut(1, 2);
        assert_eq!(nanos(&links, 1, 2), []);
        assert_eq!(nanos(&links, 2, 1), [10]);
        links.restore(1, 2);
        assert_eq!(nanos(&links, 1, 2), [11]);
    }

    #[test]
    fn the_first_rule_that_decides_counts_and_draws_nothing() {
        let links = links();
        let twice = Duration::from_nanos(5);
        let first = links.rule(move |message| (message.1 == 2).then(|| vec![twice, twice]));
        links.rule(|_| Some(Vec::new()));
        assert_eq!(nanos(&links, 1, 2), [5, 5]);
        assert_eq!(nanos(&links, 1, 3), []);
        links.remove(first);
        assert_eq!(nanos(&links, 1, 2), []);
        links.restore_all();
        assert_eq!(nanos(&links, 1, 2), [10]);
    }
}
