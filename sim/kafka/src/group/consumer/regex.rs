//! Subscriptions by regular expression.
//!
//! Kafka uses RE2/J; the crate `regex` has the same syntax but for details, and like it matches in linear time. An
//! expression has to match the whole name.

use std::collections::BTreeSet;

use super::heartbeat::{Refused, refused};
use super::records::{self, RegexValue};
use super::{ConsumerGroup, ConsumerMember, hash_of};
use crate::coordinator::Record;
use crate::error::ErrorCode;
use crate::group::env::Env;

/// The time between two evaluations of a group's expressions (`REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`).
const MINIMUM_INTERVAL: i64 = 10_000;

impl ConsumerGroup {
    /// How many members use an expression.
    fn users(&self, regex: &str) -> usize {
        self.members.values().filter(|member| member.regex() == Some(regex)).count()
    }

    /// Takes a member's new expression. Whether the group's topics change with it at once.
    pub(super) fn update_regex(
        &self,
        member: &ConsumerMember,
        updated: &ConsumerMember,
        records: &mut Vec<Record>,
    ) -> Result<bool, Refused> {
        if member.value.regex == updated.value.regex {
            return Ok(false);
        }
        if let Some(old) = member.regex().filter(|old| self.users(old) == 1) {
            records.push(records::regex_tombstone(&self.id, old));
        }
        match updated.regex() {
            Some(new) if self.users(new) == 0 => match compile(new) {
                Ok(_) => Ok(false),
                Err(error) => {
                    let why =
                        format!("SubscribedTopicRegex `{new}` is not a valid regular expression: {error}.");
                    refused(ErrorCode::InvalidRegularExpression, why)
                }
            },
            Some(new) => Ok(self.regexes.contains_key(new)),
            None => Ok(false),
        }
    }

    /// Evaluates the expressions, if there are new ones, topics have changed, or it was long ago.
    pub(super) fn resolve_regexes(&mut self, env: &Env<'_>) -> Vec<Record> {
        let used: BTreeSet<&str> = self.members.values().filter_map(ConsumerMember::regex).collect();
        if used.is_empty() {
            return Vec::new();
        }
        let first = self.regexes.values().next();
        let (last, version) = first.map_or((i64::MIN, 0), |regex| (regex.timestamp, regex.version));
        if env.now <= last.saturating_add(MINIMUM_INTERVAL) {
            return Vec::new();
        }
        let known = hash_of(env.topics, env.topics.iter().map(|(name, _, _)| name.to_owned()));
        let is_due = env.now > last.saturating_add(env.config.regex_refresh_interval);
        if used.len() == self.regexes.len() && version == known && !is_due {
            return Vec::new();
        }
        let mut records = Vec::new();
        let mut changed = false;
        let mut resolved = self.regexes.clone();
        for regex in used {
            let topics = topics_of(env, regex);
            changed |= self.regexes.get(regex).map(|old| &old.topics).unwrap_or(&BTreeSet::new()) != &topics;
            let value = RegexValue { topics, version: known, timestamp: env.now };
            records.push(records::regex(&self.id, regex, &value));
            resolved.insert(regex.to_owned(), value);
        }
        let names = self.members.values().flat_map(|member| {
            let matched = member.regex().and_then(|regex| resolved.get(regex));
            member.value.topics.iter().chain(matched.into_iter().flat_map(|regex| &regex.topics))
        });
        let hash = hash_of(env.topics, names.cloned());
        if changed || hash != self.metadata_hash {
            let epoch = self.epoch.wrapping_add(1);
            records.push(records::metadata(&self.id, epoch, hash));
        }
        records
    }

    /// Tombstones of the expressions that only these members use.
    pub(super) fn unused_regexes(&self, gone: &[&str]) -> Vec<Record> {
        let used = |regex: &str| {
            let left = self.members.values().filter(|member| !gone.contains(&member.id.as_str()));
            left.filter_map(ConsumerMember::regex).any(|other| other == regex)
        };
        let unused = self.regexes.keys().filter(|regex| !used(regex));
        unused.map(|regex| records::regex_tombstone(&self.id, regex)).collect()
    }
}

fn compile(regex: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(1 << 20).build()
}

fn topics_of(env: &Env<'_>, regex: &str) -> BTreeSet<String> {
    let Ok(regex) = compile(regex) else { return BTreeSet::new() };
    env.topics
        .iter()
        .map(|(name, _, _)| name)
        .filter(|name| regex.is_match(name))
        .map(str::to_owned)
        .collect()
}
