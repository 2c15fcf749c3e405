# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Real Redis servers for the end-to-end tests: each a process, on a free port of loopback
and a socket file, in a directory that goes with it. They keep nothing on disk.

    with RedisServer() as redis:                       # redis.url, redis.unix_url
        redis.call("PING")                             # b"PONG"; errors are raised as RedisError
        redis.pause(); redis.resume()                  # SIGSTOP, SIGCONT
        redis.kill(); redis.start()                    # -9, and again on the same port
    RedisServer(password="secret")                     # requirepass
    RedisServer(tls=RedisTls(authority, pair))         # by TLS alone (and the socket file)
    RedisServer(users=["alice on >pw &tw:* +publish +subscribe +unsubscribe +ping +auth +client"])
"""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

START_S = 20.0


class RedisError(Exception):
    """An error reply; str() is its text, code its first word."""

    @property
    def code(self):
        return str(self).split(" ", 1)[0]


class Resp:
    """A connection that speaks RESP2, blocking."""

    def __init__(self, address, timeout=10.0):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.file = self.sock.makefile("rb")

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, *args):
        parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
        out = b"*%d\r\n" % len(parts)
        for part in parts:
            out += b"$%d\r\n%s\r\n" % (len(part), part)
        self.sock.sendall(out)

    def read(self):
        """The next reply: bytes, int, None, a list, or a RedisError as a value."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return None if rest == b"-1" else [self.read() for _ in range(int(rest))]

    def call(self, *args):
        self.send(*args)
        reply = self.read()
        if isinstance(reply, RedisError):
            raise reply
        return reply


