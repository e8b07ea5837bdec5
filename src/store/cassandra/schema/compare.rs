//! Compares the tables of a cluster with their description. Besides wrong columns and keys, table options with which
//! the protocol would lose rows are refused.

use std::collections::BTreeMap;

use super::found::{ColumnRole, Found, FoundColumn, FoundKeyspace, FoundTable};
use crate::store::Layout;
use crate::store::cassandra::difference::Difference;
use crate::store::cassandra::{CassandraOptions, Consistency};
use crate::store::cql::{Table, tables};

/// Facts about a correct schema.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::cassandra) struct Checked {
    /// The number of replicas; a quorum is more than half of them.
    pub(in crate::store::cassandra) replicas: u32,
    /// The number of datacenters in the replication settings; 0 if they name none.
    pub(in crate::store::cassandra) datacenters: usize,
    /// The replication settings of the keyspace.
    pub(in crate::store::cassandra) replication: BTreeMap<String, String>,
}

/// The expected columns, by name.
type Columns = BTreeMap<&'static str, FoundColumn>;

/// The columns that a correct table has in a cluster.
fn columns(table: &Table) -> Columns {
    let role = |name: &str| {
        if let Some(position) = table.partition_key.iter().position(|column| *column == name) {
            return ColumnRole::PartitionKey(position);
        }
        let clustering = table.clustering_key.iter().enumerate();
        let mut clustering = clustering.filter(|(_, (column, _))| *column == name);
        match clustering.next() {
            Some((position, (_, order))) => ColumnRole::ClusteringKey(position, *order),
            None => ColumnRole::Regular,
        }
    };
    let columns = table.columns.iter();
    columns
        .map(|column| (column.name, FoundColumn { data: column.data.to_string(), role: role(column.name) }))
        .collect()
}

impl Found {
    /// The first difference, in the order of the description.
    pub(super) fn difference(
        &self,
        options: &CassandraOptions,
        layout: Layout,
    ) -> Result<Checked, Difference> {
        let keyspace = options.keyspace.to_string();
        let Some(found) = &self.keyspace else { return Err(Difference::NoKeyspace { keyspace }) };
        if !found.durable_writes {
            return Err(Difference::NotDurable { keyspace });
        }
        let replicas = found.replicas(options)?;
        for expected in tables(layout.events) {
            let table = format!("{keyspace}.{}", expected.name);
            match self.tables.get(expected.name) {
                None => return Err(Difference::NoTable { table }),
                Some(found) => found.difference(&table, &columns(&expected), layout)?,
            }
        }
        let replication = found.replication.clone();
        Ok(Checked { replicas, datacenters: found.datacenters(), replication })
    }
}

impl FoundKeyspace {
    /// The number of datacenters with replicas, if the replication settings name datacenters.
    fn datacenters(&self) -> usize {
        if !self.replication.get("class").is_some_and(|class| class.ends_with("NetworkTopologyStrategy")) {
            return 0;
        }
        self.replication.iter().filter(|(key, value)| *key != "class" && *value != "0").count()
    }

    /// The number of replicas of a row that count for a quorum.
    fn replicas(&self, options: &CassandraOptions) -> Result<u32, Difference> {
        let number = |text: &String| text.parse::<u32>().ok();
        match (&options.datacenter, options.consistency) {
            (Some(datacenter), Consistency::LocalQuorum)
                if !self.replication.contains_key("replication_factor") =>
            {
                let replicas = self.replication.get(datacenter).and_then(number).filter(|n| *n > 0);
                replicas.ok_or_else(|| Difference::NoReplicas {
                    keyspace: options.keyspace.to_string(),
                    datacenter: datacenter.clone(),
                    replication: format!("{:?}", self.replication),
                })
            }
            _ => {
                let counted = self.replication.iter().filter(|(key, _)| *key != "class");
                Ok(counted.filter_map(|(_, value)| number(value)).sum())
            }
        }
    }
}

