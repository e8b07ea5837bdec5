//! The cases, by subject.

mod compaction;
mod delivery;
mod fetch;
mod groups;
mod helpers;
mod log;
mod member;
mod offsets;
mod producers;
mod raw;
mod records;
mod replication;
mod sessions;
mod topics;
mod transactions;

use super::backend::Backend;
use crate::suite::Case;

/// All cases.
pub fn all<W: Backend>() -> Vec<Case<W>> {
    let mut all = log::cases();
    all.extend(fetch::cases());
    all.extend(records::cases());
    all.extend(topics::cases());
    all.extend(transactions::cases());
    all.extend(compaction::cases());
    all.extend(producers::cases());
    all.extend(delivery::cases());
    all.extend(groups::cases());
    all.extend(sessions::cases());
    all.extend(offsets::cases());
    all.extend(replication::cases());
    all
}
