"""`sidecar mesh check`, `compile`, `names`, `explain`, `diff` and `schema`: for people, and as JSON."""

# ruff: noqa: E501 - what people read is compared unbroken

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from sidecar.cli.check.command import check as check_file
from sidecar.cli.commands import cli
from sidecar.cli.mesh.wanted.telling import SIGNS
from sidecar.mesh import diff as comparing
from tests.support.meshes import files

ROOT = pathlib.Path(__file__).parents[4]
EXAMPLE = ROOT / "config" / "examples" / "mesh"
GOLDEN = ROOT / "tests" / "unit" / "mesh" / "golden"

BAD = """
=== mesh.yaml
mesh: shop
acess: open
=== services/front.yaml
service: front
hosts: [front, back]
app: 127.0.0.1:8080
calls: {bakc: {}}
=== services/back.yaml
service: back
app: 127.0.0.1:8080
tls: {}
instances: {v1: {}}
routes: [{match: {cookies: {B: "1"}}, to: v2}]
"""


def run(*words: object, given: str | None = None) -> Result:
    """One command."""
    return CliRunner().invoke(cli, ["mesh", *(str(word) for word in words)], input=given)


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """The example mesh, to be changed."""
    return pathlib.Path(shutil.copytree(EXAMPLE, tmp_path / "mesh"))


def put(directory: pathlib.Path, text: str) -> pathlib.Path:
    """The files of a text, on disk."""
    for name, raw in files(text).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return directory


class TestCheck:
    """All problems of all files."""

    def test_a_good_mesh_is_0_and_says_what_it_holds(self) -> None:
        """One line on standard output."""
        result = run("check", EXAMPLE)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: shop: 4 services, 3 routes, 3 tests\n", "")

    def test_problems_are_1_with_places_that_can_be_opened(self, tmp_path: pathlib.Path) -> None:
        """A line each on standard error, then a summary."""
        result = run("check", put(tmp_path, BAD))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.replace(f"{tmp_path}/", "") == (GOLDEN / "problems.txt").read_text()

    def test_problems_as_json(self, tmp_path: pathlib.Path) -> None:
        """The same, in parts."""
        result = run("check", put(tmp_path, BAD), "--json")
        page = json.loads(result.stdout)
        assert (result.exit_code, page["ok"], len(page["problems"])) == (1, False, 7)
        assert page["problems"][0] == {
            "file": f"{tmp_path}/mesh.yaml", "line": 2, "column": 1, "path": "acess", "severity": "error", "rule": "",
            "message": "unknown key `acess`", "hint": "did you mean `access`?",
        }  # fmt: skip

    def test_a_problem_of_a_compiled_file_is_told_in_the_meshs_files(self, copy: pathlib.Path) -> None:
        """What `sidecar check` would say of what a sidecar gets."""
        path = copy / "services" / "storefront.yaml"
        path.write_text(path.read_text().replace("127.0.0.1:9101", "127.0.0.1:15001"))
        result = run("check", copy)
        assert result.exit_code == 1
        assert result.stderr.startswith(
            f"{path}:12:22: calls.payments.listen: `127.0.0.1:15001` is already listened on"
        )

    def test_warnings_are_told_and_the_mesh_is_good(self, copy: pathlib.Path) -> None:
        """At both places."""
        path = copy / "services" / "payments.yaml"
        path.write_text(path.read_text().replace("callers: [storefront]", "callers: []"))
        result = run("check", copy)
        assert result.exit_code == 0
        lines = result.stderr.splitlines()
        assert [line.partition(": warning: ")[0] for line in lines] == [
            f"{path}:4:1",
            f"{copy}/services/storefront.yaml:12:3",
        ]
        assert len(json.loads(run("check", copy, "--json").stdout)["warnings"]) == 2

    def test_one_file_and_standard_input(self, tmp_path: pathlib.Path) -> None:
        """A small mesh needs no directory."""
        text = "mesh: shop\nservices:\n  a: {app: 127.0.0.1:80}\n"
        (tmp_path / "shop.yaml").write_text(text)
        expected = "ok: shop: 1 service, 0 routes, 0 tests\n"
        assert run("check", tmp_path / "shop.yaml").stdout == run("check", "-", given=text).stdout == expected
        (tmp_path / "shop.yaml").write_text(text + "  A: {}\n")
        assert run("check", tmp_path / "shop.yaml").stderr.startswith(
            f"{tmp_path}/shop.yaml:4:3: services.A: expected a name"
        )

    @pytest.mark.parametrize("as_json", [False, True])
    def test_what_cannot_be_read_is_2(self, tmp_path: pathlib.Path, as_json: bool) -> None:
        """One line, no traceback."""
        result = run("check", tmp_path / "none", *(["--json"] if as_json else []))
        assert result.exit_code == 2
        told = json.loads(result.stdout)["error"] if as_json else result.stderr.rstrip("\n")
        assert told == f"cannot read {tmp_path / 'none'}: no such file"


