#!/usr/bin/env python3
"""Clients that come and go in every way there is, for scripts/soak.sh: takeovers, Wills, sessions kept and dropped,
subscriptions made and taken back, retained messages set and cleared, sockets reset, packets cut off, readers that stop.

    churn.py PORT SECONDS [CLIENTS [SEED]]

Nothing is verified here: that is for the loads that run beside it. Prints one line with what was done; exit status 1 if the
broker could not be reached.
"""

import random
import socket
import struct
import sys
import threading
import time
from collections import Counter


def string(text):
    data = text.encode()
    return struct.pack("!H", len(data)) + data


def packet(first, body):
    length, header = len(body), bytes([first])
    while True:
        length, low = length >> 7, length & 127
        header += bytes([low | (128 if length else 0)])
        if not length:
            return header + body


def connect(client, clean, will):
    flags = (2 if clean else 0) | (0x2C if will else 0)
    body = string("MQTT") + bytes([4, flags]) + struct.pack("!H", 30) + string(client)
    return packet(0x10, body + (string(f"churn/will/{client}") + string("gone") if will else b""))


class Client(threading.Thread):
    """One socket at a time, one thing after the other."""

    def __init__(self, number, port, until, clients, seed):
        super().__init__()
        self.port, self.until, self.clients = port, until, clients
        self.dice = random.Random(seed * 1000 + number)
        self.done = Counter()
        self.failed = 0

    def run(self):
        while time.monotonic() < self.until:
            try:
                self.life()
                self.failed = 0
            except OSError:
                # Taken over, shed or cut off: all of that is wanted here.
                self.done["closed by the broker"] += 1
                self.failed += 1
                if self.failed > 200:
                    return
                time.sleep(0.05)

    def life(self):
        dice = self.dice
        # Few identifiers for many threads: most connections take another one over.
        client = f"churn{dice.randrange(self.clients // 2 + 1)}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            self.done["connections"] += 1
            sock.sendall(connect(client, dice.random() < 0.5, dice.random() < 0.5))
            if sock.recv(4)[:1] != b"\x20":
                return
            for _ in range(dice.randrange(1, 40)):
                if time.monotonic() >= self.until:
                    break
                if not self.act(sock):
                    return
            if dice.random() < 0.5:
                self.done["disconnects"] += 1
                sock.sendall(b"\xe0\x00")

    def act(self, sock):
        dice = self.dice
        topic = f"churn/{dice.randrange(20)}/{dice.choice('abc')}"
        identifier = struct.pack("!H", dice.randrange(1, 1000))
        what = dice.random()
        if what < 0.2:
            self.done["subscriptions"] += 1
            filter = dice.choice([topic, "churn/+/a", f"churn/{dice.randrange(20)}/#", "$share/g/churn/#", "churn/will/+"])
            sock.sendall(packet(0x82, identifier + string(filter) + bytes([dice.randrange(3)])))
        elif what < 0.3:
            self.done["unsubscriptions"] += 1
            sock.sendall(packet(0xA2, identifier + string("churn/+/a")))
        elif what < 0.8:
            self.done["messages"] += 1
            qos, retain = dice.randrange(3), dice.random() < 0.2
            payload = b"" if retain and dice.random() < 0.3 else b"x" * dice.choice([1, 60, 2000])
            head = 0x30 | qos << 1 | retain
            sock.sendall(packet(head, string(topic) + (identifier if qos else b"") + payload))
            if qos == 2 and dice.random() < 0.9:
                sock.sendall(packet(0x62, identifier))
        elif what < 0.93:
            self.done["reads"] += 1
            sock.settimeout(0.02)
            try:
                if not sock.recv(65536):
                    return False
            except TimeoutError:
                pass
            sock.settimeout(5)
        elif what < 0.95:
            self.done["stops"] += 1
            time.sleep(dice.random())
        elif what < 0.97:
            self.done["cut packets"] += 1
            sock.sendall(packet(0x32, string(topic) + b"\x00\x01" + b"x" * 100)[: dice.randrange(1, 100)])
            return False
        elif what < 0.98:
            self.done["resets"] += 1
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif what < 0.985:
            self.done["nonsense"] += 1
            sock.sendall(dice.randbytes(20))
        else:
            time.sleep(0.01)
        return True


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    clients = int(sys.argv[3]) if len(sys.argv) > 3 else 50
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    until = time.monotonic() + seconds
    threads = [Client(n, port, until, clients, seed) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum((thread.done for thread in threads), Counter())
    print(", ".join(f"{count:,} {what}" for what, count in sorted(total.items())))
    # The rest of the sessions, so that what is left afterwards can be compared with the start.
    for number in range(clients // 2 + 1):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(connect(f"churn{number}", True, False))
            sock.recv(4)
            sock.sendall(b"\xe0\x00")
    return int(any(thread.failed > 200 for thread in threads))


if __name__ == "__main__":
    sys.exit(main())
