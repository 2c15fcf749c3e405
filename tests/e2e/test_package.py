# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The Debian package: what is in it, and what it says about itself."""

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from harness import Server
from wire import Client, join_all

ROOT = Path(__file__).resolve().parents[2]


def build_folder():
    binary = Path(os.environ.get("TW_BINARY", ROOT / "build" / "release" / "tidewire"))
    return Path(os.environ.get("TW_BUILD", binary.parent))


def run(*words, **how):
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **how)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    out = tmp_path_factory.mktemp("package")
    run("cpack", "-G", "DEB", "--config", str(build_folder() / "CPackConfig.cmake"), "-B", str(out))
    (deb,) = out.glob("tidewire_*.deb")
    return deb


@pytest.fixture(scope="module")
def listing(package):
    """path -> (mode, owner)"""
    rows = [line.split() for line in run("dpkg-deb", "--contents", str(package)).splitlines()]
    return {row[5].removeprefix("."): (row[0], row[1]) for row in rows}


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    out = tmp_path_factory.mktemp("unpacked")
    run("dpkg-deb", "--raw-extract", str(package), str(out))
    return out


def field(package, name):
    return run("dpkg-deb", "--field", str(package), name).strip()


def test_package_holds_programs_unit_config_manuals_and_user(listing):
    for path in (
        "/usr/bin/tidewire",
        "/usr/bin/tidewire-load",
        "/usr/lib/systemd/system/tidewire.service",
        "/usr/lib/sysusers.d/tidewire.conf",
        "/usr/share/man/man1/tidewire.1.gz",
        "/usr/share/man/man1/tidewire-load.1.gz",
        "/usr/share/doc/tidewire/copyright",
        "/usr/share/doc/tidewire/examples/haproxy.cfg",
        "/usr/share/doc/tidewire/examples/nginx.conf",
        "/etc/tidewire/tidewire.conf",
    ):
        assert path in listing, sorted(listing)


def test_package_holds_no_other_files(listing):
    files = [path for path, (mode, _) in listing.items() if mode.startswith("-")]
    assert len(files) == 10, sorted(files)


def test_files_belong_to_root_and_only_root_writes_them(listing):
    for path, (mode, owner) in listing.items():
        assert owner == "root/root", path
        assert mode[5] == "-" and mode[8] == "-", (path, mode)
    assert listing["/usr/bin/tidewire"][0] == "-rwxr-xr-x"
    assert listing["/etc/tidewire/tidewire.conf"][0] == "-rw-r--r--"


def test_dependencies_are_those_that_the_program_is_linked_with(package):
    depends = field(package, "Depends")
    for library in ("libc6", "liburing2", "libwolfssl35", "libxxhash0", "libinih1",
                    "libhiredis0.14", "zlib1g"):
        assert library in depends, depends


def test_configuration_is_a_conffile(unpacked):
    conffiles = (unpacked / "DEBIAN" / "conffiles").read_text().split()
    assert conffiles == ["/etc/tidewire/tidewire.conf"]


def test_scripts_of_the_package_are_executable_and_parse(unpacked):
    for name in ("postinst", "prerm", "postrm"):
        script = unpacked / "DEBIAN" / name
        assert os.access(script, os.X_OK), name
        run("sh", "-n", str(script))


def test_packaged_configuration_is_accepted_by_the_packaged_program(unpacked):
    program = unpacked / "usr" / "bin" / "tidewire"
    run(str(program), "check-config", str(unpacked / "etc" / "tidewire" / "tidewire.conf"))


def test_packaged_program_serves_with_the_packaged_configuration(unpacked, backend, monkeypatch):
    """With the ports of the test; all else is as the service starts it."""
    monkeypatch.setenv("TW_BINARY", str(unpacked / "usr" / "bin" / "tidewire"))
    server = Server(backend, "--config", str(unpacked / "etc" / "tidewire" / "tidewire.conf"))
    try:
        assert server.get("/health") == (200, "ok\n")
        with Client(server.port, "/rooms/packaged") as c:
            join_all([c])
    finally:
        server.stop()


def test_manual_page_describes_the_flags(unpacked):
    page = gzip.decompress((unpacked / "usr/share/man/man1/tidewire.1.gz").read_bytes()).decode()
    assert ".TH" in page
    for flag in ("shards", "drain", "max"):
        assert flag in page


def test_unit_is_sound_and_hardened(unpacked, tmp_path):
    text = (unpacked / "usr/lib/systemd/system/tidewire.service").read_text()
    program = unpacked / "usr" / "bin" / "tidewire"
    unit = tmp_path / "tidewire.service"
    without_manual = [line for line in text.splitlines() if not line.startswith("Documentation=")]
    unit.write_text("\n".join(without_manual).replace("/usr/bin/tidewire", str(program)))
    run("systemd-analyze", "verify", "--man=no", str(unit))
    for line in (
        "Type=notify",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "LimitNOFILE=1048576",
        "User=tidewire",
        "MemoryDenyWriteExecute=yes",
    ):
        assert line in text.splitlines()
    # 0 is safest, 100 has no protection at all; what is left is that it has a network.
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
