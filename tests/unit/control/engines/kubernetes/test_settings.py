"""Where the API is: in a pod, and outside."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sidecar.control.engines.kubernetes.settings import ACCOUNT, KubernetesSettings, read_settings

OUTSIDE = {"url": "https://k", "namespace": "shop"}


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")], ids=("v4", "v6")
)
def test_pod_knows_it_all(host: str, url: str) -> None:
    """By its environment, and by what the kubelet mounts."""
    found = read_settings({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}, mesh="shop")
    assert found == KubernetesSettings(url, f"{ACCOUNT}/token", f"{ACCOUNT}/ca.crt", "", f"{ACCOUNT}/namespace", "shop")
    assert found.is_tls


def test_outside_nothing_is_guessed() -> None:
    """A token is shown to nobody to whom it was not given; `kubectl proxy` needs none."""
    found = read_settings({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, url="http://127.0.0.1:8001/", namespace="shop")
    assert found == KubernetesSettings("http://127.0.0.1:8001", namespace="shop")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "k:6443"}, "--kubernetes: expected https://HOST"),
        ({"url": "https://user:secret@k"}, "--kubernetes: expected https://HOST"),
        ({"url": "https://k?a=b"}, "--kubernetes: expected https://HOST"),
        ({"url": "https://k:99999"}, "--kubernetes: expected https://HOST"),
        ({"url": "https://k", "namespace": ""}, "without --kubernetes-namespace"),
        ({"url": "http://k", "token_file": "t"}, "--kubernetes-token-file is given with an address in clear"),
        ({"url": "http://k", "ca": "c"}, "--kubernetes-ca is given with an address in clear"),
        ({"namespace": "../x"}, "--kubernetes-namespace: expected lower-case"),
        ({"mesh": "a.b"}, "--kubernetes-mesh: expected lower-case"),
        ({"url": ""}, "KUBERNETES_SERVICE_HOST is not set"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    """And never shows a password."""
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        read_settings({}, **{**OUTSIDE, **options})
    assert "secret" not in str(raised.value)
