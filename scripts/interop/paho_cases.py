"""RingMQ against Paho for Python: prints a line per case, `ok<TAB>name` or `FAIL<TAB>name<TAB>why`, and `end`."""

import queue
import sys
import threading
import time

import paho.mqtt.client as mqtt

PORT = int(sys.argv[1])
UNIX_SOCKET = sys.argv[2]
PATIENCE = 15


class Client:
    """A connected client whose messages and acknowledgements can be waited for."""

    def __init__(self, client_id="", clean=True, will=None, protocol=mqtt.MQTTv311, connect=True, unix=False):
        self.messages = queue.Queue()
        self.events = queue.Queue()
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=protocol,
            transport="unix" if unix else "tcp",
        )
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_connect = lambda _c, _u, flags, code, _p: self.events.put(("connect", flags, code))
        self.paho.on_subscribe = lambda _c, _u, mid, codes, _p: self.events.put(("suback", mid, codes))
        self.paho.on_unsubscribe = lambda _c, _u, mid, _codes, _p: self.events.put(("unsuback", mid, None))
        self.paho.on_disconnect = lambda _c, _u, _flags, code, _p: self.events.put(("disconnect", None, code))
        self.paho.max_inflight_messages_set(100)
        if will:
            self.paho.will_set(*will)
        if connect:
            self.paho.connect(UNIX_SOCKET if unix else "127.0.0.1", PORT)
            self.paho.loop_start()
            _, self.flags, code = self.wait("connect")
            assert not code.is_failure, code

    def wait(self, kind):
        deadline = time.monotonic() + PATIENCE
        while True:
            event = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if event[0] == kind:
                return event

    def subscribe(self, *filters):
        self.paho.subscribe([(filter, qos) for filter, qos in filters])
        return [code.value for code in self.wait("suback")[2]]

    def publish(self, topic, payload=b"", qos=0, retain=False):
        info = self.paho.publish(topic, payload, qos, retain)
        info.wait_for_publish(PATIENCE)
        assert info.is_published(), f"{topic} was not acknowledged"

    def take(self, count):
        return [self.messages.get(timeout=PATIENCE) for _ in range(count)]

    def nothing_more(self):
        """Whatever was published before has come once a message published now has."""
        marker = f"marker/{id(self)}"
        self.subscribe((marker, 0))
        self.publish(marker, b"end")
        message = self.messages.get(timeout=PATIENCE)
        assert message.topic == marker, f"unexpected {message.topic}"

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def vanish(self):
        """Ends the socket without DISCONNECT."""
        self.paho.on_disconnect = None
        self.paho.loop_stop()
        self.paho.socket().close()


def all_qos_pairs():
    publisher = Client()
    for published in range(3):
        for granted in range(3):
            subscriber = Client()
            assert subscriber.subscribe(("pair/#", granted)) == [granted]
            publisher.publish("pair/x", b"hi", published)
            (message,) = subscriber.take(1)
            assert (message.qos, message.payload) == (min(published, granted), b"hi"), message.qos
            subscriber.close()
    publisher.close()


def order_and_count_under_load():
    subscriber, publisher = Client(), Client()
    subscriber.subscribe(("load/+", 2))
    for n in range(2000):
        publisher.paho.publish(f"load/{n % 3}", str(n), n % 3)
    messages = subscriber.take(2000)
    for level in range(3):
        values = [int(message.payload) for message in messages if message.qos == level]
        assert values == sorted(values) and len(set(values)) == len(values), f"QoS {level} out of order"
    subscriber.nothing_more()
    subscriber.close()
    publisher.close()


def retained_with_every_qos():
    publisher = Client()
    for qos in range(3):
        publisher.publish(f"retained/{qos}", f"v{qos}".encode(), qos, retain=True)
    subscriber = Client()
    subscriber.subscribe(("retained/#", 2))
    messages = sorted(subscriber.take(3), key=lambda message: message.topic)
    assert [(message.qos, message.retain) for message in messages] == [(0, True), (1, True), (2, True)]
    for qos in range(3):
        publisher.publish(f"retained/{qos}", b"", qos, retain=True)
    subscriber.take(3)
    late = Client()
    late.subscribe(("retained/#", 2))
    late.nothing_more()
    for client in (publisher, subscriber, late):
        client.close()


