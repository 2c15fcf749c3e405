# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Who is measured: how each server is started on its core, asked for its port, and stopped."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

BENCH = Path(__file__).resolve().parents[1]
PEERS = BENCH / "peers"
START_S = 15
STOP_S = 10
LIFE_S = 4 * 3600  # a limit program ends by itself after that
TLS_KINDS = ("echo-tls", "fanout-tls", "storm-tls")


class Contestant(NamedTuple):
    """`argv` with {dir} and {certs} (that has cert.pem and key.pem) filled in at the start; a server
    that does not print its port gets a free one. `scenarios` are the kinds of cells that it can do;
    one and the same name may stand for a server without and one with TLS."""

    name: str
    argv: tuple
    scenarios: tuple = ("echo", "fanout")
    port_pattern: str = r"listening (\d+)"
    template: Path = None


def tidewire(build, backend, *flags, name=None):
    return Contestant(name or f"tidewire-{backend}",
                      (str(build / "tidewire"), "serve", "--io", backend, "--echo", "--shards", "1",
                       "--pin", "off", "--port", "0", "--admin-address", "off", *flags),
                      port_pattern=r"msg=listening address=127\.0\.0\.1:(\d+)")


def tidewire_tls(build, backend):
    plain = tidewire(build, backend, "--tls-port", "0", "--tls-cert", "{certs}/cert.pem",
                     "--tls-key", "{certs}/key.pem")
    return plain._replace(scenarios=TLS_KINDS,
                          port_pattern=r'msg="TLS listening" address=127\.0\.0\.1:(\d+)')


def make_certificate(where):
    """A self-signed one, ECDSA with P-256 as everybody has it, for all servers alike."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", str(where / "key.pem"), "-out", str(where / "cert.pem")],
                   check=True, capture_output=True)


def limit(build, backend, scenario, *flags, name=None):
    fanout = ("--fanout",) if scenario == "fanout" else ()
    return Contestant(name, (str(build / "bench" / f"limit_{backend}"), "--seconds", str(LIFE_S),
                             *fanout, *flags), (scenario,))


def limits(build):
    """Both backends, each message alone or gathered; one twice, for the spread against itself."""
    for scenario in ("echo", "fanout"):
        for backend in ("epoll", "uring"):
            yield limit(build, backend, scenario, name=f"limit-{backend}")
            yield limit(build, backend, scenario, "--gather", name=f"limit-{backend}-gather")
        yield limit(build, "epoll", scenario, "--gather", name="limit-again")


def bun_program(modules):
    """The binary itself: the package's own script is another process in between."""
    for path in sorted(modules.glob("@oven/bun-*/bin/bun")):
        if os.access(path, os.X_OK):
            return path
    return modules / "bun" / "bin" / "bun.exe"


def peers(modules):
    return (Contestant("bun", (str(bun_program(modules)), str(PEERS / "bun.js"))),
            Contestant("ws", ("node", "{dir}/ws.js"), template=PEERS / "ws.js"),
            Contestant("nchan", ("nginx", "-p", "{dir}", "-c", "{dir}/nchan.conf"), ("fanout",),
                       template=PEERS / "nchan.conf"))


def tls_peers(modules):
    """ws is none of them: it is plain Node, whose TLS is OpenSSL as nginx' is."""
    return (Contestant("bun", (str(bun_program(modules)), str(PEERS / "bun.js"), "{certs}/cert.pem",
                               "{certs}/key.pem"), TLS_KINDS),
            Contestant("nchan", ("nginx", "-p", "{dir}", "-c", "{dir}/nchan.conf"),
                       ("fanout-tls", "storm-tls"), template=PEERS / "nchan.conf"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class StartFailed(Exception):
    pass


class Server:
    """One running contestant. Attributes: port, pid."""

    def __init__(self, contestant, core, modules, certs):
        self.dir = Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
        self.log = self.dir / "log"
        self.port = free_port()
        self._prepare(contestant, modules, certs)
        # Nothing is left behind where the comparison is killed.
        argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(core),
                *(a.replace("{dir}", str(self.dir)).replace("{certs}", str(certs))
                  for a in contestant.argv)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.dir)
        self.pid = self.process.pid
        try:
            self._wait(contestant)
        except StartFailed:
            self.stop()
            raise

    def _prepare(self, contestant, modules, certs):
        if contestant.template is None:
            return
        text = contestant.template.read_text()
        text = text.replace("@PORT@", str(self.port)).replace("@DIR@", str(self.dir))
        text = text.replace("@CERTS@", str(certs))
        if "fanout-tls" in contestant.scenarios:
            text = text.replace("#TLS ", "").replace("backlog=4096", "backlog=4096 ssl")
        (self.dir / contestant.template.name).write_text(text)
        (self.dir / "node_modules").symlink_to(modules)

    def _wait(self, contestant):
        deadline = time.monotonic() + START_S
        names_port = contestant.name != "nchan"
        while time.monotonic() < deadline:
            text = self.log.read_text(errors="replace")
            if self.process.poll() is not None:
                raise StartFailed(text.strip()[-500:] or f"exit code {self.process.returncode}")
            found = re.search(contestant.port_pattern, text) if names_port else None
            if found:
                self.port = int(found.group(1))
            if (found or not names_port) and self._answers():
                return
            time.sleep(0.05)
        raise StartFailed("not ready in time")

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.is_alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Stable:
    """Servers that live as long as the comparison; one that died is started again."""

    def __init__(self, contestants, core, modules):
        self.contestants = {(c.name, s): c for c in contestants for s in c.scenarios}
        self.core = core
        self.modules = modules
        self.running = {}
        self.certs = None

    def names(self, scenario):
        return [name for name, s in self.contestants if s == scenario]

    def get(self, name, scenario):
        """A running Server; StartFailed when it can't be had."""
        contestant = self.contestants[name, scenario]
        server = self.running.get(contestant)
        if server is None or not server.is_alive():
            if server is not None:
                server.stop()
            server = self.running[contestant] = Server(contestant, self.core, self.modules,
                                                       self._certs())
        return server

    def drop(self, name, scenario):
        """Stops it, if it runs: what went wrong shall not weigh upon the next measurement."""
        server = self.running.pop(self.contestants[name, scenario], None)
        if server is not None:
            server.stop()

    def _certs(self):
        if self.certs is None:
            self.certs = Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
            make_certificate(self.certs)
        return self.certs

    def stop(self):
        for server in self.running.values():
            server.stop()
        self.running.clear()
        if self.certs is not None:
            shutil.rmtree(self.certs, ignore_errors=True)
            self.certs = None
