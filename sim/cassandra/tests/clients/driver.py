"""What a user of the Python driver does first, on three nodes of the simulated Cassandra.

Arguments: the first node's address and the port. A line "DO kill 3" on standard output asks the parent process for
something; the response comes on standard input.
"""

import sys
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal

from cassandra import AlreadyExists, ConsistencyLevel, InvalidRequest, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, FallthroughRetryPolicy, TokenAwarePolicy
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, BatchType, SimpleStatement


def do(command):
    print("DO " + command, flush=True)
    response = sys.stdin.readline().strip()
    assert response == "ok" or response.startswith("ok:"), response


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def checked(what):
    print("checked: " + what, flush=True)


def metadata(cluster):
    hosts = {host.address: host for host in cluster.metadata.all_hosts()}
    assert sorted(hosts) == ["127.0.0.1", "127.0.0.2", "127.0.0.3"], hosts
    assert all(host.is_up and host.release_version.startswith("5.0") for host in hosts.values()), hosts
    assert {host.datacenter for host in hosts.values()} == {"datacenter1"}
    assert cluster.metadata.partitioner.endswith("Murmur3Partitioner")
    assert {"system", "system_schema"} <= set(cluster.metadata.keyspaces)
    checked("the driver reads nodes, partitioner and schema")


def definitions(cluster, session):
    session.execute(
        "CREATE KEYSPACE app WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}"
    )
    session.set_keyspace("app")
    session.execute(
        """CREATE TABLE readings (sensor text, day date, at timestamp, id uuid, value double, note text,
               tags frozen<set<text>>, owner text STATIC, PRIMARY KEY ((sensor, day), at, id))
           WITH CLUSTERING ORDER BY (at DESC, id ASC) AND gc_grace_seconds = 3600 AND comment = 'a comment'"""
    )
    table = cluster.metadata.keyspaces["app"].tables["readings"]
    assert [column.name for column in table.partition_key] == ["sensor", "day"]
    assert [column.name for column in table.clustering_key] == ["at", "id"]
    assert table.clustering_key[0].is_reversed and table.columns["owner"].is_static
    assert table.options["gc_grace_seconds"] == 3600 and table.options["comment"] == "a comment"
    assert "CLUSTERING ORDER BY (at DESC, id ASC)" in table.as_cql_query()
    replicas = cluster.metadata.get_replicas("app", b"anything")
    assert len(replicas) == 3, replicas
    session.execute("ALTER TABLE readings ADD unit text")
    assert "unit" in cluster.metadata.keyspaces["app"].tables["readings"].columns
    error = raises(AlreadyExists, lambda: session.execute("CREATE TABLE readings (a int PRIMARY KEY)"))
    assert (error.keyspace, error.table) == ("app", "readings")
    raises(SyntaxException, lambda: session.execute("SELEC * FROM readings"))
    raises(InvalidRequest, lambda: session.execute("SELECT nothing FROM readings"))
    checked("keyspaces and tables are made, changed and refused")


