# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Running it: exit codes with a remedy each, where values come from, readiness, log, drain."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import ROOT, binary
from probe import dial, expect_ends, expect_metric, is_refused, run, started, until
from wire import BINARY, CLOSE, TEXT, Client, Raw, close_frame, frame, frame_head, request

pytestmark = pytest.mark.sanitize
QUICK = ("--port", "0", "--admin-address", "off")


def complaint(result, code):
    """Checks that the run ended with that code and one line about it; the line."""
    got, out, err = result
    assert got == code, f"{got}: {err}"
    assert out == ""
    lines = err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("tidewire: "), err
    return lines[0]


@contextlib.contextmanager
def busy_port(host="127.0.0.1", path=None):
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as other:
        other.bind(path or (host, 0))
        other.listen()
        yield path or other.getsockname()[1]


# Start: exit codes --------------------------------------------------------------------------------

def test_a_port_in_use(backend):
    with busy_port() as port:
        line = complaint(run("serve", "--io", backend, "--port", port, "--admin-address", "off"), 4)
    assert f"127.0.0.1:{port}" in line and "--port" in line


def test_a_port_where_another_tidewire_listens(new_server, backend):
    """SO_REUSEPORT of our own listeners must not let a second server steal half the clients."""
    s = new_server()
    line = complaint(run("serve", "--io", backend, "--port", s.port, "--admin-address", "off"), 4)
    assert "--port" in line
    assert s.get("/health")[0] == 200


def test_an_admin_port_in_use(backend):
    with busy_port() as port:
        line = complaint(run("serve", "--io", backend, "--port", "0", "--admin-address",
                             f"127.0.0.1:{port}"), 4)
    assert "--admin-address" in line


def test_a_unix_socket_in_use_stays_with_who_has_it(new_server, backend, tmp_path):
    path = str(tmp_path / "s")
    with busy_port(path=path):
        complaint(run("serve", "--io", backend, *QUICK, "--address", f"unix:{path}"), 4)
        assert os.path.exists(path), "the other's socket was removed"
    os.unlink(path)
    new_server("--address", f"unix:{path}")
    complaint(run("serve", "--io", backend, *QUICK, "--address", f"unix:{path}"), 4)
    assert os.path.exists(path), "the other's socket was removed"


def test_a_path_that_is_no_socket_is_not_touched(backend, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    complaint(run("serve", "--io", backend, *QUICK, "--address", f"unix:{path}"), 4)
    assert path.read_text() == "precious"


def test_an_address_of_another_host(backend):
    line = complaint(run("serve", "--io", backend, *QUICK, "--insecure", "--address",
                         "192.0.2.77"), 4)
    assert "192.0.2.77" in line and "host" in line


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
def test_a_config_file_that_cannot_be_read(command, tmp_path):
    assert "absent.conf" in complaint(run(*command, tmp_path / "absent.conf"), 3)
    complaint(run(*command, tmp_path), 3)


def test_an_unknown_flag_names_the_nearest():
    line = complaint(run("serve", "--max-mesage", "1KiB"), 2)
    assert "--max-mesage" in line and "max-message" in line


def test_an_unknown_key_names_file_line_and_the_nearest(tmp_path):
    path = tmp_path / "t.conf"
    path.write_text("port = 9000\n\n# a comment\nmax-conections = 5\n")
    line = complaint(run("check-config", path), 2)
    assert f"{path}:4" in line and "max-connections" in line


@pytest.mark.parametrize("flag,value,hint", [
    ("--max-message", "1XB", "KiB"), ("--max-message", "65MiB", "64MiB"), ("--port", "65536",
                                                                          "65535"),
    ("--drain-time", "5 parsecs", "ms"), ("--io", "kqueue", "epoll"), ("--insecure=maybe", None, "on"),
    ("--message-rate", "10/", "RATE"), ("--address", "localhost", "127.0.0.1"),
    ("--admin-address", "127.0.0.1", "8001"), ("--proxy-from", "10.0.0.0/33", "10.0.0.0/8"),
    ("--mesh-slots", "1000", "power of two"), ("--pong-misses", "0", "1"),
    ("--max-fragments", "65536", "65535"),
    ("--max-queue", "1KiB", "max-message"), ("--byte-rate", "1KiB/2KiB", "max-message"),
    ("--allow-origin", "example.com/x", "https://"),
])
def test_a_bad_value_says_what_would_be_good(flag, value, hint):
    line = complaint(run("serve", *([flag] if value is None else [flag, value])), 2)
    assert flag.lstrip("-").split("=")[0] in line and hint in line


def test_the_environment_is_checked_as_well():
    line = complaint(run("serve", env={"TIDEWIRE_MAX_MESSAGE": "12 bananas"}), 2)
    assert "TIDEWIRE_MAX_MESSAGE" in line
    line = complaint(run("serve", env={"TIDEWIRE_MAX_MESAGE": "1KiB"}), 2)
    assert "TIDEWIRE_MAX_MESSAGE" in line


def test_an_unknown_command_names_the_nearest():
    assert "serve" in complaint(run("sreve"), 2)


def limit_files(soft, hard=None):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or soft))