class TestCompile:
    """The file that a service's sidecars get."""

    @pytest.mark.parametrize("service", ["storefront", "recommendations", "catalog"])
    def test_it_is_a_file_that_check_takes(self, service: str) -> None:
        """`sidecar mesh compile DIR --service S | sidecar check -`."""
        result = run("compile", EXAMPLE, "--service", service, "--version", "v1")
        assert result.stdout == (GOLDEN / f"{service}.yaml").read_text()
        checked = CliRunner().invoke(check_file, ["-"], input=result.stdout)
        assert (checked.exit_code, checked.stdout[:3]) == (0, "ok:")

    def test_as_json_it_comes_with_its_hash_and_where_endpoints_are(self) -> None:
        """What the control plane knows besides."""
        page = json.loads(run("compile", EXAMPLE, "--service", "storefront", "--json").stdout)
        assert (page["service"], len(page["hash"]), page["callees"]) == (
            "storefront",
            32,
            ["catalog", "payments", "recommendations"],
        )
        assert page["discovers"]["recommendations.beta"] == {
            "service": "recommendations", "instance": "beta", "port": "http", "kind": "registered",
            "values": {"version": "beta"}, "parts": [],
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--service", "storefrnt"], "mesh.yaml:1:1: the mesh has no service `storefrnt`"),
            (["--service", "payments"], "services/payments.yaml:2:10: `payments` is outside of the mesh: it has no sidecars"),
            (["--service", "catalog", "--language", "0"], "mesh.yaml:1:1: the sidecars of `catalog` know language 0, and this mesh needs 2"),
        ],
    )  # fmt: skip
    def test_what_has_no_file_is_told(self, words: list[str], message: str) -> None:
        """With 1."""
        result = run("compile", EXAMPLE, *words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"{EXAMPLE}/{message}")


class TestNames:
    """What must resolve."""

    def test_every_service_and_what_it_calls(self) -> None:
        """Aligned, with the port of its own where there is one."""
        assert run("names", EXAMPLE).stdout == (GOLDEN / "names.txt").read_text()

    def test_one_service_as_json(self) -> None:
        """And one that there is not."""
        page = json.loads(run("names", EXAMPLE, "--service", "recommendations", "--json").stdout)
        assert page == {"recommendations": [{"host": "catalog", "service": "catalog", "listen": ""}]}
        result = run("names", EXAMPLE, "--service", "catalogg")
        assert (result.exit_code, "did you mean `catalog`?" in result.stderr) == (1, True)


