"""`sidecar check` as a person, a program and a pipeline use it; and every report as a person reads it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli.check.command import check
from sidecar.cli.check.resolved import unresolved
from sidecar.config.load import load_source
from sidecar.config.source import make_source

GOLDEN = Path(__file__).parent / "golden"
GOOD = "service: s\noutbound: {routes: [{to: a}]}\nupstreams: {a: {dns: 'h:80'}}\n"
WARNED = "service: s\noutbound: {routes: [{to: {a: 1, b: 0}}]}\nupstreams: {a: {dns: 'h:80'}, b: {dns: 'h:81'}}\n"
BAD = "service: s\noutbound: {unmatched: x}\n"


def run(*arguments: str, given: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(check, list(arguments), input=given)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.yaml")))
def test_report_is_what_a_person_has_read_and_found_good(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the letter; a change of words is a change of `golden/NAME.txt`."""
    monkeypatch.chdir(GOLDEN)
    result = run(f"{name}.yaml")
    told = f"exit code {result.exit_code}\n--- standard output\n{result.stdout}--- standard error\n{result.stderr}"
    assert told == (GOLDEN / f"{name}.txt").read_text()


class TestStrict:
    """`--strict`."""

    @pytest.mark.parametrize(("text", "code"), [(GOOD, 0), (WARNED, 1), (BAD, 1)])
    def test_warnings_are_problems(self, here: Path, text: str, code: int) -> None:
        """Told as such, and counted."""
        Path("f.yaml").write_text(text)
        result = run("--strict", "f.yaml")
        assert result.exit_code == code
        if text == WARNED:
            first, last = result.stderr.splitlines()
            assert first.startswith("f.yaml:2:26: outbound.routes[0].to: all of the weight is on `a`")
            assert first.endswith(" [weights-one-sided]")
            assert last == "1 problem in f.yaml"

    def test_so_are_variables_without_effect(self, here: Path) -> None:
        """They are of the environment of whoever checks."""
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        assert run("-", given=GOOD, env=env).exit_code == 0
        result = run("-", "--strict", "--json", given=GOOD, env=env)
        (problem,) = json.loads(result.stdout)["problems"]
        assert (result.exit_code, problem["rule"]) == (1, "otel-variable")


