"""Hosts of a test's own, as `sidecar.demo.namespaces` makes them, and what tests ask of them. As root."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  # another user might not find it when it is needed
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from sidecar.demo import namespaces
from tests.support.peers import missing, require

TIMEOUT_S = namespaces.TIMEOUT_S


class Host(namespaces.Host):
    """One that runs programs to their end, and others until the end of a block."""

    def run(self, *words: object, user: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            [*self.argv(user), *map(str, words)],
            text=True, capture_output=True, timeout=TIMEOUT_S, check=False, **options,
        )  # fmt: skip

    def said(self, *words: object, user: int | None = None) -> str:
        """What it printed; it must have done well."""
        done = self.run(*words, user=user)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def started(self, *words: object, user: int | None = None, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A program that runs until the end of the block."""
        words = (*self.argv(user), *words)
        process = subprocess.Popen([*map(str, words)], text=True, stdin=subprocess.DEVNULL, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT_S)


@contextlib.contextmanager
def hosts(count: int, *, v4: bool = True, v6: bool = True) -> Iterator[Sequence[Host]]:
    """So many, for the time of a block; skips, or fails with `CI=true`, where they cannot be made."""
    require("ip")
    if os.geteuid() != 0:
        missing("network namespaces need root")
    names = [str(n) for n in range(1, count + 1)]
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(namespaces.network(f"sidecar-{uuid4().hex[:8]}", names, v4=v4, v6=v6))
        except namespaces.NamespaceError as error:
            missing(str(error))
        yield [Host(one.name, one.v4, one.v6) for one in made]