def test_too_few_descriptors(backend):
    line = complaint(run("serve", "--io", backend, *QUICK, preexec_fn=limit_files(100)), 5)
    assert "RLIMIT_NOFILE" in line and "ulimit -n" in line


def test_max_connections_above_what_fits(backend):
    line = complaint(run("serve", "--io", backend, *QUICK, "--shards", "1", "--max-connections",
                         "5000", preexec_fn=limit_files(2000)), 5)
    assert "--max-connections 5000" in line and "ulimit -n" in line


def test_the_soft_limit_is_raised_to_the_hard_one_and_the_log_says_what_fits(backend):
    with started(backend, "--shards", "1", *QUICK, preexec_fn=limit_files(64, 3000)) as p:
        fit = int(re.search(r"connections_fit=(\d+)", p.lines[-1])[1])
    assert 2500 < fit < 3000


def test_a_backend_that_cannot_start_is_named(tmp_path):
    source = tmp_path / "no_uring.c"
    source.write_text(NO_URING)
    program = str(tmp_path / "no_uring")
    subprocess.run(["gcc", "-O1", "-o", program, str(source)], check=True)
    result = subprocess.run([program, binary(), "serve", "--io", "uring", *QUICK], text=True,
                            capture_output=True, timeout=15)
    line = complaint((result.returncode, result.stdout, result.stderr), 6)
    assert "--io uring" in line and "--io epoll" in line
    with started("auto", *QUICK, prefix=[program]) as p:
        assert "io=epoll" in p.lines[-1] and 'io_reason="' in p.lines[-1]


# As containers do: a seccomp filter that answers io_uring_setup with EPERM.
NO_URING = r"""
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};

    if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 99;
    execv(argv[1], argv + 1);
    return 98;
}
"""


# Exposure -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [("--address", "0.0.0.0"), ("--address", "::"),
                                   ("--admin-address", "0.0.0.0:0")])
def test_beyond_loopback_needs_insecure(flags):
    assert "--insecure" in complaint(run("serve", "--port", "0", *flags), 2)


