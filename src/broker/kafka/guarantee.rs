//! Checks the settings of a topic and its brokers against the requirements of the guarantee.
//!
//! A record that was read once must never change or disappear; otherwise the tables keep rows whose records are gone.
//! In Kafka that requires replicas: an acknowledged record is on `min.insync.replicas` of them, and only an in-sync
//! replica may become leader (`unclean.leader.election.enable=false`). Compaction must be off, because it deletes
//! records between two reads.
//!
//! A topic's settings come from its own configuration or from its brokers. Only in the second case can brokers
//! differ, so each broker's value is checked, too; that requires DescribeConfigs on the cluster.

use super::error::KafkaError;
use super::raw::{Description, Resource, Setting};
use crate::guarantee::{Finding, Verdict};

const MIN_INSYNC: &str = "min.insync.replicas";
const UNCLEAN: &str = "unclean.leader.election.enable";
const CLEANUP: &str = "cleanup.policy";

/// Settings that limit how long the log keeps unprocessed records.
const RETENTION: [&str; 2] = ["retention.ms", "retention.bytes"];

/// The findings about a topic. `settings` returns the settings of a resource.
///
/// # Errors
/// The errors of `settings`, except a missing permission, which is a finding.
pub(super) fn findings(
    topic: &str,
    described: &Description,
    settings: impl Fn(Resource<'_>) -> Result<Vec<Setting>, KafkaError>,
) -> Result<Vec<Finding>, KafkaError> {
    let replicas = described.replication;
    let mut findings = vec![Finding::new(
        format!("kafka topic {topic} replicas"),
        replicas.to_string(),
        of_replicas(replicas),
    )];
    let of_topic = |setting: &str| format!("kafka topic {topic} {setting}");
    let of_topic_all = match settings(Resource::Topic(topic)) {
        Ok(all) => all,
        Err(error) if error.is_missing_permission() => {
            let reason = format!("the user lacks the permission DescribeConfigs on topic {topic}");
            let names = [MIN_INSYNC, UNCLEAN, CLEANUP].into_iter().chain(RETENTION);
            findings.extend(names.map(|setting| Finding::unchecked(of_topic(setting), &*reason)));
            return Ok(findings);
        }
        Err(error) => return Err(error),
    };
    let find = |name: &str| of_topic_all.iter().find(|setting| setting.name == name);
    let mut inherited = Vec::new();
    for name in [MIN_INSYNC, UNCLEAN, CLEANUP] {
        let Some(setting) = find(name) else {
            findings.push(Finding::unchecked(of_topic(name), "the broker does not report it"));
            continue;
        };
        findings.push(Finding::new(of_topic(name), &*setting.value, judge(name, &setting.value, replicas)));
        if name != CLEANUP && !setting.of_topic {
            inherited.push(name);
        }
    }
    for name in RETENTION {
        if let Some(setting) = find(name) {
            findings.push(Finding::new(of_topic(name), &*setting.value, Verdict::Fine));
        }
    }
    for broker in described.brokers.iter().filter(|_| !inherited.is_empty()) {
        match settings(Resource::Broker(*broker)) {
            Ok(all) => findings.extend(inherited.iter().filter_map(|name| {
                let setting = all.iter().find(|setting| setting.name == *name)?;
                let verdict = judge(name, &setting.value, replicas);
                Some(Finding::new(format!("kafka broker {broker} {name}"), &*setting.value, verdict))
            })),
            Err(error) if error.is_missing_permission() => {
                let what = format!("kafka brokers {}", inherited.join(" and "));
                let reason = format!(
                    "topic {topic} inherits it from its brokers, and the user lacks the permission DescribeConfigs on \
                     the cluster; grant it, or set the value on the topic"
                );
                findings.push(Finding::unchecked(what, reason));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

fn of_replicas(replicas: usize) -> Verdict {
    match replicas {
        0 | 1 => Verdict::Warning(
            "with one replica, losing one broker's disk loses records: suitable for testing only".to_owned(),
        ),
        2 => Verdict::Warning(
            "with two replicas, either no broker may be down, or records may be lost".to_owned(),
        ),
        _ => Verdict::Fine,
    }
}

fn judge(setting: &str, value: &str, replicas: usize) -> Verdict {
    match setting {
        MIN_INSYNC => match value.trim().parse::<usize>() {
            Err(_) => Verdict::Unchecked("it is not a number".to_owned()),
            Ok(least) if least > replicas => {
                Verdict::Warning("it exceeds the number of replicas: no record can be appended".to_owned())
            }
            Ok(least) if least >= 2 => Verdict::Fine,
            Ok(_) if replicas >= 3 => Verdict::Refused(
                "a record that was read may be on one replica only and be lost with it; set it to 2".to_owned(),
            ),
            Ok(_) => Verdict::Warning("a record that was read may be on one replica only".to_owned()),
        },
        UNCLEAN if value.trim().eq_ignore_ascii_case("true") && replicas > 1 => Verdict::Refused(
            "a replica that lacks records may become leader, so records that were read can be lost; set it to false"
                .to_owned(),
        ),
        CLEANUP if is_compacted(value) => {
            Verdict::Refused("compaction deletes records between two reads; set it to delete".to_owned())
        }
        _ => Verdict::Fine,
    }
}

/// True if a `cleanup.policy` contains `compact`.
pub(super) fn is_compacted(policy: &str) -> bool {
    policy.split(',').any(|policy| policy.trim() == "compact")
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaErrorCode as Code;

    use super::*;

    fn setting(name: &str, value: &str, of_topic: bool) -> Setting {
        Setting { name: name.to_owned(), value: value.to_owned(), of_topic }
    }

    /// The findings, abbreviated, about a topic with this many replicas. `brokers` are the values of each broker, or an
    /// error.
    fn judged(
        replication: usize,
        settings: [&str; 3],
        of_topic: bool,
        brokers: Option<[&str; 2]>,
    ) -> Vec<(String, &'static str)> {
        let described = Description { id: "id".to_owned(), partitions: 1, replication, brokers: vec![1, 2] };
        let all = |resource: Resource<'_>| match (resource, brokers) {
            (Resource::Topic("t"), _) => {
                let names = [MIN_INSYNC, UNCLEAN, CLEANUP];
                Ok((0..3).map(|i| setting(names[i], settings[i], of_topic)).collect())
            }
            (Resource::Broker(_), Some([least, unclean])) => {
                Ok(vec![setting(MIN_INSYNC, least, false), setting(UNCLEAN, unclean, false)])
            }
            _ => Err(KafkaError::of(Code::ClusterAuthorizationFailed)),
        };
        let findings = findings("t", &described, all).unwrap();
        let short =
            |what: String| what.trim_start_matches("kafka ").trim_start_matches("topic t ").to_owned();
        findings.into_iter().map(|finding| (short(finding.what), finding.verdict.label())).collect()
    }

    fn verdicts(replication: usize, settings: [&str; 3]) -> Vec<&'static str> {
        judged(replication, settings, true, None).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn three_replicas_of_which_two_are_in_sync_are_fine() {
        assert_eq!(verdicts(3, ["2", "false", "delete"]), ["ok"; 4]);
    }

    #[test]
    fn what_breaks_the_guarantee_is_refused() {
        assert_eq!(verdicts(3, ["1", "false", "delete"]), ["ok", "refused", "ok", "ok"]);
        assert_eq!(verdicts(3, ["2", "true", "delete"]), ["ok", "ok", "refused", "ok"]);
        assert_eq!(verdicts(3, ["2", "false", "delete, compact"]), ["ok", "ok", "ok", "refused"]);
    }

    #[test]
    fn one_replica_is_a_warning() {
        assert_eq!(verdicts(1, ["1", "true", "delete"]), ["warning", "warning", "ok", "ok"]);
        assert_eq!(verdicts(2, ["1", "false", "delete"]), ["warning", "warning", "ok", "ok"]);
        assert_eq!(verdicts(1, ["2", "false", "delete"]), ["warning", "warning", "ok", "ok"]);
    }

    #[test]
    fn settings_that_a_topic_inherits_are_checked_on_each_of_its_brokers() {
        let judged = judged(3, ["2", "false", "delete"], false, Some(["1", "true"]));
        let of_brokers: Vec<_> = judged[4..].iter().map(|(what, label)| (what.as_str(), *label)).collect();
        let expected = [
            ("broker 1 min.insync.replicas", "refused"),
            ("broker 1 unclean.leader.election.enable", "refused"),
            ("broker 2 min.insync.replicas", "refused"),
            ("broker 2 unclean.leader.election.enable", "refused"),
        ];
        assert_eq!(of_brokers, expected);
    }

    #[test]
    fn a_missing_permission_is_reported() {
        let judged = judged(3, ["2", "false", "delete"], false, None);
        let last = judged.last().unwrap();
        assert_eq!((judged.len(), last.1), (5, "unchecked"));
        let described = Description { id: "id".to_owned(), partitions: 1, replication: 3, brokers: vec![] };
        let denied = |_: Resource<'_>| Err(KafkaError::of(Code::TopicAuthorizationFailed));
        let findings = findings("t", &described, denied).unwrap();
        assert_eq!(findings.len(), 6);
        for finding in &findings[1..] {
            let reason = finding.verdict.reason().unwrap();
            assert!(finding.verdict.label() == "unchecked" && reason.contains("DescribeConfigs on topic t"));
        }
        let timed_out = |_: Resource<'_>| Err(KafkaError::of(Code::OperationTimedOut));
        assert!(super::findings("t", &described, timed_out).is_err());
    }
}