class TestFiles:
    """Several files, directories, standard input."""

    def test_each_is_told_and_the_worst_is_the_exit_code(self, here: Path) -> None:
        """Good, with problems, and not there."""
        Path("good.yaml").write_text(GOOD)
        Path("bad.yaml").write_text(BAD)
        assert run("good.yaml", "bad.yaml").exit_code == 1
        result = run("good.yaml", "none.yaml", "bad.yaml")
        assert (result.exit_code, result.stdout.splitlines()) == (
            2,
            [
                "ok: good.yaml: 1 route, 1 upstream, 0 tests",
                "checked 3 files: 1 with problems, 1 that cannot be read",
            ],
        )
        assert "cannot read none.yaml: no such file" in result.stderr

    def test_a_directory_stands_for_its_files(self, here: Path) -> None:
        """In the order of their names; not what is deeper, hidden, or called otherwise."""
        for name in ("b.yml", "a.yaml", ".hidden.yaml", "notes.txt", "deep/c.yaml", "folder.yaml/d.txt"):
            path = Path("config", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(GOOD)
        result = run("config", os.path.join("config", "a.yaml"))
        assert result.stdout.splitlines() == [
            "ok: config/a.yaml: 1 route, 1 upstream, 0 tests",
            "ok: config/b.yml: 1 route, 1 upstream, 0 tests",
            "checked 2 files: all good",
        ]

    def test_what_lies_beside_and_is_no_sidecars_is_left_out_and_told(self, here: Path) -> None:
        """Manifests and Compose files; whoever names one is told what is wrong with it, as always."""
        Path("config").mkdir()
        Path("config/a.yaml").write_text(GOOD)
        Path("config/compose.yaml").write_text("services:\n  service: {image: x}\n")
        Path("config/pod.yaml").write_text("apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Service\n")
        Path("config/typo.yaml").write_text(GOOD.replace("service:", "servise:"))
        result = run("config")
        assert result.stdout.splitlines() == [
            "ok: config/a.yaml: 1 route, 1 upstream, 0 tests",
            "left out: config/compose.yaml: it has no key of a sidecar's file",
            "left out: config/pod.yaml: it has no key of a sidecar's file",
            "checked 2 files: 1 with problems",
        ]
        assert "config/typo.yaml:1:1: servise: unknown key `servise`" in result.stderr
        files = json.loads(run("config", "--json").stdout)["files"]
        assert [file.get("left_out", False) for file in files] == [False, True, True, False]
        assert run("config/pod.yaml").exit_code == 1
        Path("config/a.yaml").unlink()
        Path("config/typo.yaml").unlink()
        result = run("config")
        assert (result.exit_code, result.stderr) == (
            2,
            "cannot check config: no file in it is a sidecar's; name the file\n",
        )

    def test_a_file_of_a_mesh_is_known_as_one(self, here: Path) -> None:
        """Who names the wrong command is told the right one, and not that a service is missing."""
        Path("mesh.yaml").write_text("mesh: shop\nservices: {}\n")
        result = run("mesh.yaml")
        first, *_, last = result.stderr.splitlines()
        hint = "this is a file of a mesh: `sidecar mesh check` judges its directory"
        assert first == f"mesh.yaml:1:1: mesh: unknown key `mesh`; {hint}"
        assert last == "2 problems in mesh.yaml"

    def test_an_empty_directory_is_a_mistake(self, here: Path) -> None:
        """Not a success of having checked nothing."""
        Path("empty").mkdir()
        result = run("empty")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "cannot check empty: no file in it is called *.yaml or *.yml; name the file\n"

    def test_a_file_that_may_not_be_read_is_told(self, here: Path) -> None:
        """A directory in the place of a file's link, for even the superuser may not read that as a file."""
        Path("config").mkdir()
        Path("config/a.yaml").symlink_to("nowhere")
        result = run("config")
        assert (result.exit_code, result.stderr) == (2, "cannot read config/a.yaml: no such file\n")

    @pytest.mark.parametrize(
        ("given", "code", "told"),
        [
            (GOOD, 0, ""),
            ("", 1, "<stdin>:1:1: expected a mapping, found an empty file; begin with `service: <name of your app>`"),
            ("- a\n", 1, "<stdin>:1:1: expected a mapping"),
            ("service: [\n", 1, "<stdin>:2:1: not YAML: "),
            (b"service: \xff\n", 1, "<stdin>:1:10: the file is not UTF-8: found the byte 0xff; save it as UTF-8"),
            ("a: " + "[" * 100, 1, "<stdin>:1:67: found more than 64 nested mappings and lists; flatten the file"),
        ],
    )
    def test_standard_input_is_judged_as_a_file(self, given: str | bytes, code: int, told: str) -> None:
        """Whatever comes; there is no traceback."""
        result = run("-", given=given)
        assert result.exit_code == code
        assert result.stderr.startswith(told)

    def test_standard_input_comes_once(self) -> None:
        """It ends after the first."""
        result = run("-", "-", given=GOOD)
        assert (result.exit_code, "expected `-` once" in result.stderr) == (2, True)

    def test_without_a_file_the_usage_is_told(self) -> None:
        """And nothing is read."""
        result = run()
        assert (result.exit_code, "Missing argument 'FILE...'" in result.stderr) == (2, True)


class TestJson:
    """`--json`, `--format json`."""

    def test_one_file_is_one_object(self, here: Path) -> None:
        """With the rule of each warning."""
        Path("f.yaml").write_text(WARNED)
        first, second = run("--json", "f.yaml"), run("--format", "json", "f.yaml")
        assert first.stdout == second.stdout
        answer = json.loads(first.stdout)
        assert (answer["ok"], answer["routes"], answer["problems"]) == (True, 1, [])
        assert [(one["rule"], one["line"], one["severity"]) for one in answer["warnings"]] == [
            ("weights-one-sided", 2, "warning")
        ]

    def test_several_are_told_under_files(self, here: Path) -> None:
        """Also where a directory has but one."""
        Path("f.yaml").write_text(GOOD)
        Path("g.yaml").write_text(BAD)
        answer = json.loads(run("--json", "f.yaml", "g.yaml", "h.yaml").stdout)
        assert (answer["ok"], [(one["file"], one["ok"]) for one in answer["files"]]) == (
            False,
            [("f.yaml", True), ("g.yaml", False), ("h.yaml", False)],
        )
        assert answer["files"][1]["problems"][0]["rule"] == "invalid-configuration"
        Path("g.yaml").unlink()
        assert [one["file"] for one in json.loads(run("--json", ".").stdout)["files"]] == ["./f.yaml"]

    def test_two_forms_cannot_be_told_at_once(self) -> None:
        """A mistake of the command line."""
        result = run("--json", "--format", "sarif", "-", given=GOOD)
        assert (result.exit_code, "expected one of --json and --format sarif, found both" in result.stderr) == (2, True)


class TestResolve:
    """`--resolve`."""

    TEXT = (
        "service: s\ninbound: {app: 'app:8080'}\noutbound: {}\nupstreams:\n  a: {dns: 'gone:80'}\n"
        "  b: {endpoints: ['10.0.0.1:1', '[::1]:2', 'gone:3', 'unix:/run/b.sock']}\n  c: {dns: 'there:80'}\n"
        "  d: {dns: '${NAME}:80'}  # sidecar: ignore dns-unresolved\n"
        "telemetry: {traces: {otlp_endpoint: 'http://gone:4318'}}\n"
    )

    def test_names_without_an_address_are_warned_of(self) -> None:
        """Wherever they stand; each is asked for once, and addresses are not."""
        asked: list[str] = []

        async def lookup(name: str) -> list[str]:
            asked.append(name)
            if name in ("there", "app"):
                return ["10.0.0.1"]
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        found = unresolved(load_source(make_source("f", self.TEXT.encode()), {"NAME": "gone"}), lookup)
        assert [(one.line, one.path, one.rule) for one in found] == [
            (5, "upstreams.a.dns", "dns-unresolved"),
            (6, "upstreams.b.endpoints[2]", "dns-unresolved"),
            (9, "telemetry.traces.otlp_endpoint", "dns-unresolved"),
        ]
        assert found[0].message == "`gone:80` has no address here: [Errno -2] Name or service not known"
        assert sorted(asked) == ["app", "gone", "there"]

    def test_nothing_is_asked_without_the_option(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever checks may be on a machine that knows no such names."""

        def never(*given: object, **more: object) -> None:
            raise AssertionError(given)

        monkeypatch.setattr(socket, "getaddrinfo", never)
        assert run("-", given=GOOD).exit_code == 0
