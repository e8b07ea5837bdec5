//! Checks the requirements of the guarantee that the cluster reports: see [`crate::guarantee`].
//!
//! Settings are read from `system_views.settings` (Cassandra 4.0 and later). That is a virtual table: each node
//! returns its own settings, so every node is queried. Guardrails are settings of the nodes, too, and do not apply to
//! superusers (Cassandra, `Guardrail.enabled`), so a trial write shows what the role of this session is allowed to
//! do.

use std::collections::BTreeMap;

use scylla::cluster::NodeRef;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::frame::types::Consistency as Level;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::unprepared::Statement;

use super::{Connection, Failed};
use crate::guarantee::{Finding, Verdict};
use crate::store::SCHEMA_VERSION;

/// The settings that are checked.
const SETTINGS: [&str; 4] = [
    "commitlog_sync",
    "user_timestamps_enabled",
    "minimum_timestamp_fail_threshold",
    "minimum_timestamp_warn_threshold",
];

/// The key of the row of `pipeline` that trial writes write. It is never read.
const TRIAL: &str = "trial";

/// Requirements that no table reports.
const NOT_REPORTED: [(&str, &str); 2] = [
    (
        "cassandra repairs",
        "a node that lost its disk or, with commitlog_sync periodic, its power must be repaired before it serves again",
    ),
    (
        "cassandra writes by others",
        "no other program may write to the tables or delete from them: with wall-clock timestamps that would hide all later \
         rows",
    ),
];

/// A node's settings, or why they cannot be read.
type Settings = Result<BTreeMap<String, Option<String>>, String>;

impl Connection {
    pub(super) async fn guarantees(&self) -> Result<Vec<Finding>, Failed> {
        let mut findings = vec![replication(&self.keyspace, &self.replication, self.replicas)];
        // The store was opened, so these are valid (`schema/compare.rs`).
        for option in ["durable_writes", "default_time_to_live, compaction"] {
            let what = format!("cassandra keyspace {} {option}", self.keyspace);
            findings.push(Finding { what, value: None, verdict: Verdict::Fine });
        }
        let mut nodes = Vec::new();
        for node in self.session.get_cluster_state().get_nodes_info() {
            nodes.push((node.address.ip().to_string(), self.settings_of(node).await));
        }
        findings.extend(of_nodes(&nodes));
        findings.push(self.trial_write().await?);
        findings.extend(NOT_REPORTED.map(|(what, reason)| Finding::unchecked(what, reason)));
        Ok(findings)
    }

    async fn settings_of(&self, node: NodeRef<'_>) -> Settings {
        let mut statement = Statement::new("SELECT name, value FROM system_views.settings");
        statement.set_consistency(Level::One);
        statement.set_is_idempotent(true);
        let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
        statement.set_load_balancing_policy(Some(only));
        let response = self.session.query_unpaged(statement, ()).await.map_err(|error| message(&error))?;
        let rows = response.into_rows_result().map_err(|error| error.to_string())?;
        let rows = rows.rows::<(String, Option<String>)>().map_err(|error| error.to_string())?;
        rows.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    /// Writes a row that is always the same at the lowest timestamp that the protocol uses.
    async fn trial_write(&self) -> Result<Finding, Failed> {
        let what = "cassandra write at timestamp 1";
        let cql = format!(
            "INSERT INTO {} (name, schema_version) VALUES (?, ?) USING TIMESTAMP 1",
            self.of("pipeline")
        );
        let error = match self.session.query_unpaged(cql, (TRIAL, SCHEMA_VERSION)).await {
            Ok(response) => {
                let warnings: Vec<&str> = response.warnings().collect();
                let verdict = match warnings.is_empty() {
                    true => Verdict::Fine,
                    false => Verdict::Warning(warnings.join("; ")),
                };
                return Ok(Finding { what: what.to_owned(), value: None, verdict });
            }
            Err(error) => error,
        };
        let verdict = match &error {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                DbError::Unauthorized,
                message,
            )) => Verdict::Unchecked(message.clone()),
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid, message)) => {
                Verdict::Refused(format!("every row is written at its position in the log, but: {message}"))
            }
            error => {
                return Err(self.failed(|| format!("write a trial row to {}", self.of("pipeline")), error));
            }
        };
        Ok(Finding { what: what.to_owned(), value: None, verdict })
    }
}

/// The server's message if it responded, else the driver's.
fn message(error: &ExecutionError) -> String {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(_, message)) => message.clone(),
        error => error.to_string(),
    }
}

fn replication(keyspace: &str, replication: &BTreeMap<String, String>, replicas: u32) -> Finding {
    let mut counts: Vec<String> = Vec::new();
    let mut class = "";
    for (key, value) in replication {
        match key.as_str() {
            "class" => class = value.rsplit('.').next().unwrap_or(value),
            "replication_factor" => counts.push(value.clone()),
            datacenter => counts.push(format!("{value} in {datacenter}")),
        }
    }
    let verdict = match replicas {
        3.. => Verdict::Fine,
        _ => Verdict::Warning(
            "with fewer than 3 replicas a quorum is all of them: no node may be down, and after the loss of a disk \
             its rows are lost or on one node only"
                .to_owned(),
        ),
    };
    let value = format!("{class}, {}", counts.join(", "));
    Finding::new(format!("cassandra keyspace {keyspace} replication"), value, verdict)
}

