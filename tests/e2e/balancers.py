# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""HAProxy and nginx as tools/deploy configures them, before two nodes: the very files, with ports
that are free now put in the place of those that stand there."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import ROOT, Server

DEPLOY = ROOT / "tools" / "deploy"
NODES = ("127.0.0.1", "127.0.0.2")
START_S = 10
# What the files name: the nodes' port and admin port, and the balancer's own.
NODE_PORT, ADMIN_PORT, OWN_PORTS = 8000, 8001, (8080, 8081, 8082)


def free_ports(count):
    """Ports that are free on all loopback addresses used here, all different."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            first = stack.enter_context(socket.socket())
            first.bind((NODES[0], 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind((NODES[1], port))
                ports.append(port)
        return ports


class Balancer:
    """A balancer's process. ports: by the port that stands in its file."""

    def __init__(self, kind, ports, replace=()):
        self.ports = ports
        self.dir = tempfile.TemporaryDirectory()
        text = (DEPLOY / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[kind]).read_text()
        for old, new in ports.items():
            text, count = re.subn(rf"\b{old}\b", str(new), text)
            assert count > 0 or old in (ADMIN_PORT, *OWN_PORTS), f"{old} is not in the file"
        for old, new in replace:
            assert old in text, f"{old} is not in the file"
            text = text.replace(old, new)
        getattr(self, kind)(text)
        self.wait_listening()

    def haproxy(self, text):
        path = Path(self.dir.name) / "haproxy.cfg"
        path.write_text(text.replace("maxconn 200000", "maxconn 2000"))
        self.start("haproxy", "-db", "-f", str(path))

    def nginx(self, text):
        """Its own modules, files of its own, no second process to look after."""
        path = Path(self.dir.name) / "nginx.conf"
        text = text.replace("worker_rlimit_nofile 200000", "worker_rlimit_nofile 4000")
        text = text.replace("worker_connections 100000", "worker_connections 2000")
        logs = "".join(f"{name}_temp_path {self.dir.name}/{name};\n" for name in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = text.replace("http {", f"http {{\naccess_log off;\n{logs}", 1)
        user = "user root;\n" if os.geteuid() == 0 else ""
        path.write_text("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
                        f"daemon off;\npid {self.dir.name}/pid;\n{user}{text}")
        self.start("/usr/sbin/nginx", "-p", self.dir.name, "-e", f"{self.dir.name}/error.log",
                   "-c", str(path))

    def start(self, *argv):
        self.log = open(Path(self.dir.name) / "out", "w+", encoding="utf-8")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)

    def wait_listening(self):
        deadline = time.monotonic() + START_S
        while True:
            assert self.process.poll() is None, Path(self.log.name).read_text()
            with contextlib.suppress(OSError):
                socket.create_connection((NODES[0], self.ports[8080]), 1).close()
                return
            assert time.monotonic() < deadline, "the balancer does not listen"
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.dir.cleanup()


@contextlib.contextmanager
def balanced(kind, backend, *flags, replace=()):
    """A balancer before two nodes: it, and the nodes' list."""
    own = free_ports(len(OWN_PORTS) + 2)
    ports = dict(zip((NODE_PORT, ADMIN_PORT, *OWN_PORTS), own))
    with contextlib.ExitStack() as stack:
        nodes = []
        for address in NODES:
            nodes.append(Server(backend, "--shards", "1", "--address", address, "--admin-address",
                                f"{address}:{ports[ADMIN_PORT]}", *flags, port=ports[NODE_PORT]))
            stack.callback(nodes[-1].kill)
        balancer = Balancer(kind, ports, replace)
        stack.callback(balancer.stop)
        yield balancer, nodes