def test_insecure_is_said_at_start(new_server):
    s = new_server("--address", "0.0.0.0", "--insecure")
    assert any("--insecure" in line and "level=warn" in line for line in s.lines)
    with Raw(s.port) as c:  # --page auto: not beyond loopback
        assert c.ask(f"GET / HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode()).status == 404


# Values -------------------------------------------------------------------------------------------

def values_of(*args, **how):
    """--print-config as {key: (value, source)}."""
    code, out, err = run("serve", "--print-config", *args, **how)
    assert code == 0 and err == "", err
    rows = [re.fullmatch(r"([a-z-]+) = (.*?) +; (.*)", line) for line in out.splitlines()]
    return {m[1]: (m[2], m[3]) for m in rows if m}, out


def test_each_value_says_where_it_came_from(tmp_path):
    path = tmp_path / "t.conf"
    path.write_text("port = 9001\nmax-queue = 2MiB\nmax-head = 4KiB\n")
    values, _ = values_of("--config", path, "--max-head", "16KiB",
                          env={"TIDEWIRE_MAX_QUEUE": "3MiB", "TIDEWIRE_ECHO": "on"})
    assert values["port"][0] == "9001" and str(path) in values["port"][1]
    assert values["max-queue"] == ("3MiB", values["max-queue"][1])
    assert "TIDEWIRE_MAX_QUEUE" in values["max-queue"][1]
    assert values["max-head"][0] == "16KiB" and "--max-head" in values["max-head"][1]
    assert values["echo"][0] == "on" and "TIDEWIRE_ECHO" in values["echo"][1]
    assert values["drain-time"] == ("5s", "default")


def test_print_config_is_a_config_file_that_gives_the_same(tmp_path):
    flags = ("--message-rate", "10/20", "--address", "127.0.0.1", "--address", "::1", "--drain-time",
             "1500ms", "--allow-origin", "https://example.com", "--compress", "on")
    values, text = values_of(*flags)
    path = tmp_path / "printed.conf"
    path.write_text(text)
    assert run("check-config", path)[0] == 0
    again, _ = values_of("--config", path)
    assert {k: v for k, (v, _) in again.items()} == {k: v for k, (v, _) in values.items()}


def test_the_sample_config_is_taken():
    code, _, err = run("check-config", os.path.join(os.path.dirname(__file__), "..", "..", "tools",
                                                    "deploy", "tidewire.conf"))
    assert code == 0, err


def test_help_lists_every_flag_and_version_says_what_was_found():
    code, out, _ = run("serve", "--help")
    values, _ = values_of()
    assert code == 0
    assert all(f"  --{name}" in out for name in values)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert run("help", "serve")[1] == out
    code, out, _ = run("help")
    assert code == 0
    assert all(word in out for word in ("serve", "check-config", "version", "help"))
    assert run("--help") == (code, out, "")
    for name in ("version", "help"):
        assert run("help", name) == (code, out, "")
    for name in ("plan", "check-config"):
        code, said, _ = run("help", name)
        assert code == 0 and f"tidewire {name}" in said and run(name, "--help")[1] == said
    code, _, errors = run("help", "nothing")
    assert code == 2 and 'no help on "nothing"; give a command or --man' in errors
    code, out, _ = run("version")
    assert code == 0
    assert re.match(r"tidewire \d+\.\d+\.\d+\n", out)
    assert "gcc" in out or "clang" in out
    assert all(word in out for word in ("liburing", "uring", "epoll", "scalar"))


def test_a_plan_counts_nodes_beside_the_rule_of_thumb():
    code, out, err = run("plan", "--users", "10M", "--ram", "16GiB", "--reserve", "4GiB", "--cores",
                         "8", "--rate", "2M", "--user-bytes", "400", "--kernel-bytes", "4600")
    assert (code, err) == (0, "")
    rows = {line[:34].strip(): line[34:].split() for line in out.splitlines() if line[34:].split()}
    assert rows["nodes for memory"] == ["4", "9"]
    assert rows["connections that a node holds"] == ["2.58", "M", "1.20", "M"]
    assert rows["nodes, 1 of them spare"] == ["5"]
    assert "fs.nr_open" in out
    assert "fs.nr_open" not in run("plan", "--users", "100k", env={"TIDEWIRE_PORT": "x"})[1]
    assert "--users" in complaint(run("plan", "--user", "3"), 2)
    assert "--reserve" in complaint(run("plan", "--ram", "1GiB"), 2)
    assert "10M" in complaint(run("plan", "--users", "ten"), 2)
    code, out, _ = run("plan", "--help")
    assert code == 0 and "--delivery-time" in out and max(map(len, out.splitlines())) <= 80
    assert "\nusers = 1M " in run("plan", "--print-config")[1]


def test_the_plans_of_the_readme_are_what_is_printed():
    lines = (ROOT / "pubsub" / "README.md").read_text().splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith("    tidewire plan ")]
    assert len(begins) == 2
    for i in begins:
        code, out, _ = run(*lines[i].split()[1:])
        assert code == 0
        printed = [line.rstrip() for line in out.splitlines()]
        assert [line[4:] for line in lines[i + 2:i + 2 + len(printed)]] == printed


def test_the_environment_configures_a_server(new_server):
    s = new_server(env={"TIDEWIRE_ECHO": "on", "TIDEWIRE_MAX_MESSAGE": "10B"})
    with Client(s.port) as c:
        c.echo(TEXT, b"0123456789")
        c.send(frame_head(TEXT, 11))
        c.expect_close(1009)


def test_a_config_file_configures_a_server_and_flags_win(new_server, tmp_path):
    path = tmp_path / "t.conf"
    path.write_text("echo = on\nmax-message = 10B\n")
    s = new_server("--config", str(path), "--max-message", "20B")
    with Client(s.port) as c:
        c.echo(TEXT, b"x" * 20)
        c.send(frame_head(TEXT, 21))
        c.expect_close(1009)


# Readiness and log --------------------------------------------------------------------------------