/// One finding for each setting and value, with the names of the nodes if they differ.
fn of_nodes(nodes: &[(String, Settings)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for setting in SETTINGS {
        let mut by_value: BTreeMap<Result<Option<&str>, &str>, Vec<&str>> = BTreeMap::new();
        for (node, settings) in nodes {
            let value = match settings {
                // A guardrail that the version does not have has no effect.
                Ok(settings) => Ok(settings.get(setting).and_then(Option::as_deref)),
                Err(reason) => Err(reason.as_str()),
            };
            by_value.entry(value).or_default().push(node);
        }
        let alike = by_value.len() == 1;
        for (value, nodes) in by_value {
            let what = match alike {
                true => format!("cassandra {setting}"),
                false => format!("cassandra {setting} on {}", nodes.join(", ")),
            };
            findings.push(match value {
                Ok(value) => Finding::new(what, value.unwrap_or("not set"), judge(setting, value)),
                Err(reason) => Finding::unchecked(what, format!("system_views.settings: {reason}")),
            });
        }
    }
    findings
}

fn judge(setting: &str, value: Option<&str>) -> Verdict {
    match (setting, value) {
        ("commitlog_sync", Some("batch" | "group")) => Verdict::Fine,
        ("commitlog_sync", Some("periodic")) => Verdict::Warning(
            "a node that loses power loses what it acknowledged in the last period; it must be repaired before it \
             serves again. use batch or group"
                .to_owned(),
        ),
        ("commitlog_sync", _) => Verdict::Unchecked("it is not one of batch, group and periodic".to_owned()),
        ("user_timestamps_enabled", Some("false")) => Verdict::Refused(
            "every write carries its position in the log as its timestamp, which this guardrail forbids".to_owned(),
        ),
        ("minimum_timestamp_fail_threshold", Some(_)) => Verdict::Refused(
            "timestamps are positions in the log, which this guardrail treats as dates in 1970 and refuses. unset it"
                .to_owned(),
        ),
        ("minimum_timestamp_warn_threshold", Some(_)) => Verdict::Warning(
            "timestamps are positions in the log, so this guardrail warns about every write".to_owned(),
        ),
        _ => Verdict::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, settings: &[(&str, Option<&str>)]) -> (String, Settings) {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
        (address.to_owned(), Ok(settings.collect()))
    }

    fn shown(nodes: &[(String, Settings)]) -> Vec<(&'static str, String)> {
        of_nodes(nodes).iter().map(|finding| (finding.verdict.label(), finding.to_string())).collect()
    }

    #[test]
    fn settings_that_keep_the_guarantee_are_fine_and_those_that_break_it_refused() {
        let right = [("commitlog_sync", Some("group")), ("user_timestamps_enabled", Some("true"))];
        let alike = [node("10.0.0.1", &right), node("10.0.0.2", &right)];
        assert_eq!(
            shown(&alike),
            [
                ("ok", "cassandra commitlog_sync is group".to_owned()),
                ("ok", "cassandra user_timestamps_enabled is true".to_owned()),
                ("ok", "cassandra minimum_timestamp_fail_threshold is not set".to_owned()),
                ("ok", "cassandra minimum_timestamp_warn_threshold is not set".to_owned()),
            ]
        );
        for (setting, value, label) in [
            ("commitlog_sync", "batch", "ok"),
            ("commitlog_sync", "periodic", "warning"),
            ("commitlog_sync", "never", "unchecked"),
            ("user_timestamps_enabled", "false", "refused"),
            ("minimum_timestamp_fail_threshold", "1d", "refused"),
            ("minimum_timestamp_warn_threshold", "1d", "warning"),
        ] {
            assert_eq!(judge(setting, Some(value)).label(), label, "{setting} {value}");
        }
    }

    #[test]
    fn nodes_that_differ_are_named_and_one_without_settings_is_unchecked() {
        let mut nodes = vec![
            node("10.0.0.1", &[("commitlog_sync", Some("batch"))]),
            node("10.0.0.2", &[("commitlog_sync", Some("periodic"))]),
            node("10.0.0.3", &[("commitlog_sync", Some("batch"))]),
        ];
        nodes.push(("10.0.0.4".to_owned(), Err("no permission".to_owned())));
        let shown = shown(&nodes);
        let of_sync: Vec<_> = shown.iter().filter(|(_, line)| line.contains("commitlog_sync")).collect();
        assert_eq!(of_sync.len(), 3, "{of_sync:#?}");
        let has = |label: &str, start: &str| {
            assert!(
                of_sync.iter().any(|(found, line)| *found == label && line.starts_with(start)),
                "{label} {start}: {of_sync:#?}"
            );
        };
        has("ok", "cassandra commitlog_sync on 10.0.0.1, 10.0.0.3 is batch");
        has("warning", "cassandra commitlog_sync on 10.0.0.2 is periodic: ");
        has("unchecked", "cassandra commitlog_sync on 10.0.0.4: system_views.settings: no permission");
    }

    #[test]
    fn few_replicas_are_a_warning() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let simple =
            map(&[("class", "org.apache.cassandra.locator.SimpleStrategy"), ("replication_factor", "1")]);
        let one = replication("k", &simple, 1);
        assert_eq!((one.verdict.label(), one.value.as_deref()), ("warning", Some("SimpleStrategy, 1")));
        let two = map(&[("class", "NetworkTopologyStrategy"), ("oslo", "3"), ("paris", "3")]);
        let three = replication("k", &two, 3);
        let value = Some("NetworkTopologyStrategy, 3 in oslo, 3 in paris");
        assert_eq!((three.verdict.label(), three.value.as_deref()), ("ok", value));
    }
}