impl FoundTable {
    fn difference(&self, table: &str, expected: &Columns, layout: Layout) -> Result<(), Difference> {
        // In version 1 the source was in the partition key of the counts.
        let source = self.columns.get("source").map(|source| source.role);
        if expected.contains_key("shard") && matches!(source, Some(ColumnRole::PartitionKey(_))) {
            return Err(Difference::OlderVersion { table: table.to_owned() });
        }
        if expected.contains_key("bucket") != self.columns.contains_key("bucket") {
            let has = if self.columns.contains_key("bucket") { "has" } else { "does not have" };
            return Err(Difference::Layout {
                table: table.to_owned(),
                has,
                layout: layout.events.to_string(),
            });
        }
        let nothing = || "no such column".to_owned();
        let differ = |column: &str, expected: String, found: String| {
            Err(Difference::Column { table: table.to_owned(), column: column.to_owned(), expected, found })
        };
        for (name, column) in expected {
            match self.columns.get(*name) {
                Some(found) if found == column => {}
                found => {
                    return differ(
                        name,
                        column.to_string(),
                        found.map_or_else(nothing, FoundColumn::to_string),
                    );
                }
            }
            if self.dropped.iter().any(|dropped| dropped == name) {
                return Err(Difference::AddedAgain { table: table.to_owned(), column: (*name).to_owned() });
            }
        }
        if let Some((name, found)) =
            self.columns.iter().find(|(name, _)| !expected.contains_key(name.as_str()))
        {
            return differ(name, nothing(), found.to_string());
        }
        let wrong =
            |option: String, reason| Err(Difference::Option { table: table.to_owned(), option, reason });
        if self.compaction.ends_with("TimeWindowCompactionStrategy") {
            return wrong(
                "TimeWindowCompactionStrategy".to_owned(),
                "it sorts rows by write timestamp, but here timestamps are positions in the log",
            );
        }
        if self.time_to_live != 0 {
            let option = format!("default_time_to_live = {}", self.time_to_live);
            return wrong(option, "rows would expire, and counts would start again from 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cql::{Keyspace, Order};

    const BUCKETED: Layout = Layout::bucketed(std::num::NonZeroU32::new(4).unwrap());

    fn keyspace() -> Keyspace {
        Keyspace::try_from("k".to_owned()).unwrap()
    }

    /// A cluster that has the described tables.
    fn correct(layout: Layout) -> Found {
        let found = |table: Table| {
            let columns = columns(&table).into_iter().map(|(name, column)| (name.to_owned(), column));
            (table.name.to_owned(), FoundTable { columns: columns.collect(), ..FoundTable::default() })
        };
        let replication = [("class", "SimpleStrategy"), ("replication_factor", "3")];
        let replication = replication.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Found {
            keyspace: Some(FoundKeyspace { durable_writes: true, replication: replication.into() }),
            tables: tables(layout.events).into_iter().map(found).collect(),
        }
    }

    fn options() -> CassandraOptions {
        CassandraOptions::new(vec!["a".to_owned()], keyspace())
    }

    #[test]
    fn the_described_tables_are_correct() {
        for layout in [Layout::ORIGINAL, BUCKETED] {
            assert_eq!(correct(layout).difference(&options(), layout).unwrap().replicas, 3);
        }
    }

    #[test]
    fn columns_are_compared_by_type_and_role() {
        let described = |layout: Layout| -> BTreeMap<String, String> {
            let of_table = |table: Table| {
                let columns = columns(&table).into_iter();
                columns.map(move |(name, column)| (format!("{}.{name}", table.name), column.to_string()))
            };
            tables(layout.events).into_iter().flat_map(of_table).collect()
        };
        let original = described(Layout::ORIGINAL);
        for (name, expected) in [
            ("events.partition", "int, number 1 of the partition key"),
            ("events.offset", "bigint, number 1 of the clustering key, desc"),
            ("events.ts", "timestamp, not in the key"),
            ("alerts.ts", "timestamp, number 1 of the clustering key, asc"),
            ("window_counts.shard", "int, number 3 of the partition key"),
            ("window_counts.window_end", "timestamp, number 1 of the clustering key, asc"),
            ("window_counts.source", "text, number 2 of the clustering key, asc"),
            ("progress.partition", "int, number 1 of the partition key"),
            ("pipeline.health", "frozen<set<int>>, not in the key"),
            ("pipeline.origins", "frozen<map<int, bigint>>, not in the key"),
        ] {
            assert_eq!(original.get(name).map(String::as_str), Some(expected), "{name}");
        }
        assert_eq!(original.len(), 7 + 3 + 7 + 2 + 3 + 9 + 16);
        let bucketed = described(BUCKETED);
        assert_eq!(bucketed["events.bucket"], "bigint, number 2 of the partition key");
        assert_eq!(bucketed.len(), original.len() + 1);
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        type Change = fn(&mut Found);
        fn table<'a>(found: &'a mut Found, name: &str) -> &'a mut FoundTable {
            found.tables.get_mut(name).unwrap()
        }
        fn column<'a>(found: &'a mut Found, name: &str, column: &str) -> &'a mut FoundColumn {
            table(found, name).columns.get_mut(column).unwrap()
        }
        let changes: [(Change, &str); 13] = [
            (
                |found| found.keyspace = None,
                "keyspace k does not exist: `exactlyonce schema apply` creates it",
            ),
            (
                |found| found.keyspace.as_mut().unwrap().durable_writes = false,
                "keyspace k has durable_writes = false: a node that is killed loses what it acknowledged",
            ),
            (
                |found| drop(found.tables.remove("progress")),
                "table k.progress does not exist: `exactlyonce schema apply` creates it",
            ),
            (
                |found| column(found, "window_counts", "source").role = ColumnRole::PartitionKey(0),
                "table k.window_counts is keyed as in schema version 1, and this program requires version 2: start over \
                 in a new keyspace (`store.keyspace`), from the log's start or with `init --from`, and keep the old \
                 one until the new one has caught up",
            ),
            (
                |found| {
                    let bucket = FoundColumn { data: "bigint".to_owned(), role: ColumnRole::PartitionKey(1) };
                    table(found, "events").columns.insert("bucket".to_owned(), bucket);
                },
                "table k.events has a column bucket, so its layout is not original",
            ),
            (
                |found| column(found, "events", "id").data = "int".to_owned(),
                "table k.events column id: expected bigint, not in the key, found int, not in the key",
            ),
            (
                |found| {
                    column(found, "events", "offset").role = ColumnRole::ClusteringKey(0, Order::Ascending)
                },
                "table k.events column offset: expected bigint, number 1 of the clustering key, desc, found bigint, \
                 number 1 of the clustering key, asc",
            ),
            (
                |found| column(found, "alerts", "event_count").role = ColumnRole::Static,
                "table k.alerts column event_count: expected int, not in the key, found int, static",
            ),
            (
                |found| drop(table(found, "events").columns.remove("client")),
                "table k.events column client: expected text, not in the key, found no such column",
            ),
            (
                |found| {
                    let note = FoundColumn { data: "text".to_owned(), role: ColumnRole::Regular };
                    table(found, "alerts").columns.insert("note".to_owned(), note);
                },
                "table k.alerts column note: expected no such column, found text, not in the key",
            ),
            (
                |found| table(found, "events").dropped.push("client".to_owned()),
                "table k.events column client was dropped and added again: everything written at a timestamp before \
                 that time is hidden, and so is everything that this program writes. use a different keyspace",
            ),
            (
                |found| {
                    let class = "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy";
                    table(found, "events").compaction = class.to_owned();
                },
                "table k.events has TimeWindowCompactionStrategy: it sorts rows by write timestamp, but here timestamps are \
                 positions in the log",
            ),
            (
                |found| table(found, "dead_letters").time_to_live = 10,
                "table k.dead_letters has default_time_to_live = 10: rows would expire, and counts would start again from 0",
            ),
        ];
        for (change, expected) in changes {
            let mut found = correct(Layout::ORIGINAL);
            change(&mut found);
            let difference = found.difference(&options(), Layout::ORIGINAL).unwrap_err();
            assert_eq!(difference.to_string(), expected);
        }
        let difference = correct(Layout::ORIGINAL).difference(&options(), BUCKETED).unwrap_err();
        assert_eq!(
            difference.to_string(),
            "table k.events does not have a column bucket, so its layout is not bucketed:4"
        );
    }

    #[test]
    fn datacenters_are_those_with_replicas_that_the_replication_names() {
        let datacenters = |replication: &[(&str, &str)]| {
            let replication = replication.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let mut found = correct(Layout::ORIGINAL);
            found.keyspace.as_mut().unwrap().replication = replication.collect();
            found.difference(&options(), Layout::ORIGINAL).unwrap().datacenters
        };
        assert_eq!(datacenters(&[("class", "SimpleStrategy"), ("replication_factor", "3")]), 0);
        let class = ("class", "org.apache.cassandra.locator.NetworkTopologyStrategy");
        assert_eq!(datacenters(&[class, ("paris", "3")]), 1);
        assert_eq!(datacenters(&[class, ("paris", "3"), ("oslo", "1")]), 2);
        assert_eq!(datacenters(&[class, ("paris", "3"), ("oslo", "1"), ("rome", "0")]), 2);
    }

    #[test]
    fn a_local_quorum_is_of_all_replicas_where_the_replication_names_no_datacenter() {
        let local = CassandraOptions {
            datacenter: Some("paris".to_owned()),
            consistency: Consistency::LocalQuorum,
            ..options()
        };
        let checked = correct(Layout::ORIGINAL).difference(&local, Layout::ORIGINAL).unwrap();
        assert_eq!(checked.replicas, 3);
    }

    #[test]
    fn a_local_quorum_is_of_the_replicas_of_its_datacenter() {
        let mut found = correct(Layout::ORIGINAL);
        let replication =
            [("class", "NetworkTopologyStrategy"), ("paris", "3"), ("oslo", "5"), ("rome", "0")];
        found.keyspace.as_mut().unwrap().replication =
            replication.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let replicas = |datacenter: &str, consistency| {
            let datacenter = Some(datacenter.to_owned());
            let options = CassandraOptions { datacenter, consistency, ..options() };
            found.difference(&options, Layout::ORIGINAL).map(|checked| checked.replicas)
        };
        assert_eq!(replicas("paris", Consistency::Quorum), Ok(8));
        assert_eq!(replicas("paris", Consistency::LocalQuorum), Ok(3));
        for none in ["rome", "lyon"] {
            let refused = replicas(none, Consistency::LocalQuorum);
            assert!(matches!(refused, Err(Difference::NoReplicas { .. })), "{refused:?}");
        }
    }
}