@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(new_server, tmp_path, abstract):
    name = f"@tidewire-{os.getpid()}-{time.monotonic_ns()}" if abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        manager.settimeout(5)
        s = new_server("--drain-time", "0", env={"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"
        s.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_a_service_manager_that_does_not_listen_is_no_obstacle(new_server, tmp_path):
    new_server(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}).stop()


def test_lines_of_the_json_log_are_json(backend):
    with started(backend, *QUICK, "--log-format", "json", "--log-level", "debug") as p:
        address = next(r["address"] for r in map(json.loads, p.lines) if r["msg"] == "listening")
        with Client(int(address.rsplit(":", 1)[1]), "/rooms/logged") as c:
            c.expect_alive()
    rows = [json.loads(line) for line in p.lines]
    assert [r["msg"] for r in rows][-1] == "stopped"
    assert all({"time", "level", "msg"} <= r.keys() for r in rows)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", r["time"]) for r in rows)


def test_log_level_leaves_out_what_is_below(backend):
    p = subprocess.Popen([binary(), "serve", "--io", backend, *QUICK, "--log-level", "error"],
                         text=True, stderr=subprocess.PIPE)
    time.sleep(0.3)
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=10)
    assert (p.returncode, err) == (0, "")


# Metrics and health -------------------------------------------------------------------------------

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="[^"\\]*",?)+\})? (-?[0-9.e+-]+)')


def test_metrics_are_prometheus_text(new_server):
    s = new_server("--compress", "on")
    status, text = s.get("/metrics")
    assert status == 200 and text.endswith("\n")
    help_, types, samples, order = {}, {}, set(), []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in help_ and words
            help_[name] = words
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in help_ and name not in types
            types[name] = kind
        else:
            m = SAMPLE.fullmatch(line)
            assert m, line
            assert (m[1], m[2]) not in samples, f"twice: {line}"
            samples.add((m[1], m[2]))
            if not order or order[-1] != m[1]:
                order.append(m[1])
    names = {name for name, _ in samples}
    assert names == set(types) == set(help_)
    assert len(order) == len(set(order)), "a family's samples stand together"
    assert set(types.values()) <= {"counter", "gauge"}
    assert all((kind == "counter") == name.endswith("_total") for name, kind in types.items())
    assert all(name.startswith("tidewire_") for name in names)
    with dial(s.admin_port) as c:
        answer = c.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert dict(answer.headers)["content-type"].startswith("text/plain; version=0.0.4")


def test_public_and_admin_resources_are_apart(new_server):
    s = new_server()
    for path in ("/metrics", "/health", "/health/ready"):
        assert s.get(path, s.port)[0] == 404
        assert s.get(path)[0] == 200
    for path in ("/", "/rooms/x", "/echo"):
        assert s.get(path)[0] == 404


def test_admin_address_off_leaves_no_second_port(backend):
    with started(backend, "--port", "0", "--admin-address", "off") as p:
        inodes = {os.readlink(f"/proc/{p.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{p.pid}/fd")}
        with open("/proc/net/tcp", encoding="ascii") as f:
            rows = [row.split() for row in list(f)[1:]]
    ports = {r[1] for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes}
    assert not any("admin" in line for line in p.lines)
    assert len(ports) <= 1  # with io_uring the listeners may be the ring's own


@pytest.mark.parametrize("value,status", [("on", 200), ("off", 404), ("auto", 200)])
def test_the_page_is_there_when_it_should(new_server, value, status):
    s = new_server("--page", value)
    assert s.get("/", s.port)[0] == status


# Drain --------------------------------------------------------------------------------------------

def test_a_drain_spreads_the_closes_over_its_time(new_server):
    s = new_server("--drain-time", "1s", "--shards", "2")
    clients = [Client(s.port, "/rooms/drain") for _ in range(200)]
    for c in clients:
        c.expect_alive()
    at = []

    def wait(some):
        for c in some:
            f = c.frame()
            assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1012)
            at.append(time.monotonic() - began)
            c.send(close_frame(1012))
            assert c.at_end()

    threads = [threading.Thread(target=wait, args=([c],)) for c in clients]
    for t in threads:
        t.start()
    began = time.monotonic()
    s.terminate()
    for t in threads:
        t.join(10)
    at.sort()
    assert len(at) == 200
    # Even: each quarter of the time takes about a quarter of the clients.
    for quarter in range(4):
        inside = sum(quarter / 4 <= t < (quarter + 1) / 4 for t in at)
        assert 25 <= inside <= 80, f"{inside} in quarter {quarter}"
    assert at[-1] < 1.5
    s.stop()
    assert time.monotonic() - began < 3