def rows(session):
    insert = session.prepare(
        "INSERT INTO readings (sensor, day, at, id, value, note, tags) VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    insert.consistency_level = ConsistencyLevel.QUORUM
    day = date(2024, 2, 29)
    for minute in range(60):
        at = datetime(2024, 2, 29, 12, minute, tzinfo=timezone.utc)
        session.execute(insert, ("s", day, at, uuid.UUID(int=minute), minute / 4, "größer", {"b", "a"}))
    session.execute("INSERT INTO readings (sensor, day, owner) VALUES ('s', '2024-02-29', 'me')")
    found = session.execute("SELECT * FROM readings WHERE sensor = 's' AND day = '2024-02-29' LIMIT 1").one()
    assert (found.at, found.value, found.note) == (datetime(2024, 2, 29, 12, 59), 14.75, "größer"), found
    assert (set(found.tags), found.owner) == ({"a", "b"}, "me"), found
    checked("values of many types come back")
    query = SimpleStatement("SELECT id FROM readings", fetch_size=7)
    result = session.execute(query)
    assert len(result.current_rows) == 7 and result.has_more_pages
    everything = [row.id.int for row in result]
    assert everything == list(range(59, -1, -1)), everything
    checked("results come in pages")
    futures = [session.execute_async("SELECT count(*) FROM readings") for _ in range(50)]
    assert all(future.result().one()[0] == 60 for future in futures)
    checked("many requests share a connection")


def batches(session):
    session.execute("CREATE TABLE counts (window text PRIMARY KEY, count int, price decimal)")
    insert = session.prepare("INSERT INTO counts (window, count, price) VALUES (?, ?, ?)")
    for kind in (BatchType.LOGGED, BatchType.UNLOGGED):
        for timestamp, count in ((2000, 2), (1000, 1)):
            # A batch has one timestamp for all that bring none.
            batch = BatchStatement(batch_type=kind, consistency_level=ConsistencyLevel.QUORUM)
            for window in ("a", "b"):
                batch.add(insert, (window, count, Decimal("1.50")))
            batch.add(SimpleStatement(f"UPDATE counts USING TIMESTAMP {timestamp} SET count = {count} WHERE window = 'c'"))
            if timestamp == 2000:
                session.execute(batch)
            else:
                session.execute(
                    f"BEGIN {'' if kind == BatchType.LOGGED else 'UNLOGGED'} BATCH USING TIMESTAMP {timestamp} "
                    "INSERT INTO counts (window, count) VALUES ('a', 1); "
                    "UPDATE counts SET count = 1 WHERE window = 'c'; APPLY BATCH"
                )
        found = {row.window: row for row in session.execute("SELECT window, count, price, writetime(count) AS at FROM counts")}
        assert {window: row.count for window, row in found.items()} == {"a": 2, "b": 2, "c": 2}, found
        assert found["c"].at == 2000 and found["a"].price == Decimal("1.50")
        assert found["a"].at > 1_600_000_000_000_000, "the driver's own timestamps"
        session.execute("TRUNCATE counts")
    applied = session.execute("INSERT INTO counts (window, count) VALUES ('x', 1) IF NOT EXISTS")
    assert applied.was_applied
    again = session.execute("INSERT INTO counts (window, count) VALUES ('x', 2) IF NOT EXISTS")
    assert not again.was_applied and again.one().count == 1
    checked("batches with timestamps, and conditions")


def a_killed_node(cluster, session):
    session.execute("CREATE TABLE log (p int, c int, PRIMARY KEY (p, c))")
    insert = session.prepare("INSERT INTO log (p, c) VALUES (?, ?)")
    insert.consistency_level = ConsistencyLevel.QUORUM
    insert.is_idempotent = True
    for c in range(100):
        if c == 30:
            do("kill 3")
        if c == 70:
            do("start 3")
        session.execute(insert, (c % 5, c))
    count = SimpleStatement("SELECT count(*) FROM log", consistency_level=ConsistencyLevel.QUORUM)
    assert session.execute(count).one()[0] == 100
    checked("quorums write on while a node is dead")
    do("kill 2")
    do("kill 3")
    write = SimpleStatement(
        "INSERT INTO log (p, c) VALUES (1, 1000)",
        consistency_level=ConsistencyLevel.ALL,
        retry_policy=FallthroughRetryPolicy(),
    )
    errors = []
    for _ in range(200):
        try:
            session.execute(write)
        except Unavailable as error:
            assert (error.required_replicas, error.alive_replicas) == (3, 1), error
            break
        except Exception as error:  # Timeouts, until the dead are known to be dead.
            errors.append(error)
    else:
        raise AssertionError(f"never unavailable: {errors[-3:]}")
    do("start 2")
    do("start 3")
    everything = SimpleStatement("SELECT count(*) FROM log", consistency_level=ConsistencyLevel.ALL)
    for _ in range(200):
        try:
            assert session.execute(everything).one()[0] >= 100
            break
        except Exception as error:
            errors.append(error)
    else:
        raise AssertionError(f"never all together: {errors[-3:]}")
    checked("unavailability is reported with its counts, and ends")


def main():
    address, port = sys.argv[1], int(sys.argv[2])
    profile = ExecutionProfile(load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy("datacenter1")))
    cluster = Cluster(
        [address],
        port=port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.2, None),
    )
    session = cluster.connect()
    metadata(cluster)
    definitions(cluster, session)
    rows(session)
    batches(session)
    a_killed_node(cluster, session)
    cluster.shutdown()


main()
