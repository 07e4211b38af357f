"""What a process of the demonstration says of itself at `/metrics`. *Pure.*"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the sample's name and its labels, sorted."""


def read_samples(text: str) -> Samples:
    """Every sample of a page in Prometheus's text format."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """Sum of the samples of this name that have these labels."""
    wanted = labels.items()
    return sum(value for (found, have), value in samples.items() if found == name and wanted <= dict(have).items())