def test_a_drain_time_of_0_closes_everyone_at_once(new_server):
    s = new_server("--drain-time", "0")
    clients = [Client(s.port, "/rooms/drain") for _ in range(100)]
    clients[-1].expect_alive()
    began = time.monotonic()
    s.terminate()
    for c in clients:
        assert c.frame().payload[:2] == struct.pack("!H", 1012)
        c.send(close_frame(1012))
        assert c.at_end()
    s.stop()
    assert time.monotonic() - began < 1


def test_during_a_drain_nobody_comes_in_and_readiness_says_so(new_server):
    host = "127.0.0.7"
    s = new_server("--address", host, "--drain-time", "0", "--close-timeout", "10s")
    with dial(s.port, host).open("/rooms/stay") as silent, dial(s.port, host) as begun:
        begun.send(b"GET /rooms/x HTTP/1.1\r\n")
        silent.expect_alive()
        assert s.get("/health/ready")[0] == 200
        s.terminate()
        assert silent.frame().payload[:2] == struct.pack("!H", 1012)
        until(lambda: is_refused(s.port, host), True)
        for _ in range(10):
            assert s.get("/health/ready") == (503, "draining\n")
            assert s.get("/health/live")[0] == 200
        assert begun.response().status == 503
        assert begun.at_end()
        begun.sock.close()
        expect_ends(s, "drain", 2)
        expect_metric(s, "close_frames_sent_total", 1, code="1012")
        silent.send(close_frame(1012))
        s.stop()


def test_a_connection_in_its_handshake_when_the_drain_begins_is_told(new_server):
    s = new_server("--drain-time", "1s", "--shards", "1")
    with Client(s.port, "/rooms/a") as first, Raw(s.port) as late:
        first.expect_alive()
        late.send(b"GET /rooms/x HTTP/1.1\r\n")
        time.sleep(0.05)
        s.terminate()
        until(lambda: s.get("/health")[0], 503)
        late.send(request("/rooms/x", late.host).split(b"\r\n", 1)[1])
        answer = late.response()
        assert answer.status == 101  # a browser sees a code only after the handshake
        assert late.frame().payload[:2] == struct.pack("!H", 1012)


def test_what_is_queued_is_flushed_before_the_close(new_server):
    s = new_server("--drain-time", "0", "--max-queue", "16MiB", "--tcp-sndbuf", "16KiB", "--shards",
                   "2")
    slow = dial(s.port, rcvbuf=4096).open("/rooms/flush")
    expect_metric(s, "members", 1)
    with Client(s.port, "/rooms/flush?echo=0") as publisher:
        for i in range(2000):
            publisher.send(frame(BINARY, struct.pack("!I", i) + bytes(1000)))
        # They may be on the way to the slow one's shard still.
        expect_metric(s, "ordered_total", 2000)
        expect_metric(s, "queue_bytes", lambda n: n > 1 << 20)
        s.terminate()
        assert publisher.frame().opcode == CLOSE
        publisher.send(close_frame(1012))
        for i in range(2000):
            assert slow.message() == (BINARY, struct.pack("!I", i) + bytes(1000))
        f = slow.frame()
        assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1012)
        slow.send(close_frame(1012))
        assert slow.at_end()
    s.stop()


@pytest.mark.parametrize("first,second", [(signal.SIGTERM, signal.SIGTERM),
                                          (signal.SIGINT, signal.SIGTERM)])
def test_a_second_signal_ends_it_at_once(backend, first, second):
    with started(backend, *QUICK, "--drain-time", "60s", code=7) as p:
        port = int(re.search(r"address=127\.0\.0\.1:(\d+)", p.lines[0])[1])
        with Client(port, "/rooms/x") as c:
            c.expect_alive()
            p.send_signal(first)
            assert "draining" in p.stderr.readline()
            p.send_signal(second)
            p.wait(3)
    assert "exiting now" in p.lines[-1]


def test_a_reload_signal_is_no_end(new_server):
    s = new_server("--drain-time", "0")
    s.process.send_signal(signal.SIGHUP)
    with Client(s.port, "/rooms/x") as c:
        c.expect_alive()
