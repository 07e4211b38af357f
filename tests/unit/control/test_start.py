"""What the command line says of the engine, before anything is started."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.cli.mesh.control import control
from sidecar.control import start
from sidecar.control.start import Options, StartError, engine_of


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "etcd://"}, "expected HOST:PORT of a member of etcd, found ''"),
        ({"engine": "zookeeper://a"}, "expected files, kubernetes or etcd://HOST:PORT,..., found 'zookeeper://a'"),
        ({"engine": "etcd://a", "mesh": "mesh"}, "--mesh is given with --engine etcd"),
        ({"engine": "etcd://a", "state": "state"}, "--state is given with --engine etcd"),
        ({"engine": "etcd://a", "etcd_user": "shop"}, "--etcd-user is given without --etcd-password-file"),
        ({"mesh": "mesh", "etcd_password_file": "p"}, "--etcd-password-file is given without --engine etcd://"),
        ({"engine": "kubernetes"}, "this is no pod of Kubernetes"),
        ({"engine": "kubernetes", "mesh": "mesh"}, "--mesh is given with --engine kubernetes, which keeps that itself"),
        ({"engine": "kubernetes", "etcd_ca": "ca"}, "--etcd-ca is given without --engine etcd://"),
        ({"engine": "kubernetes", "kubernetes": "https://k"}, "--kubernetes is given without --kubernetes-namespace"),
        ({"mesh": "mesh", "kubernetes_ca": "ca"}, "--kubernetes-ca is given without --engine kubernetes"),
        ({}, "give --mesh"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its name."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StartError) as raised:
        engine_of(Options(**options))
    assert said in str(raised.value)


IN_KUBERNETES = {"engine": "kubernetes", "kubernetes": "https://k:6443", "kubernetes_namespace": "shop"}


@pytest.mark.parametrize(
    ("options", "name"),
    [({"mesh": "mesh"}, "files"), ({"engine": "etcd://a/shop"}, "etcd"), (IN_KUBERNETES, "kubernetes")],
)
def test_engine_is_made_without_touching_anything(options: dict[str, Any], name: str) -> None:
    """Neither the directory nor what an engine speaks to need be there."""
    assert engine_of(Options(**options)).name == name


def test_mesh_is_needed_where_the_engine_has_none() -> None:
    """Wrong usage is 2."""
    result = CliRunner().invoke(control, [])
    assert result.exit_code == 2
    assert "give '--mesh'" in result.output


@pytest.mark.parametrize(
    ("listen", "accept", "has_authority", "taken"),
    [
        ("127.0.0.1:15010", "", True, ("clear", "tls")),
        ("0.0.0.0:15010", "", True, ("tls",)),
        ("0.0.0.0:15010", "tls, clear", True, ("clear", "tls")),
        ("127.0.0.1:15010", "tls", True, ("tls",)),
        ("0.0.0.0:15010", "clear", True, ("clear",)),
        ("0.0.0.0:15010", "clear", False, None),
    ],
)
def test_what_the_port_takes(listen: str, accept: str, has_authority: bool, taken: tuple[str, ...] | None) -> None:
    """As it is asked for; by default TLS, and what comes in clear from this machine alone."""
    assert start._accepted(Options(listen=listen, accept=accept), has_authority) == taken


@pytest.mark.parametrize("accept", ["", "tls", "clear,tls"])
def test_without_an_authority_that_is_needed_nothing_starts(accept: str) -> None:
    """And it says how to have one, or how to do without."""
    with pytest.raises(StartError, match=r"mesh ca init.*--create-ca.*--accept clear"):
        start._accepted(Options(accept=accept), False)


def test_what_is_accepted_is_one_of_two_words() -> None:
    """And nothing else."""
    with pytest.raises(StartError, match="--accept: expected"):
        start._accepted(Options(accept="http"), True)
