# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The figures of rooms over several nodes, each with the way it is measured; figures.py lists them.
Redis is a real server that only this measurement uses, over its socket file; or a cluster, over
loopback: each figure takes the class of it.

    figures_redis.py [prices]      what a message costs Redis, by connections and nodes
    figures_redis.py costs [WAY...]  what it costs all who have a part in it, by these ways to Redis:
                                   socket, port, tls, cluster; none: all
    figures_redis.py latency       how long a message takes, by order, place and way
"""

import contextlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import load
from certs import Authority
from figures import MEMBERS, cpu_ns, hurried, instructions_each, started
from nodes import Member
from peers import until
from redis_servers import Cluster, RedisServer, RedisTls, Resp
from wire import BINARY, Client, frame

PAYLOAD = 125
NO_MASK = b"\0\0\0\0"
LATENCY_RATE, LATENCY_S, LATENCY_RUNS = 5000, 3, 3
CPU_MESSAGES, CPU_PAIRS = 100_000, 5
WORK_MESSAGES = 2048
RESUBSCRIBED = 100_000


class ByPort(RedisServer):
    """As nodes reach the masters of a cluster."""

    @property
    def unix_url(self):
        return self.url


class ByTls(RedisServer):
    """By TLS 1.3, with AES-128."""

    def __init__(self):
        self.certs = tempfile.TemporaryDirectory(prefix="tw-certs-")
        authority = Authority(self.certs.name)
        super().__init__(tls=RedisTls(authority, authority.pair("redis", hosts=("127.0.0.1",))))

    @property
    def unix_url(self):
        return self.url

    def stop(self):
        super().stop()
        self.certs.cleanup()


class Master(Cluster):
    """A cluster of one."""

    def __init__(self):
        super().__init__(masters=1, replicas=False)


class Masters(Cluster):
    """A cluster of three without replicas."""

    def __init__(self):
        super().__init__(replicas=False)


def url_of(redis):
    return redis.url if isinstance(redis, Cluster) else redis.unix_url


def owner_of(redis, channel):
    """The server that has the channel."""
    return redis.owner(channel) if isinstance(redis, Cluster) else redis


@contextlib.contextmanager
def nodes(backend, count, redis, *flags):
    trust = ("--redis-ca", redis.tls.ca) if redis.tls else ()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(backend, "--shards", "1", "--drain-time", "0",
                                               "--redis", url_of(redis), *trust, *flags))
                   for _ in range(count)]
        for s in servers:
            assert until(lambda s=s: s.get("/health/ready")[0] == 200), s.log()
        yield servers


def fanout_ratio():
    """Instructions per delivery with Redis behind the room, to those without."""
    with RedisServer() as redis:
        behind = instructions_each("fanout", MEMBERS, 1, 20, 220, "--redis", redis.unix_url)
    return behind / instructions_each("fanout", MEMBERS, 1, 20, 220)


def latencies_ms(backend, store=RedisServer, over_nodes=True, flags=()):
    """From the call that sends on one node to the bytes at a member of the other, or of the same, at a
    steady rate, sorted; one process on both ends, so that one clock counts. Hurried, as other
    programs are not what is meant."""
    total = LATENCY_RATE * LATENCY_S
    sent, got = [0] * total, [0] * total
    size = PAYLOAD + 2

    def read(sock):
        data, i = b"", 0
        while i < total:
            data += sock.recv(1 << 16)
            now = time.perf_counter_ns()
            while len(data) >= size:
                got[i] = now
                i, data = i + 1, data[size:]

    with hurried(), store() as redis, nodes(backend, 1 + over_nodes, redis, *flags) as servers, \
            Client(servers[0].port, "/rooms/l?echo=0") as here, \
            Client(servers[-1].port, "/rooms/l?echo=0") as there:
        reader = threading.Thread(target=read, args=(there.sock,))
        reader.start()
        out = frame(BINARY, b"x" * PAYLOAD, mask=NO_MASK)
        begin = time.perf_counter_ns()
        for i in range(total):
            while time.perf_counter_ns() < begin + i * 1_000_000_000 // LATENCY_RATE:
                time.sleep(0.0001)
            sent[i] = time.perf_counter_ns()
            here.sock.sendall(out)
        reader.join()
    return sorted((t - s) / 1e6 for s, t in zip(sent, got))


def latency_p99_ms(backend, store=RedisServer):
    """From one node to another."""
    times = latencies_ms(backend, store)
    return times[len(times) * 99 // 100]


def messages_of_nodes(backend, redis, count, window, cost):
    """What `cost` grows by for that many messages of one node to another, so many at once."""
    with nodes(backend, 2, redis, "--max-queue", "64MiB") as (a, b), \
            Client(a.port, "/rooms/l?echo=0") as here, Client(b.port, "/rooms/l?echo=0") as there:
        out = frame(BINARY, b"x" * PAYLOAD, mask=NO_MASK) * window
        before = cost(a, b)
        for _ in range(count // window):
            here.sock.sendall(out)
            have = 0
            while have < (PAYLOAD + 2) * window:
                have += len(there.sock.recv(1 << 20))
        return cost(a, b) - before


def messages_of_benchmark(redis, count, window, cost):
    """The same for redis-benchmark's PUBLISH, in a cluster SPUBLISH: as many bytes, as many
    subscribers, as many at once."""
    is_cluster = isinstance(redis, Cluster)
    kind = "S" if is_cluster else ""
    server = owner_of(redis, "tidewire:l")
    where = ("-h", server.host, "-p", str(server.port)) if is_cluster else ("-s", server.path)
    subscribers = [Resp((server.host, server.port)) if is_cluster else server.connect()
                   for _ in range(2)]

    def swallow(sock):
        with contextlib.suppress(OSError):
            while sock.recv(1 << 20):
                pass

    for s in subscribers:
        s.send(kind + "SUBSCRIBE", "tidewire:l")
        threading.Thread(target=swallow, args=(s.sock,), daemon=True).start()
    before = cost()
    subprocess.run(["redis-benchmark", *where, "-n", str(count), "-c", "1", "-P", str(window),
                    "-q", kind + "PUBLISH", "tidewire:l", "x" * (PAYLOAD + 26)],
                   stdout=subprocess.DEVNULL, check=True, timeout=120)
    return cost() - before


def cpu_of(redis):
    """Of the server that has the room of messages_of_nodes()."""
    server = owner_of(redis, "tidewire:l")
    return lambda *_: server.cpu_seconds()


def cpu_ratio(window, store=RedisServer):
    """CPU time of Redis. Pairs in turn, so that what else the machine does hits both; the medians
    are compared."""
    ours, theirs = [], []
    for i in range(CPU_PAIRS):
        with store() as redis:
            theirs.append(messages_of_benchmark(redis, CPU_MESSAGES, window, cpu_of(redis)))
        with store() as redis:
            ours.append(messages_of_nodes(("epoll", "uring")[i % 2], redis, CPU_MESSAGES, window,
                                          cpu_of(redis)))
    return statistics.median(ours) / statistics.median(theirs)


class CountedRedis(RedisServer):
    """Under callgrind, which counts its instructions."""

    def __init__(self):
        self.counts = tempfile.TemporaryDirectory(prefix="tw-callgrind-")
        super().__init__(prefix=("valgrind", "--tool=callgrind", "-q",
                                 f"--callgrind-out-file={self.counts.name}/out"))

    def instructions(self):
        """Ends it. Of all its life."""
        self.connect().send("SHUTDOWN", "NOSAVE")
        self.process.wait(20)
        with open(f"{self.counts.name}/out", encoding="latin-1") as f:
            return int(re.search(r"^summary: (\d+)", f.read(), re.M).group(1))

    def stop(self):
        super().stop()
        self.counts.cleanup()


def instructions_of_redis(drive, *args):
    """A message, by the difference of two runs: `drive` takes the server, how many, and args."""
    counts = []
    for messages in (WORK_MESSAGES, 3 * WORK_MESSAGES):
        with CountedRedis() as redis:
            drive(redis, messages, *args, lambda *_: 0)
            counts.append(redis.instructions())
    return (counts[1] - counts[0]) / (2 * WORK_MESSAGES)


def work_ratio(window):
    """Instructions of Redis."""
    ours = instructions_of_redis(lambda *args: messages_of_nodes("epoll", *args), window)
    return ours / instructions_of_redis(messages_of_benchmark, window)


class Crowd:
    """A node with many rooms, a member in each, and another with one of them: there r5's members
    hear each other."""

    SHARDS = 6

    def __init__(self, redis, count):
        self.count = count
        self.pairs = self.SHARDS * (redis.master_count if isinstance(redis, Cluster) else 1)
        self.stack = contextlib.ExitStack()
        self.server = self.stack.enter_context(started(
            "uring", "--shards", str(self.SHARDS), "--redis", url_of(redis), "--drain-time", "0",
            "--pin", "off", "--ping-interval", "0"))
        (self.other,) = self.stack.enter_context(nodes("uring", 1, redis))

    def __enter__(self):
        url = f"ws://127.0.0.1:{self.server.port}/rooms/r{{n}}"
        crowd = subprocess.Popen([load.program(), "idle", "--url", url, "--connections",
                                  str(self.count), "--duration", "10m", "--threads", "6"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.stack.callback(crowd.wait)
        self.stack.callback(crowd.kill)
        assert until(self.is_whole, 120), self.confirmed()
        self.speaker, self.hearer = Member(self.server, "r5", "a"), Member(self.other, "r5", "b")
        self.hearer.wait_for(self.speaker.say())
        return self

    def __exit__(self, *_):
        self.speaker.close()
        self.hearer.close()
        self.stack.close()

    def pairs_up(self):
        return self.server.metric("tidewire_redis_pairs_up")

    def confirmed(self):
        return self.server.metric("tidewire_redis_subscriptions_confirmed")

    def is_whole(self):
        return self.confirmed() == self.count

    def speak_until_whole(self):
        """One of the rooms is published into meanwhile, and who hears that hears it in order."""
        deadline = time.monotonic() + 60
        while not self.is_whole():
            self.speaker.say()
            assert time.monotonic() < deadline
        whole = time.monotonic()
        self.hearer.wait_for(self.speaker.say())
        assert self.hearer.got == [m for m in self.speaker.got if m in set(self.hearer.got)]
        return whole


def resubscribe_s(count=RESUBSCRIBED, store=RedisServer):
    """From Redis' first answer after a restart (of all masters) until it has confirmed all rooms,
    each with one member; one of them is published into meanwhile, and nothing of that is lost."""
    with store() as redis, Crowd(redis, count) as crowd:
        redis.kill()
        assert until(lambda: crowd.pairs_up() == 0)
        redis.start()
        begin = time.monotonic()
        assert until(lambda: crowd.pairs_up() == crowd.pairs, 20)
        assert until(lambda: crowd.other.get("/health/ready")[0] == 200)
        took = crowd.speak_until_whole() - begin
        assert len(crowd.hearer.got) >= crowd.speaker.sent - 1
    return took


def failover_s(count=RESUBSCRIBED):
    """From the moment when the others name a replica in place of one of three masters, which was
    killed, until its rooms are confirmed there: a third of all."""
    with Cluster() as cluster, Crowd(cluster, count) as crowd:
        old = cluster.owner("tidewire:r5")
        old.kill()
        assert until(lambda: crowd.pairs_up() < crowd.pairs)
        cluster.wait_other_owner("tidewire:r5", old)
        begin = time.monotonic()
        return crowd.speak_until_whole() - begin


# The price of connections -------------------------------------------------------------------------

def spread(redis, count, connections, batch, nodes_each, cost):
    """What `cost` grows by for messages that come by so many connections, each with so many at once
    in a room of its own, which so many others subscribe to."""
    rooms = [f"tidewire:{i}" for i in range(connections)]
    publishers = [redis.connect() for _ in rooms]
    subscribers = [(redis.connect(), room) for room in rooms for _ in range(nodes_each)]
    for s, room in subscribers:
        s.call("SUBSCRIBE", room)
    payload = "x" * (PAYLOAD + 26)
    out = [b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
           (len(room), room.encode(), len(payload), payload.encode()) for room in rooms]
    pushed = [len(b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" %
                  (len(room), room.encode(), len(payload), payload.encode())) for _, room in
              subscribers]
    waiting = [(p.sock, 4 * batch) for p in publishers] + \
        [(s.sock, size * batch) for (s, _), size in zip(subscribers, pushed)]
    before = cost()
    for _ in range(count // (connections * batch)):
        redis.pause()  # so that all of it is there when Redis looks
        for p, command in zip(publishers, out):
            p.sock.sendall(command * batch)
        redis.resume()
        for sock, size in waiting:
            while size > 0:
                size -= len(sock.recv(1 << 16))
    return cost() - before


class Traced(RedisServer):
    """Its system calls are counted by strace from the first call of calls() to the second."""

    trace = None

    def calls(self):
        with_file = f"{self.directory}/calls"
        if self.trace is None:
            self.trace = subprocess.Popen(["strace", "-f", "-c", "-o", with_file, "-p",
                                           str(self.process.pid)], stderr=subprocess.PIPE)
            self.trace.stderr.readline()  # attached
            return 0
        self.trace.send_signal(signal.SIGINT)
        self.trace.communicate(timeout=20)
        with open(with_file, encoding="ascii") as f:
            return int(f.read().splitlines()[-1].split()[3])


def print_prices():
    """What a message costs Redis: a line for each way to spread messages over connections and
    nodes."""
    ways = [(c, 16 // c, 2) for c in (1, 2, 4, 8, 16)] + [(c, 16, 2) for c in (2, 4, 8)]
    ways += [(1, 16, n) for n in (1, 4, 8, 16, 33)] + [(16, 1, n) for n in (4, 33)]
    print("| connections | at once on each | nodes | system calls | instructions | µs of CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in ways:
        with Traced() as redis:
            calls = spread(redis, WORK_MESSAGES, *way, redis.calls) / WORK_MESSAGES
        work = instructions_of_redis(spread, *way)
        cpu = []
        for _ in range(CPU_PAIRS):
            with RedisServer() as redis:
                cpu.append(spread(redis, 8192, *way, redis.cpu_seconds) / 8192)
        print("| %d | %d | %d " % way + f"| {calls:.2f} | {work:.0f} "
              f"| {statistics.median(cpu) * 1e6:.2f} |", flush=True)


def print_costs(ways):
    """What a message of one node to another takes of each: µs of CPU, medians."""
    print("| | at once | the node that publishes | the one that receives | the server |")
    print("| --- | --- | --- | --- | --- |")
    stores = {"socket": ("Redis by its socket file", RedisServer),
              "port": ("Redis by its port", ByPort), "tls": ("Redis by TLS", ByTls),
              "cluster": ("a cluster's master", Master)}
    for name, store in (stores[way] for way in ways or stores):
        for window in (64, 16, 1):
            rows = []
            for i in range(CPU_PAIRS):
                count = CPU_MESSAGES if window > 1 else CPU_MESSAGES // 20
                with store() as redis:
                    of_redis = cpu_of(redis)
                    rows.append(messages_of_nodes(
                        ("epoll", "uring")[i % 2], redis, count, window,
                        lambda a, b, of_redis=of_redis: Costs(cpu_ns(a) / 1e3, cpu_ns(b) / 1e3,
                                                              of_redis() * 1e6)).each(count))
            cells = (f"{statistics.median(column):.2f} ({min(column):.2f} – {max(column):.2f})"
                     for column in zip(*rows))
            print(f"| {name} | {window} | " + " | ".join(cells) + " |", flush=True)


def print_latencies():
    """Milliseconds at 5,000 messages a second: medians of some runs, which take turns, and their
    range."""
    local = ("--redis-order", "local")
    ways = [("global, to the same node", RedisServer, False, ()),
            ("local, to the same node", RedisServer, False, local),
            ("global, to another node", RedisServer, True, ()),
            ("local, to another node", RedisServer, True, local),
            ("global, to another node, by Redis' port", ByPort, True, ()),
            ("global, to another node, by TLS", ByTls, True, ())]
    print("| order, and where it goes | io | p50 | p99 |")
    print("| --- | --- | --- | --- |")
    for backend in ("epoll", "uring"):
        runs = [[latencies_ms(backend, *way[1:]) for way in ways] for _ in range(LATENCY_RUNS)]
        for (name, *_), times in zip(ways, zip(*runs)):
            cells = []
            for percent in (50, 99):
                at = [t[len(t) * percent // 100] for t in times]
                cells.append(f"{statistics.median(at):.3f} ({min(at):.3f} – {max(at):.3f})")
            print(f"| {name} | {backend} | " + " | ".join(cells) + " |", flush=True)


class Costs(tuple):
    """Numbers that grow side by side."""

    def __new__(cls, *values):
        return super().__new__(cls, values)

    def __sub__(self, other):
        return Costs(*(a - b for a, b in zip(self, other)))

    def each(self, count):
        return Costs(*(v / count for v in self))


if __name__ == "__main__":
    if sys.argv[1:2] == ["costs"]:
        print_costs(sys.argv[2:])
    elif sys.argv[1:] == ["latency"]:
        print_latencies()
    else:
        print_prices()
