"""`${file:/run/secrets/x}` in values."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sidecar.config.load import load_source
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source
from sidecar.config.yaml import secret_files
from sidecar.config.yaml.environment import Environment, SubstitutionError
from sidecar.config.yaml.secret_files import SecretFileError, SecretFiles


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A secret."""
    secret = tmp_path / "token"
    secret.write_bytes(b"s3cret\n")
    return secret


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret\n"),
        (b" s3cret \n", " s3cret "),
        (b"", ""),
        (b"${A}", "${A}"),
        ("schlüssel".encode(), "schlüssel"),
    ],
)
def test_a_reference_is_the_content_without_its_last_line_feed(secret: Path, content: bytes, value: str) -> None:
    """As it is otherwise: it is neither looked at again nor read as YAML."""
    secret.write_bytes(content)
    assert Environment({"A": "a"}).substitute(f"Bearer ${{file:{secret}}}!") == f"Bearer {value}!"


def test_what_was_read_is_remembered(secret: Path, tmp_path: Path) -> None:
    """Whoever follows the files needs their digests, whoever shows anything the values; missing ones are followed."""
    files = SecretFiles()
    environment = Environment({}, files)
    environment.substitute(f"${{file:{secret}}} ${{file:{secret}}}")
    with pytest.raises(SubstitutionError):
        environment.substitute(f"${{file:{tmp_path}/none}}")
    assert files.values == {"s3cret"}
    assert files.digests == {str(secret): hashlib.sha256(b"s3cret\n").hexdigest(), f"{tmp_path}/none": ""}


def test_what_cannot_be_used_is_a_problem_that_says_why(secret: Path, tmp_path: Path) -> None:
    """And never shows what is in it."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    (tmp_path / "large").write_bytes(b"s" * (secret_files.MAX_SECRET_BYTES + 1))
    for path, why in (
        (f"{tmp_path}/none", "no such file"),
        (f"{tmp_path}", "is a directory"),
        (f"{tmp_path}/fifo", "it is no regular file"),
        (f"{tmp_path}/binary", "is not UTF-8"),
        (f"{tmp_path}/large", "is larger than 64 KiB"),
        ("token", "expected an absolute path, found `token`"),
        ("", "expected an absolute path"),
        ("/a\0b", "cannot read"),
    ):
        with pytest.raises(SecretFileError, match=why) as caught:
            SecretFiles().read(path)
        assert "s3cret" not in str(caught.value)


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked at twice a second."""
    monkeypatch.setattr(secret_files, "MAX_FILES", 2)
    files = SecretFiles()
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    files.read(f"{tmp_path}/a")
    files.read(f"{tmp_path}/b")
    files.read(f"{tmp_path}/a")
    with pytest.raises(SecretFileError, match="more than 2 files"):
        files.read(f"{tmp_path}/c")


def test_a_file_that_is_refused_knows_its_secrets_all_the_same(secret: Path) -> None:
    """They may be what is wrong, and are followed until it is right."""
    text = f"service: s\nnonsense: 1\noutbound: {{listen: '${{file:{secret}}}'}}\n"
    files = SecretFiles()
    with pytest.raises(ConfigError):
        load_source(make_source("f", text.encode()), {}, files)
    assert files.values == {"s3cret"}


def test_a_reference_in_flow_style_needs_quotes_as_a_variable_does(secret: Path) -> None:
    """And stands alone in a plain value."""
    text = f'service: s\noutbound: {{routes: [{{respond: {{status: 200, body: "${{file:{secret}}}"}}}}]}}\n'
    loaded = load_source(make_source("f", text.encode()), {})
    assert loaded.config.outbound is not None
    respond = loaded.config.outbound.routes[0].respond
    assert respond is not None
    assert respond.body == "s3cret"