class TestExplain:
    """Where a request goes."""

    def test_the_callers_decision_then_the_callees(self) -> None:
        """With the places of both."""
        result = run("explain", EXAMPLE, "--from", "storefront", "http://recommendations/")
        assert result.exit_code == 0
        assert result.stdout.replace(str(EXAMPLE), "DIR") == (GOLDEN / "explain.txt").read_text()

    def test_method_fields_and_cookies_count(self) -> None:
        """As in the request of an app."""
        words = ["explain", EXAMPLE, "--from", "storefront", "POST", "http://recommendations/x"]
        assert "route recommendations.beta-users " in run(*words, "--cookie", "BETA_USER=true").stdout
        page = json.loads(run(*words, "-H", "x-preview: 1", "--json").stdout)
        assert (page["route"], page["is_answered"]) == ("storefront.preview", True)
        assert page["destinations"] == [
            {"upstream": "recommendations.beta", "share": 1.0, "discover": "registered, version beta"}
        ]

    def test_what_is_not_answered_is_3(self) -> None:
        """Not admitted, or answered by the caller's own sidecar."""
        result = run("explain", EXAMPLE, "--from", "catalog", "http://payments/")
        assert result.exit_code == 3
        assert "payments: does not admit catalog" in result.stdout

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["payments"], "url: expected a URL such as `http://127.0.0.1:4318`, found `payments`; did you mean `http://payments`?"),
            (["a", "b", "c"], "expected [METHOD] URL, found 3 words"),
            (["http://payments/", "-H", "x"], "-H: expected NAME: VALUE, found `x`"),
            (["get", "http://payments/"], "method: expected a method such as `GET`, found `get`; methods are case-sensitive: did you mean `GET`?"),
        ],
    )  # fmt: skip
    def test_what_is_no_request_is_a_usage_error(self, words: list[str], message: str) -> None:
        """2, as click has it."""
        result = run("explain", EXAMPLE, "--from", "storefront", *words)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: {message}")


class TestDiff:
    """What differs."""

    def test_files_and_routes_that_differ(self, copy: pathlib.Path) -> None:
        """With their places; a comment is no difference."""
        path = copy / "services" / "recommendations.yaml"
        path.write_text("# more\n" + path.read_text().replace("stable: 95, beta: 5", "stable: 90, beta: 10"))
        result = run("diff", EXAMPLE, copy)
        assert result.exit_code == 0
        assert (
            result.stdout
            == f"~ storefront\n    ~ route recommendations.split  ({path}:14)\n1 file of 4 services would change\n"
        )
        page = json.loads(run("diff", EXAMPLE, copy, "--json").stdout)
        assert [(change["service"], [part["name"] for part in change["parts"]]) for change in page["changes"]] == [
            ("storefront", ["recommendations.split"])
        ]

    def test_nothing_differs_from_itself(self) -> None:
        """No line but the summary."""
        assert run("diff", EXAMPLE, EXAMPLE).stdout == "0 files of 4 services would change\n"


KNOWN = """
=== mesh.yaml
mesh: shop
authorization: {mode: enforce}
=== front.yaml
service: front
calls: {back: {}}
=== back.yaml
service: back
app: 127.0.0.1:8080
callers: {from: front, methods: GET}
inbound: {tls: strict}
"""


