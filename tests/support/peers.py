"""
Real peers: programs and servers that were not written for these tests.

A test that needs one says `require("nginx")`: where it is not installed the test is skipped and says so, and with
`CI=true` in the environment it fails instead, so that a pipeline cannot lose a peer without notice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.process import request
from tests.support.wait import eventually, free_port

_PACKAGES = {
    "nginx": "Debian's package nginx",
    "curl": "Debian's package curl",
    "h2load": "Debian's package nghttp2-client",
    "nghttp": "Debian's package nghttp2-client",
    "nghttpd": "Debian's package nghttp2-server",
    "prometheus": "Debian's package prometheus",
    "promtool": "Debian's package prometheus",
    "etcd": "Debian's package etcd-server",
    "openssl": "Debian's package openssl",
    "testssl": "Debian's package testssl.sh",
    "unshare": "Debian's package util-linux",
    "nft": "Debian's package nftables",
    "iptables": "Debian's package iptables",
    "ip": "Debian's package iproute2",
    "psql": "Debian's package postgresql-client",
    "redis-cli": "Debian's package redis-tools",
    "redis-server": "Debian's package redis-server",
    "setpriv": "Debian's package util-linux",
    "chromium": "Debian's package chromium",
}


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it with `CI=true`, because of `what`."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (with CI=true nothing may be missing)")
    pytest.skip(what)


def require(program: str) -> str:
    """Path of a program."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(f"{program} is not installed: it is in {_PACKAGES.get(program, 'no package that we know')}")
    return path


def require_ipv6() -> None:
    """A loopback address of IPv6."""
    import socket

    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        missing(f"no address ::1 on this machine: {error}")


@contextlib.contextmanager
def running_server(command: list[str], port: int, log: Path, path: str = "/", below: int = 1000) -> Iterator[None]:
    """The server as a subprocess, once it answers there, with a status below that; killed on leaving."""

    def is_up() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{command[0]} ended with {process.returncode}:\n{log.read_text()}")
        try:
            return request(port, path).status < below
        except OSError:
            return False

    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        eventually(is_up, f"{command[0]} to answer", 30)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


FILES = """
    gzip on; gzip_types text/plain; gzip_min_length 100; gzip_proxied any;
    root FOLDER/files;
    location = / { return 204; }
    location = /connection { return 200 "$connection"; }
    location = /fields { return 200 "$http_via|$http_x_request_id|$http_host"; }
"""
"""`/connection` answers the serial number of its connection, of which nginx counts the requests."""


class Nginx:
    """
    A server by nginx.

    Attributes:
        port: Where it listens.
        folder: Of its files and logs.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.folder = folder

    def reload(self) -> None:
        """Have new workers take what comes from now on; the old ones end when their connections have."""
        os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGHUP)

    def errors(self) -> str:
        """Its log of errors."""
        return (self.folder / "nginx-error.log").read_text()


@contextlib.contextmanager
def nginx(
    directory: Path, server: str = FILES, listens: str = "", around: str = "", user: str = "root"
) -> Iterator[Nginx]:
    """
    nginx with keep-alive.

    Args:
        directory: Its own; its workers are of the same user.
        server: What its server does; `FOLDER` stands for `directory`.
        listens: Further parameters of `listen`, such as `ssl`.
        around: Beside the server.
        user: Whose its workers are, if we are root.
    """
    program = require("nginx")
    port = free_port()
    (directory / "files").mkdir(exist_ok=True, parents=True)
    config = directory / "nginx.conf"
    text = textwrap.dedent(f"""
        worker_processes 1;
        daemon off;
        {f"user {user};" if os.geteuid() == 0 else ""}
        pid FOLDER/nginx.pid;
        error_log FOLDER/nginx-error.log;
        events {{ worker_connections 512; }}
        http {{
            access_log off;
            types {{ text/plain txt; application/octet-stream bin; }}
            client_body_temp_path FOLDER/t1; proxy_temp_path FOLDER/t2; fastcgi_temp_path FOLDER/t3;
            uwsgi_temp_path FOLDER/t4; scgi_temp_path FOLDER/t5;
            keepalive_timeout 60s;
            keepalive_requests 100000;
            {around}
            server {{
                listen 127.0.0.1:{port} {listens};
                {server}
            }}
        }}
    """)
    config.write_text(text.replace("FOLDER", str(directory)))
    with running_server([program, "-c", str(config), "-p", str(directory)], port, directory / "nginx.log"):
        yield Nginx(directory, port)


@contextlib.contextmanager
def uvicorn(directory: Path, http: str) -> Iterator[int]:
    """uvicorn with `tests.support.asgi_app` and this parser (`httptools`, `h11`); yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.support.asgi_app:app", "--port", str(port), "--http", http]
    command += ["--ws", "none", "--log-level", "warning", "--lifespan", "off", "--timeout-keep-alive", "30"]
    with running_server(command, port, directory / f"uvicorn-{http}.log"):
        yield port
