"""What users of confluent-kafka who must authenticate do, on three brokers of the simulated Kafka.

Argument: the first broker's address. The user is anna, and the password is pencil.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

SERVERS = sys.argv[1]
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def checked(what):
    print("checked: " + what, flush=True)


def client(mechanism, name="anna", password="pencil", **config):
    security = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism}
    user = {"sasl.username": name, "sasl.password": password}
    return {"bootstrap.servers": SERVERS, **security, **user, **config}


def right(mechanism, **user):
    producer = Producer(client(mechanism, **user, **{"acks": "all"}))
    errors = []
    for number in range(10):
        producer.produce("secured", f"{mechanism} {number}", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(60) == 0
    assert errors == [None] * 10, errors
    group = {"group.id": f"of {mechanism} and {user}", "auto.offset.reset": "earliest"}
    consumer = Consumer(client(mechanism, **user, **group))
    consumer.subscribe(["secured"])
    values, end = set(), time.monotonic() + 60
    while len(values) < 10 and time.monotonic() < end:
        message = consumer.poll(1.0)
        if message is not None and not message.error():
            value = message.value().decode()
            values.update([value] if value.startswith(mechanism) else [])
    consumer.close()
    assert len(values) == 10, values


def wrong(mechanism, name, password, reason):
    """The errors that a client reports until it has learned of a refused password."""
    errors = []
    admin = AdminClient(client(mechanism, name, password, error_cb=errors.append))
    end = time.monotonic() + 30
    while not any(error.code() == KafkaError._AUTHENTICATION for error in errors):
        assert time.monotonic() < end, errors
        admin.poll(0.1)
    assert any(reason in error.str() for error in errors), errors


admin = AdminClient(client("SCRAM-SHA-512"))
admin.create_topics([NewTopic("secured", 1, 3)])["secured"].result(30)
for mechanism in MECHANISMS:
    right(mechanism)
    checked(f"the right password with {mechanism}")
    reason = "Invalid username or password" if mechanism == "PLAIN" else f"invalid credentials with SASL mechanism {mechanism}"
    wrong(mechanism, "anna", "pen", reason)
    wrong(mechanism, "otto", "pencil", reason)
    checked(f"wrong passwords with {mechanism}")

info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192)
admin.alter_user_scram_credentials([UserScramCredentialUpsertion("otto", info, b"brush")])["otto"].result(30)
end = time.monotonic() + 30
while "otto" not in admin.describe_user_scram_credentials().result(30):
    assert time.monotonic() < end
right("SCRAM-SHA-256", name="otto", password="brush")
wrong("SCRAM-SHA-512", "otto", "brush", "invalid credentials")
checked("a user that was added")

errors = []
plaintext = AdminClient({"bootstrap.servers": SERVERS, "error_cb": errors.append})
end = time.monotonic() + 30
while not errors:
    assert time.monotonic() < end
    plaintext.poll(0.1)
checked("a client that does not authenticate")