class TestIdentity:
    """Of a mesh whose sidecars have identities: what is enforced by them is looked at with `--identity`."""

    def test_what_needs_an_identity_is_a_problem_without(self, tmp_path: pathlib.Path) -> None:
        """And none with."""
        directory = put(tmp_path, KNOWN)
        assert run("check", directory, "--identity").stdout == "ok: shop: 2 services, 0 routes, 0 tests\n"
        refused = run("check", directory, "--no-identity")
        assert refused.exit_code == 1
        assert "`strict` cannot be kept" in refused.stderr

    def test_the_compiled_file_is_a_file_that_check_takes(self, tmp_path: pathlib.Path) -> None:
        """With its rules, and what they are made from."""
        directory = put(tmp_path, KNOWN)
        made = run("compile", directory, "--service", "back", "--identity").stdout
        assert (
            '      # from back.yaml:3\n      - {name: callers, allow: {from: "spiffe://shop/front", methods: GET}}\n'
            in made
        )
        path = tmp_path / "compiled"
        path.write_text(made)
        assert CliRunner().invoke(check_file, [str(path)]).exit_code == 0
        old = run("compile", directory, "--service", "back", "--identity", "--language", 1)
        assert old.exit_code == 1
        assert "the sidecars of `back` know language 1, and this mesh needs 2" in old.stderr

    def test_a_file_says_what_a_token_claims(self, tmp_path: pathlib.Path) -> None:
        """It is taken as verified; without it the line says what was missing."""
        directory = put(tmp_path / "mesh", KNOWN)
        path = directory / "back.yaml"
        by_token = "[{from: {jwt: {issuer: 'https://id', audience: back, claims: {n: 1}, keys: k}}}]"
        path.write_text(re.sub(r"callers: .*", f"callers: {by_token}", path.read_text()))
        claims = tmp_path / "claims.json"
        claims.write_text('{"iss": "https://id", "aud": ["back"], "n": 1}')
        words = ("explain", directory, "--identity", "--from", "front", "http://back/")
        admitted = run(*words, "--jwt", claims)
        assert admitted.exit_code == 0
        assert "is allowed by the rule callers" in admitted.stdout
        refused = run(*words)
        assert refused.exit_code == 3
        assert "it is for a token of https://id for back with n" in refused.stdout
        claims.write_text('{"iss": "https://id", "aud": "other", "n": 1}')
        assert "with a token of https://id, is allowed by no rule" in run(*words, "--jwt", claims).stdout
        claims.write_text("[]")
        assert "expected what the token claims" in run(*words, "--jwt", claims).stderr
        claims.write_text("{")
        assert "--jwt: expected claims in JSON" in run(*words, "--jwt", claims).stderr

    def test_who_is_refused_is_told_by_which_rule(self, tmp_path: pathlib.Path) -> None:
        """With its place, and what differed; the exit code is that of what is not answered."""
        directory = put(tmp_path, KNOWN)
        admitted = run("explain", directory, "--identity", "--from", "front", "http://back/")
        assert admitted.exit_code == 0
        rule = f"the rule callers  ({directory}/back.yaml:3)"
        assert f"back, port http: spiffe://shop/front is allowed by {rule}\n" in admitted.stdout
        refused = run("explain", directory, "--identity", "--from", "front", "DELETE", "http://back/")
        assert refused.exit_code == 3
        assert f"back, port http: spiffe://shop/front is refused by {rule}: spiffe://shop/front" in refused.stdout
        assert "  its sidecar answers 403\n" in refused.stdout
        verdict = json.loads(
            run("explain", directory, "--identity", "--json", "--from", "front", "http://back/").stdout
        )
        assert verdict["arrivals"][0]["verdict"]["rule"] == "callers"


def test_the_schema_is_that_of_the_kind() -> None:
    """For editors."""
    assert run("schema").stdout == (ROOT / "config" / "mesh.schema.json").read_text()
    assert json.loads(run("schema", "service").stdout)["required"] == ["service"]
    assert json.loads(run("schema", "mesh").stdout)["required"] == ["mesh"]


def test_help_lists_every_command() -> None:
    """And imports none of them."""
    result = run("--help")
    assert all(f"  {name} " in result.stdout for name in ("check", "compile", "names", "explain", "diff", "schema"))


def test_what_asks_a_control_plane_does_not_wait_for_the_models() -> None:
    """Nor has to: the files are judged there, and the words of what differs are known."""
    modules = ", ".join(
        f"sidecar.cli.mesh.{name}" for name in ("status", "wanted.diff", "wanted.push", "wanted.rollback")
    )
    code = f"import sys, {modules}, sidecar.cli.mesh.wanted.hurry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True, check=True)
    assert not set(done.stdout.split()) & {"pydantic", "yaml", "aiohttp"}
    assert set(SIGNS) == {comparing.ADDED, comparing.REMOVED, comparing.CHANGED}