def free_ports(count, host="127.0.0.1"):
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((host, 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def info_fields(text):
    """INFO's text as a dict."""
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {key: value for key, value in pairs}


class RedisTls:
    """What a server shows, and whose certificates it wants of clients; of other servers as well."""

    def __init__(self, authority, pair, clients="no", protocols=""):
        self.ca = authority.file
        self.lines = [f"tls-cert-file {pair.cert}", f"tls-key-file {pair.key}",
                      f"tls-ca-cert-file {authority.file}", f"tls-auth-clients {clients}",
                      "tls-replication yes", "tls-cluster yes"]
        if protocols:
            self.lines.append(f'tls-protocols "{protocols}"')


class RedisServer:
    """One redis-server. Attributes: host, port, path (of its socket), url, unix_url, process."""

    def __init__(self, *flags, password="", users=(), host="127.0.0.1", port=None, sentinel=False,
                 prefix=(), files=None, tls=None):
        self.directory = Path(tempfile.mkdtemp(prefix="tw-redis-"))
        self.host = host
        self.port = port or free_ports(1, host)[0]
        self.path = str(self.directory / "redis.sock")
        self.password = password
        self.prefix = prefix  # words before the command: ("ip", "netns", "exec", NAME)
        self.sentinel = sentinel
        self.tls = tls
        self.process = None
        self._write_config(flags, users)
        for name, text in (files or {}).items():
            (self.directory / name).write_text(text)
        self.start()

    def _write_config(self, flags, users):
        port = ["port 0", f"tls-port {self.port}", *self.tls.lines] if self.tls else \
            [f"port {self.port}"]
        lines = [f"bind {self.host}", *port, f"unixsocket {self.path}",
                 f"dir {self.directory}", "daemonize no", "protected-mode no",
                 f"logfile {self.directory}/log"]
        if not self.sentinel:
            lines += ['save ""', "appendonly no"]
        if self.password:
            lines.append(f"requirepass {self.password}")
        lines += [f"user {user}" for user in users]
        lines += flags
        (self.directory / "conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self):
        return f"redis{'s' if self.tls else ''}://{self._credentials()}{self.host}:{self.port}"

    @property
    def unix_url(self):
        return f"redis+unix://{self._credentials()}{self.path}"

    def _credentials(self):
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts it (again), and waits until it answers."""
        argv = [*self.prefix, "redis-server", str(self.directory / "conf")]
        if self.sentinel:
            argv.append("--sentinel")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.wait(lambda: self.call("PING") == b"PONG", "it answers")

    def wait(self, done, what, seconds=START_S):
        """Until done() is true; errors on the way count as not yet."""
        deadline = time.monotonic() + seconds
        problem = None
        while time.monotonic() < deadline:
            try:
                if done():
                    return
                problem = None
            except (OSError, RedisError) as e:
                problem = e
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise TimeoutError(f"not in time: {what}; {problem}\n{self.log()}")

    def log(self):
        try:
            return "\n".join((self.directory / "log").read_text().splitlines()[-30:])
        except FileNotFoundError:
            return "(no log)"

    def connect(self, timeout=10.0):
        """A new connection, authenticated. By the socket file, which namespaces do not hide."""
        resp = Resp(self.path, timeout)
        if self.password:
            resp.call("AUTH", self.password)
        return resp

    def call(self, *args):
        """One command on a connection of its own."""
        resp = self.connect()
        try:
            return resp.call(*args)
        finally:
            resp.close()

    def info(self, section="everything"):
        return info_fields(self.call("INFO", section))

    def cpu_seconds(self):
        """Processor time of all its threads, to the nanosecond."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(t.read_text().split()[0]) for t in tasks) / 1e9

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9; start() brings it back on the same port."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Sentinels:
    """A master, its replicas and the Sentinels that watch them, all of them RedisServers.

    Attributes: servers (the first was the master at the beginning), sentinels, name, url."""

    def __init__(self, replicas=1, sentinels=3, name="mymaster", password="", sentinel_password="",
                 tls=None):
        self.tls = tls
        self.name = name
        self.password = password
        self.sentinel_password = sentinel_password
        self.servers = [RedisServer(password=password, tls=tls)]
        self.sentinels = []
        try:
            for _ in range(replicas):
                self.servers.append(self._replica())
            for _ in range(sentinels):
                self.sentinels.append(self._sentinel(sentinels // 2 + 1))
            self._wait_complete(replicas, sentinels)
        except Exception:
            self.stop()
            raise

    def _replica(self):
        master = self.servers[0]
        flags = [f"replicaof {master.host} {master.port}", "repl-diskless-sync-delay 0"]
        if self.password:
            flags.append(f"masterauth {self.password}")
        return RedisServer(*flags, password=self.password, tls=self.tls)

    def _sentinel(self, quorum):
        master = self.servers[0]
        flags = [f"sentinel monitor {self.name} {master.host} {master.port} {quorum}",
                 f"sentinel down-after-milliseconds {self.name} 500",
                 f"sentinel failover-timeout {self.name} 3000"]
        if self.password:
            flags.append(f"sentinel auth-pass {self.name} {self.password}")
        return RedisServer(*flags, sentinel=True, password=self.sentinel_password, tls=self.tls)

    def _wait_complete(self, replicas, sentinels):
        for sentinel in self.sentinels:
            sentinel.wait(lambda s=sentinel: self._sees(s) == (replicas, sentinels - 1),
                          "a Sentinel knows all others")

    def _sees(self, sentinel):
        reply = sentinel.call("SENTINEL", "MASTER", self.name)
        fields = dict(zip(reply[::2], reply[1::2]))
        return int(fields[b"num-slaves"]), int(fields[b"num-other-sentinels"])

    @property
    def url(self):
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = ",".join(f"{s.host}:{s.port}" for s in self.sentinels)
        query = f"?sentinel=:{quote(self.sentinel_password, safe='')}"
        return f"redis{'s' if self.tls else ''}+sentinel://{secret}{hosts}/{self.name}" + \
            (query if self.sentinel_password else "")

    def master(self):
        """The server that the first living Sentinel names."""
        for sentinel in self.sentinels:
            if sentinel.process.poll() is None:
                _, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
                return next(s for s in self.servers if s.port == int(port))
        raise AssertionError("no Sentinel lives")

    def wait_other_master(self, than, seconds=START_S):
        """Until the Sentinels have made another server the master, and it says so itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            master = self.master()
            if master is not than and master.call("ROLE")[0] == b"master":
                return master
            time.sleep(0.05)
        raise TimeoutError("no failover in time\n" + self.sentinels[0].log())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for server in self.sentinels + self.servers:
            server.stop()


class Cluster:
    """Masters with a replica each, or without, all of them RedisServers in `nodes`, the masters
    first; who is what may change. They start with a map that is written for them: to meet takes seconds."""

    def __init__(self, masters=3, password="", users=(), replicas=True, tls=None):
        self.tls = tls
        self.password = password
        self.users = users
        self.master_count = masters
        self.node_count = 2 * masters if replicas else masters
        ports = free_ports(2 * self.node_count)
        self.ports = list(zip(ports[::2], ports[1::2]))
        self.nodes = []
        try:
            for i in range(self.node_count):
                self.nodes.append(self._node(i))
            self.wait_whole()
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _id(i):
        return f"{i:040x}"

    def _map(self, me):
        """nodes.conf as a node writes it."""
        rows = []
        for i, (port, bus) in enumerate(self.ports):
            own = i % self.master_count
            first, last = (16384 * k // self.master_count for k in (own, own + 1))
            master = i < self.master_count
            rows.append(" ".join([
                self._id(i), f"127.0.0.1:{port}@{bus}",
                ("myself," if i == me else "") + ("master" if master else "slave"),
                "-" if master else self._id(own), "0 0", str(own + 1), "connected",
                *([f"{first}-{last - 1}"] if master else [])]))
        return "\n".join([*rows, f"vars currentEpoch {self.master_count} lastVoteEpoch 0", ""])

    def _node(self, i):
        port, bus = self.ports[i]
        flags = ["cluster-enabled yes", "cluster-node-timeout 1500", f"cluster-port {bus}",
                 "cluster-replica-validity-factor 0", "repl-diskless-sync-delay 0",
                 "repl-ping-replica-period 1"]
        if self.password:
            flags.append(f"masterauth {self.password}")
        return RedisServer(*flags, password=self.password, users=self.users, port=port,
                           tls=self.tls, files={"nodes.conf": self._map(i)})

    def kill(self):
        """kill -9 all; start() brings them back, each as what it was."""
        for node in self.nodes:
            node.kill()

    def start(self):
        for node in self.nodes:
            node.start()

    def living(self):
        return [n for n in self.nodes if n.process.poll() is None]

    def _sees_whole(self, node):
        """Whether the node knows every master and its living replica, and no failure."""
        rows = node.call("CLUSTER", "SLOTS")
        return (b"cluster_state:ok" in node.call("CLUSTER", "INFO")
                and b"fail" not in node.call("CLUSTER", "NODES")
                and len({row[2][1] for row in rows}) == self.master_count
                and len({n[1] for row in rows for n in row[2:]}) == self.node_count)

    def wait_whole(self):
        """Until every node is up, and all agree on the map."""
        for node in self.nodes:
            node.wait(lambda n=node: self._sees_whole(n), "the cluster is whole")
        first = self.nodes[0]
        first.wait(lambda: len({str(self._owners(n)) for n in self.nodes}) == 1, "all agree")

    @staticmethod
    def _owners(node):
        return sorted((row[0], row[1], row[2][1]) for row in node.call("CLUSTER", "SLOTS"))

    @property
    def url(self):
        secret = f":{quote(self.password, safe='')}@" if self.password else ""
        hosts = (f"{n.host}:{n.port}" for n in self.nodes[:self.master_count])
        return f"redis{'s' if self.tls else ''}+cluster://{secret}" + ",".join(hosts)

    def slot(self, channel):
        return self.living()[0].call("CLUSTER", "KEYSLOT", channel)

    def masters(self):
        """The servers that have slots, as the first living one knows."""
        ports = {row[2][1] for row in self.living()[0].call("CLUSTER", "SLOTS")}
        return [n for n in self.nodes if n.port in ports]

    def owner(self, channel, asked=None):
        """The server that has the channel's slot, as `asked` knows; None: nobody."""
        asked = asked or self.living()[0]
        slot = asked.call("CLUSTER", "KEYSLOT", channel)
        for first, last, (_, port, *_), *_ in asked.call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(n for n in self.nodes if n.port == port)
        return None

    def replica_of(self, master):
        rows = master.call("CLUSTER", "REPLICAS", master.call("CLUSTER", "MYID"))
        port = int(rows[0].split()[1].split(b"@")[0].rsplit(b":", 1)[1])
        return next(n for n in self.nodes if n.port == port)

    def wait_other_owner(self, channel, than):
        asked = next(n for n in self.living() if n is not than)
        asked.wait(lambda: self.owner(channel, asked) is not than, "another master")
        return self.owner(channel, asked)

    def move(self, channel, to):
        """Moves the channel's slot, without keys, as resharding does."""
        slot, source = self.slot(channel), self.owner(channel)
        source_id, target_id = (n.call("CLUSTER", "MYID") for n in (source, to))
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        for node in (to, source):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for node in self.nodes:
            node.stop()
