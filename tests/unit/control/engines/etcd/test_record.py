"""What stands in etcd for a rollout record: legible while it is short, packed when it is long."""

from __future__ import annotations

import json
import random

import pytest

from sidecar.control.engines.etcd.record import LEGIBLE_BYTES, read_back, written
from sidecar.control.engines.etcd.wire import MAX_VALUE_BYTES, KeyValue
from sidecar.control.engines.interface import Unavailable


def back(value: bytes) -> bytes:
    found = read_back(KeyValue(b"record", value, 1, 7))
    assert found.version == "7"
    return found.value


def test_short_record_stands_as_it_is() -> None:
    """People can read it."""
    value = json.dumps({"form": 1}).encode()
    assert written(value) == value
    assert back(value) == value


def test_record_of_many_services_fits_and_comes_back() -> None:
    """Its names come again and again, so that what is longer than etcd takes is a fraction of that."""
    hashes = random.Random(1)
    services = {
        f"service-{number}": {
            "wanted": f"{hashes.getrandbits(128):032x}",
            "callees": [f"service-{number + one}" for one in range(20)],
        }
        for number in range(5000)
    }
    value = json.dumps({"form": 1, "services": services}).encode()
    assert len(value) > MAX_VALUE_BYTES
    stands = written(value)
    assert len(stands) < MAX_VALUE_BYTES / 2
    assert back(stands) == value


def test_record_that_does_not_fit_is_refused_with_its_size() -> None:
    """Nothing is written then."""
    value = b"{" + random.Random(2).randbytes(2 * MAX_VALUE_BYTES) + b"}"
    with pytest.raises(Unavailable, match="octets, and etcd at most 1500000"):
        written(value)


@pytest.mark.parametrize("value", [b"", b"spoilt", written(b"{" + b" " * LEGIBLE_BYTES)[:-9], b"\x78\x9c"])
def test_what_was_changed_by_hand_is_given_as_it_is(value: bytes) -> None:
    """Whoever reads the record says that it is none."""
    assert back(value) == value
