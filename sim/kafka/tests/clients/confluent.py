"""What a user of confluent-kafka does, on three brokers of the simulated Kafka.

Argument: the first broker's address. A line "DO kill 3" on standard output asks the parent process for something; the
response comes on standard input.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

SERVERS = sys.argv[1]


def do(command):
    print("DO " + command, flush=True)
    response = sys.stdin.readline().strip()
    assert response == "ok" or response.startswith("ok:"), response


def checked(what):
    print("checked: " + what, flush=True)


def create(admin, name, partitions=3, **config):
    futures = admin.create_topics([NewTopic(name, partitions, 3, config=config)])
    futures[name].result(30)


def lead(topic, partition):
    """Lets the next broker lead a partition. It may not be in sync for a moment after a start."""
    metadata = AdminClient({"bootstrap.servers": SERVERS}).list_topics(topic, timeout=30).topics[topic]
    leader = metadata.partitions[partition].leader
    do(f"move {topic} {partition} {leader % 3 + 1}")


def produce(topic, count, **config):
    errors = []
    producer = Producer({"bootstrap.servers": SERVERS, "acks": "all", "enable.idempotence": True, **config})
    for number in range(count):
        producer.produce(topic, str(number), str(number % 7), on_delivery=lambda error, _: errors.append(error))
        producer.poll(0)
    assert producer.flush(90) == 0
    assert errors == [None] * count, [error for error in errors if error][:3]


def consume(topic, count, group, protocol="classic", faults=lambda seen: None, **config):
    """The values that a group reads, each record once if no member commits in between."""
    settings = {"bootstrap.servers": SERVERS, "group.id": group, "auto.offset.reset": "earliest", "group.protocol": protocol}
    consumer = Consumer({**settings, "enable.auto.commit": False, **config})
    consumer.subscribe([topic])
    values, end = [], time.monotonic() + 120
    while len(values) < count and time.monotonic() < end:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            assert message.error().retriable() or not message.error().fatal(), message.error()
            continue
        values.append(int(message.value()))
        faults(len(values))
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


def administration():
    admin = AdminClient({"bootstrap.servers": SERVERS})
    assert len(admin.list_topics(timeout=30).brokers) == 3
    create(admin, "settings", 2, **{"cleanup.policy": "compact"})
    try:
        create(admin, "settings")
        raise AssertionError("created twice")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    try:
        create(admin, "wrong", 1, **{"cleanup.policy": "nothing"})
        raise AssertionError("created with a wrong configuration")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.INVALID_CONFIG, error
    admin.create_partitions([NewPartitions("settings", 4)])["settings"].result(30)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "settings")
    config = admin.describe_configs([resource])[resource].result(30)
    assert config["cleanup.policy"].value == "compact"
    end = time.monotonic() + 30
    while len(admin.list_topics("settings", timeout=30).topics["settings"].partitions) != 4:
        assert time.monotonic() < end, "no new partitions"
        time.sleep(0.1)
    admin.delete_topics(["settings"])["settings"].result(30)
    checked("topics are made, refused, changed and deleted")


def compression(admin):
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = f"compressed-{codec}"
        create(admin, topic)
        produce(topic, 500, **{"compression.type": codec, "linger.ms": 20})
        values = consume(topic, 500, f"group-{codec}")
        assert sorted(values) == list(range(500)), (codec, len(values))
    checked("records of every compression are produced and consumed")


def groups(admin):
    create(admin, "shared")
    produce("shared", 1000)

    def faults(seen):
        if seen == 200:
            lead("shared", 0)
        if seen == 400:
            do("kill 3")
        if seen == 700:
            do("start 3")

    for protocol in ("classic", "consumer"):
        # Few records at once, so that the faults come while there is more to fetch.
        few = {"fetch.message.max.bytes": 2000, "queued.min.messages": 1}
        values = consume("shared", 1000, f"members-{protocol}", protocol, faults, **few)
        assert sorted(values) == list(range(1000)), (protocol, len(values))
        reader = Consumer({"bootstrap.servers": SERVERS, "group.id": f"members-{protocol}"})
        partitions = [TopicPartition("shared", number) for number in range(3)]
        committed = sum(position.offset for position in reader.committed(partitions, timeout=60) if position.offset > 0)
        reader.close()
        assert committed == 1000, (protocol, committed)
    checked("groups of both protocols read each record while a leader moves and a broker dies")


def idempotence(admin):
    create(admin, "acknowledged", 3, **{"min.insync.replicas": "2"})
    errors = []
    producer = Producer({"bootstrap.servers": SERVERS, "enable.idempotence": True, "linger.ms": 1})
    for number in range(900):
        if number == 200:
            do("kill 2")
        if number == 400:
            do("start 2")
        if number == 600:
            lead("acknowledged", 1)
        producer.produce("acknowledged", str(number), str(number), on_delivery=lambda error, _: errors.append(error))
        producer.poll(0.002)
    assert producer.flush(90) == 0
    assert errors == [None] * 900, [error for error in errors if error][:3]
    values = consume("acknowledged", 900, "readers")
    assert sorted(values) == list(range(900)), len(values)
    checked("an idempotent producer writes each record once while a broker dies and a leader moves")


def transactions(admin):
    create(admin, "decided", 3)
    producer = Producer({"bootstrap.servers": SERVERS, "transactional.id": "writer"})
    producer.init_transactions(60)
    for number in range(30):
        if number == 8:
            do("kill 1")
        if number == 16:
            do("start 1")
        if number == 24:
            lead("decided", 2)
        producer.begin_transaction()
        for place in range(10):
            producer.produce("decided", str(number * 10 + place), str(place))
        finish = producer.abort_transaction if number % 3 == 2 else producer.commit_transaction
        while True:
            try:
                # librdkafka ends a transaction also if the coordinator refused each partition with CONCURRENT_TRANSACTIONS, and
                # is then fenced with INVALID_TXN_STATE; an abort does not wait for the partitions, a flush does.
                producer.flush(60)
                finish(60)
                break
            except KafkaException as error:
                assert error.args[0].retriable(), error
    committed = [value for value in range(300) if value // 10 % 3 != 2]
    values = consume("decided", len(committed), "committed", **{"isolation.level": "read_committed"})
    assert sorted(values) == committed, len(values)
    fenced = Producer({"bootstrap.servers": SERVERS, "transactional.id": "writer"})
    fenced.init_transactions(60)
    try:
        producer.begin_transaction()
        producer.produce("decided", "0")
        producer.commit_transaction(60)
        raise AssertionError("a fenced producer committed")
    except KafkaException as error:
        assert error.args[0].fatal(), error
    checked("committed transactions are read and aborted ones are not while a broker dies and a leader moves")


def main():
    administration()
    admin = AdminClient({"bootstrap.servers": SERVERS})
    compression(admin)
    groups(admin)
    idempotence(admin)
    transactions(admin)


main()
