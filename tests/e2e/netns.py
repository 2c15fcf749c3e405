# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Network namespaces: a Redis in one, nodes in others, and links between them that can be cut.

A namespace has no name and lives as long as its descriptor here, or a process in it: nothing is left
of it, however the tests end. What is made within `inside()` (sockets, threads, processes) belongs to
it. Needs root.

    with Star(3) as star:
        with star.centre.inside():
            redis = RedisServer(host="0.0.0.0")
        with star.leaves[0].inside():
            ...                          # redis is at star.ADDRESS
        star.cut(0, "link")
        star.heal(0)
"""

import contextlib
import ctypes
import os
import subprocess
import threading

from harness import Server
from nodes import Nodes

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result != 0:
        err = ctypes.get_errno()
        raise OSError(err, f"{what}: {os.strerror(err)} (network namespaces need root)")


def _own():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """With a loopback that is up."""

    def __init__(self):
        self.fd = None
        self.path = None
        problem = []

        def make():  # on a thread of its own, which ends there
            try:
                _checked(LIBC.unshare(CLONE_NEWNET), "unshare")
                self.fd = _own()
            except OSError as e:
                problem.append(e)

        t = threading.Thread(target=make)
        t.start()
        t.join()
        if problem:
            raise problem[0]
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in it meanwhile."""
        outer = _own()
        try:
            _checked(LIBC.setns(self.fd, CLONE_NEWNET), "setns")
            yield
        finally:
            _checked(LIBC.setns(outer, CLONE_NEWNET), "setns")
            os.close(outer)

    def ip(self, *args):
        with self.inside():
            done = subprocess.run(["ip", *args], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"

    def close(self):
        os.close(self.fd)


class Star:
    """A namespace in the middle, with one address for all, and a link to each of the others."""

    ADDRESS = "10.231.0.1"

    def __init__(self, count):
        self.centre = Namespace()
        self.leaves = [Namespace() for _ in range(count)]
        self.centre.ip("addr", "add", f"{self.ADDRESS}/32", "dev", "lo")
        for i, leaf in enumerate(self.leaves):
            leaf.ip("link", "add", "uplink", "type", "veth", "peer", "name", f"down{i}", "netns",
                    self.centre.path)
            leaf.ip("addr", "add", f"10.231.{i + 1}.2/30", "dev", "uplink")
            self.centre.ip("addr", "add", f"10.231.{i + 1}.1/30", "dev", f"down{i}")
            self.centre.ip("link", "set", f"down{i}", "up")
            self._begin(i)

    def _begin(self, i):
        self.leaves[i].ip("link", "set", "uplink", "up")
        self.leaves[i].ip("route", "replace", f"{self.ADDRESS}/32", "via", f"10.231.{i + 1}.1")

    def cut(self, i, how):
        """link: the leaf's end is down. out: what it sends is swallowed. back: what it should get."""
        if how == "link":
            self.leaves[i].ip("link", "set", "uplink", "down")
        elif how == "out":
            self.leaves[i].ip("route", "replace", "blackhole", f"{self.ADDRESS}/32")
        else:
            assert how == "back", how
            self.centre.ip("route", "add", "blackhole", f"10.231.{i + 1}.2/32")

    def heal(self, i, how):
        if how == "back":
            self.centre.ip("route", "del", "blackhole", f"10.231.{i + 1}.2/32")
        else:
            self._begin(i)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for namespace in (self.centre, *self.leaves):
            namespace.close()


class FarServer(Server):
    """A node in a namespace, at 127.0.0.1 there."""

    def __init__(self, namespace, *args, **how):
        self.namespace = namespace
        with namespace.inside():
            super().__init__(*args, **how)

    def get(self, path, port=None):
        with self.namespace.inside():
            return super().get(path, port)


class FarNodes(Nodes):
    """A node in each leaf of a star, node i with the Redis of urls[i]."""

    def __init__(self, backend, star, urls, *flags):
        self.leaves = star.leaves
        self.urls = urls
        super().__init__(backend, len(urls), *flags)

    def start_server(self, i, backend, *flags):
        return FarServer(self.leaves[i], backend, "--redis", self.urls[i], *flags)

    def join(self, node, room, query=""):
        with self.leaves[node].inside():
            return super().join(node, room, query)
