"""
`sidecar run --config FILE`, told of endpoints by a file, `FILE.told`, as a control plane would tell it.

The file holds JSON, `{name: [[address, weight, zone, tls], ...]}` (`tls` may be left out), and is looked at often;
every name in it is told to the sink of whatever process the configuration wants: one data path, or a supervisor of
several.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from sidecar.loader.compiler_process import CompilerProcess
from sidecar.process_log import configure
from sidecar.runtime import server
from sidecar.runtime.process import Process
from sidecar.upstream.discovery.endpoint_set import EndpointSet
from sidecar.upstream.discovery.endpoint_sink import EndpointSink
from sidecar.workers import supervisor
from sidecar.workers.start import serve

LOOK_S = 0.02


async def follow(path: Path, sink: EndpointSink) -> None:
    """Tell what the file says, whenever it says something else."""
    before = ""
    while True:
        text = path.read_text() if path.exists() else ""
        if text and text != before:
            before = text
            for name, listed in json.loads(text).items():
                sink.tell(name, EndpointSet.of(tuple((*one, None)[:4] for one in listed)))
        await asyncio.sleep(LOOK_S)


def told(kind: Any, path: Path) -> Any:
    """This kind of process, with somebody who tells it."""

    class Told(kind):  # type: ignore[misc]
        async def run(self) -> int:
            assert isinstance(self, Process)
            self.spawn(follow(path, self.endpoint_sink), "follow")  # type: ignore[attr-defined]
            code: int = await super().run()
            return code

    return Told


def main(path: str) -> None:
    """Run; the classes that `serve` makes are replaced by those that are told."""
    configure("info")
    file = Path(f"{path}.told")
    supervisor.Supervisor = told(supervisor.Supervisor, file)  # type: ignore[misc]
    server.Sidecar = told(server.Sidecar, file)  # type: ignore[misc]
    serve(path, os.environ, CompilerProcess(path, os.environ, None))


if __name__ == "__main__":
    main(sys.argv[1])
