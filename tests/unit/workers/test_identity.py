"""What workers that have their certificates by themselves are told of as one."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.link.report import IdentityReport
from sidecar.telemetry.metrics.merge import Merged
from sidecar.workers.identity import report_of
from sidecar.workers.member import Member

SHOP = "spiffe://shop/storefront"


def told(report: IdentityReport) -> tuple[Any, ...]:
    """As a worker says it."""
    member = Member(0, Merged())
    member._on_message(("certificate", *(getattr(report, name) for name in report.__slots__)))
    return member.certificate


@pytest.mark.parametrize("reports", [(), ((),), ((), ())])
def test_workers_that_are_to_have_none_have_none(reports: tuple[tuple[Any, ...], ...]) -> None:
    """Or have said nothing yet."""
    assert report_of(reports) is None


def test_the_certificate_that_ends_first_is_told() -> None:
    """Its worker is the first that peers refuse."""
    late, soon = IdentityReport(SHOP, 900.0, "CN=new"), IdentityReport(SHOP, 300.0, "CN=old", "", 500.0, 700.0, 100.0)
    assert report_of([told(late), told(soon)]) == soon
    assert report_of([told(soon), (), told(late)]) == soon


def test_trouble_of_one_is_told_beside_the_certificate_of_another() -> None:
    """Who has none says why; nothing is told of him as if all had none."""
    held, without = IdentityReport(SHOP, 900.0, "CN=new"), IdentityReport(last_error="ca.crt is not there")
    both = IdentityReport(SHOP, 900.0, "CN=new", "ca.crt is not there")
    assert report_of([told(without), told(held)]) == report_of([told(held), told(without)]) == both
    assert report_of([told(without)]) == without


def test_a_worker_that_is_to_have_none_any_more_says_so() -> None:
    """A reload may take it away."""
    member = Member(0, Merged())
    member._on_message(("certificate", SHOP, 900.0, "CN=new", "", 0.0, 0.0, 0.0))
    member._on_message(("certificate",))
    assert report_of([member.certificate]) is None
