"""What several files of this folder share: a sidecar that leads to whichever server a request names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.process import SidecarProcess, running_sidecar
from tests.support.wire import Client, Upstream


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarProcess]:
    """
    A sidecar whose outbound listener passes everything on to the authority that it names, so that every test of a
    file has servers of its own.
    """
    text = """
        service: storefront
        outbound: {listen: "127.0.0.1:${OUTBOUND_PORT}", unmatched: passthrough}
        limits: {header_timeout: 1s}
    """
    with running_sidecar(tmp_path_factory.mktemp("proxy"), text) as sidecar:
        yield sidecar


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that the test plays by hand."""
    with Upstream() as server:
        yield server


@pytest.fixture
def client(proxy: SidecarProcess) -> Iterator[Client]:
    """A connection to `proxy`."""
    with Client(proxy.outbound_port) as connection:
        yield connection
