"""The reverse proxy on aiohttp, run by the environment that benchmarks/requirements.txt describes."""

from __future__ import annotations

import os
import re

from .processes import Process, free_ports
from .site import HERE, HOST, Running, Site, Subject, Work, output_of, write

PYTHON = HERE / ".venv" / "bin" / "python"
SCRIPT = HERE / "aiohttp_proxy.py"


def _missing_aiohttp() -> str | None:
    found = os.access(PYTHON, os.X_OK) and output_of(str(PYTHON), "-c", "import aiohttp, uvloop") == ""
    return None if found else "aiohttp and uvloop in benchmarks/.venv (make bench sets it up)"


def _version() -> str:
    text = output_of(
        str(PYTHON), "-c", "import aiohttp, platform; print(aiohttp.__version__, platform.python_version())"
    )
    found = re.fullmatch(r"(\S+) (\S+)", text)
    return f"{found[1]} on Python {found[2]}" if found else "unknown"


def _start_aiohttp(site: Site, work: Work) -> Running:
    (port,) = free_ports(1)
    log = site.folder / "aiohttp-access.json"
    services = write(site.folder, "aiohttp-services", "\n".join(work.services) + "\n")
    argv = [str(PYTHON), str(SCRIPT), str(port), str(site.v1_port), str(site.beta_port), HOST, str(services)]
    process = Process("aiohttp", [*argv, str(log)] if work.is_full else argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST)
    return Running(process, port, log=log if work.is_full else None)


AIOHTTP_SUBJECT = Subject("aiohttp", _missing_aiohttp, _version, _start_aiohttp)