def will_with_retain():
    watcher = Client()
    watcher.subscribe(("will/x", 2))
    Client("doomed", will=("will/x", b"gone", 2, True)).vanish()
    (message,) = watcher.take(1)
    assert (message.payload, message.qos, message.retain) == (b"gone", 2, False)
    polite = Client("polite", will=("will/x", b"never", 2, True))
    polite.close()
    watcher.nothing_more()
    late = Client()
    late.subscribe(("will/x", 1))
    assert late.take(1)[0].payload == b"gone"
    watcher.publish("will/x", b"", 1, retain=True)
    watcher.close()
    late.close()


def persistent_session():
    first = Client("persistent", clean=False)
    assert not first.flags.session_present
    first.subscribe(("persistent/#", 2))
    first.vanish()
    publisher = Client()
    for n in range(30):
        publisher.publish("persistent/x", str(n).encode(), n % 3)
    again = Client("persistent", clean=False)
    assert again.flags.session_present
    messages = again.take(20)
    # Paho hands a QoS 2 message over at PUBREL, so order is compared per QoS.
    for qos in (1, 2):
        values = [int(message.payload) for message in messages if message.qos == qos]
        assert values == [n for n in range(30) if n % 3 == qos], values
    again.close()
    clean = Client("persistent", clean=True)
    assert not clean.flags.session_present
    clean.nothing_more()
    clean.close()
    publisher.close()


def takeover():
    first = Client("same", will=("takeover/will", b"taken", 1, False))
    watcher = Client()
    watcher.subscribe(("takeover/will", 1))
    first.paho._reconnect_on_failure = False
    second = Client("same")
    first.wait("disconnect")
    assert watcher.take(1)[0].payload == b"taken"
    second.nothing_more()
    watcher.nothing_more()
    for client in (first, second, watcher):
        client.close()


def overlapping_and_unsubscribe():
    client = Client()
    assert client.subscribe(("over/#", 0), ("over/+", 2), ("over/x", 1)) == [0, 2, 1]
    client.publish("over/x", b"1", 2)
    (message,) = client.take(1)
    assert message.qos == 2
    client.paho.unsubscribe(["over/#", "over/+", "over/x", "never/there"])
    client.wait("unsuback")
    client.publish("over/x", b"2", 1)
    client.nothing_more()
    client.close()


def large_payload_both_ways():
    client = Client()
    client.subscribe(("large", 2))
    payload = bytes(range(256)) * 4096
    for qos in range(3):
        client.publish("large", payload, qos)
        assert client.take(1)[0].payload == payload
    client.close()


def mqtt_3_1():
    client = Client("v31-client", protocol=mqtt.MQTTv31)
    client.subscribe(("v31", 1))
    client.publish("v31", b"old", 1)
    assert client.take(1)[0].payload == b"old"
    client.close()


def many_clients_at_once():
    done = queue.Queue()

    def one(n):
        try:
            client = Client(f"many-{n}")
            client.subscribe((f"many/{n}", 1))
            client.publish(f"many/{n}", str(n).encode(), 1)
            done.put(client.take(1)[0].payload == str(n).encode())
            client.close()
        except Exception:  # noqa: BLE001: the count below tells
            done.put(False)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(done.get(timeout=PATIENCE) for _ in threads)


def over_a_unix_socket():
    near, far = Client(unix=True), Client()
    payload = bytes(n % 251 for n in range(500_000))
    near.subscribe(("unix/#", 2))
    far.subscribe(("tcp/#", 2))
    for qos in range(3):
        near.publish("tcp/x", payload, qos)
        far.publish("unix/x", payload, qos)
    for client in near, far:
        assert [(message.qos, message.payload == payload) for message in client.take(3)] == [(0, True), (1, True), (2, True)]
    near.nothing_more()
    will = Client("unix-mortal", will=("unix/will", b"gone", 1, False), unix=True)
    will.vanish()
    assert near.take(1)[0].payload == b"gone"
    near.close()
    far.close()


CASES = [
    all_qos_pairs,
    order_and_count_under_load,
    retained_with_every_qos,
    will_with_retain,
    persistent_session,
    takeover,
    overlapping_and_unsubscribe,
    large_payload_both_ways,
    mqtt_3_1,
    many_clients_at_once,
    over_a_unix_socket,
]

for case in CASES:
    name = case.__name__.replace("_", " ")
    try:
        case()
        print(f"ok\t{name}", flush=True)
    except Exception as error:  # noqa: BLE001: reported
        print(f"FAIL\t{name}\t{type(error).__name__}: {error}".replace("\n", " "), flush=True)
print("end")
