"""`sidecar inject`: files in, files out, and what is told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli.commands import cli

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: app, image: a, ports: [{containerPort: 80}]}\n"  # noqa: E501
BAD = POD.replace("spec:\n", "spec:\n  hostNetwork: true\n")


def inject(*arguments: object, given: bytes | None = None) -> Result:
    words = ["inject", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(cli, words, input=given, prog_name="sidecar", catch_exceptions=False)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    return path


def test_the_injected_manifest_is_printed_and_a_line_told(pod: Path) -> None:
    """Standard output has the manifest alone, standard error a line for the workload; the file stays."""
    result = inject(pod, "--config", "c")
    assert result.exit_code == 0
    assert result.stdout.startswith("apiVersion: v1\n")
    assert "name: sidecar" in result.stdout
    assert result.stderr == f"{pod}:1: Pod web: added a native sidecar and capture; service web, app port 80\n"
    assert pod.read_text() == POD
    assert inject("-q", pod, "--config", "c").stderr == ""


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=["none", "dash"])
def test_standard_input_passes_through_and_back(arguments: list[str]) -> None:
    """Without a file, or by `-`, what comes in is injected; `--uninject` gives back every byte of it."""
    given = b"\xef\xbb\xbf" + POD.replace("\n", "\r\n").encode()
    injected = inject(*arguments, "--config", "c", given=given)
    assert injected.stdout_bytes.startswith(b"\xef\xbb\xbfapiVersion: v1\r\n")
    back = inject(*arguments, "--uninject", given=injected.stdout_bytes)
    assert back.stdout_bytes == given
    assert back.stderr == "<stdin>: Pod web: taken out\n"


def test_in_place_rewrites_the_file_and_keeps_its_mode(pod: Path) -> None:
    """The file is replaced, by way of a link too, and is what it was when the sidecar is taken out."""
    pod.chmod(0o640)
    link = pod.with_name("link.yaml")
    link.symlink_to(pod)
    assert inject("-i", link, "--config", "c").stdout == ""
    assert "name: sidecar" in pod.read_text()
    assert stat.S_IMODE(pod.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert inject("-i", "--uninject", pod).exit_code == 0
    assert pod.read_text() == POD
    assert sorted(path.name for path in pod.parent.iterdir()) == ["link.yaml", "pod.yaml"]


def test_one_refused_workload_and_nothing_is_written(pod: Path) -> None:
    """All problems of all files are told, and no file is changed, also not the good one."""
    bad = pod.with_name("bad.yaml")
    bad.write_text(BAD)
    result = inject("-i", pod, bad, "--config", "c")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{bad}:5:3: spec.hostNetwork: expected a network of the pod's own")
    assert result.stderr.endswith(f"1 problem in {bad}; nothing is written\n")
    assert (pod.read_text(), bad.read_text()) == (POD, BAD)
    assert inject(pod, bad, "--config", "c").stdout == ""


def test_several_files_are_one_stream_of_documents(pod: Path) -> None:
    """Documents are parted by `---`, whether the first file ends its last line or not."""
    other = pod.with_name("other.yaml")
    other.write_text("---\nkind: A")
    result = inject(other, pod, other, "--config", "c", "-q")
    assert result.stdout.startswith("---\nkind: A\n---\napiVersion: v1\n")
    assert result.stdout.endswith("\n---\nkind: A\n")


def test_a_file_without_workloads_is_told() -> None:
    """Nobody is to think that something was injected."""
    result = inject("--config", "c", given=b"kind: A\n")
    assert (result.stdout, result.stderr) == ("kind: A\n", "<stdin>: nothing to do\n")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"a: \xff", "<stdin>:1:4: the file is not UTF-8: found the byte 0xff"),
        (b"a: [", "<stdin>:2:1: not YAML"),
        (b"a: {{ x }}", "render it first, with `helm template`"),
        (b"a: 1\na: 2\n", "<stdin>:2:1: found the key `a` a second time"),
        (b"x" * (10 * 1024 * 1024 + 1), "the file is larger than 10 MiB"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(given: bytes, told: str) -> None:
    """Exit code 1, the place, and nothing on standard output."""
    result = inject("--config", "c", given=given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.yaml"], "cannot read nowhere.yaml: no such file"),
        (["-i"], "--in-place needs files"),
        (["-", "-"], "standard input can be read once"),
        (["--mesh", "shop"], "--mesh is of a control plane"),
        (["--mesh", "Shop"], "expected a name of up to 63 lower-case letters, digits and `-`, found 'Shop'"),
        (["--control", "ftp://a"], "found 'ftp://a'"),
        (["--control", "http://a", "--mesh", "a", "--token", "b"], "not by both"),
        (["--kubernetes-version", "new"], "expected a version such as 1.30, found 'new'"),
        (["--cpu", "much"], "expected an amount such as"),
        (["--exclude-inbound", "x"], "expected a port such as 5432"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], told: str) -> None:
    """Options are judged before any file is."""
    result = inject(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_versions_are_read_as_kubectl_prints_them(pod: Path) -> None:
    """`v1.28.3` has no native sidecars, `v1.29.0-eks-1` has."""
    assert inject(pod, "--config", "c", "--kubernetes-version", "v1.28.3").exit_code == 1
    assert inject(pod, "--config", "c", "--kubernetes-version", "v1.29.0-eks-1").exit_code == 0
