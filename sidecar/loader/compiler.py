"""
The compiler: a process that reads one file, judges it, says what it found in frames, and ends. *Cold.*

All that a configuration costs happens here: YAML, the models, the rules, a trial of the compiler and the file's own
tests. The data path's process starts it (`compiler_process`), and neither imports what this needs, nor waits for it,
nor keeps its memory; if it dies, hangs, or eats all memory, one load was refused. For each line of JSON on standard
input, `{"path": ..., "niceness": ..., "mesh": ...}`, it writes frames to standard output, each with its length before
it. `mesh` is for a sidecar that follows a control plane (`plan_source.MeshRequest`), else null. With `preview`, blocks
follow that line, in the same form, and the answer is a report (`preview_file`).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from sidecar.compile.frames import Header, Kind, make_frame, problem_frames, read_header, read_problems
from sidecar.config.load import load_followed, load_source
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.source import Source, SourceError, make_source, read_source
from sidecar.config.yaml.secret_files import SecretFiles
from sidecar.insight.dry_run import dry_run
from sidecar.loader.load_outcome import shown_problem
from sidecar.loader.low_priority import lower_priority
from sidecar.loader.serialize import write_frames
from sidecar.loader.wire import prefixed
from sidecar.redact import Secrets


def compile_file(
    path: str,
    env: Mapping[str, str],
    mesh: Mapping[str, Any] | None = None,
    text: Source | None = None,
    found: list[Problem] | None = None,
) -> list[bytes]:
    """
    What came of reading a file, as frames: its configuration, its problems, or why there is neither.

    Args:
        path: Of the file; with `mesh`, of the local one.
        env: Variables for `${NAME}`.
        mesh: What else there is, if a control plane is followed: `plan_source.MeshRequest` as JSON has it.
        text: What stands for the file, which then is not read.
        found: Takes what the compiled plan is warned of; None: nobody asks.
    """
    digest_hex, pushed = "", ""
    secrets = Secrets.of(env)
    problems: Sequence[bytes] = ()
    error = ""
    is_transient = True
    files = SecretFiles()
    local: list[tuple[str, str]] = []
    try:
        if mesh is None:
            source = text or read_source(path)
            digest_hex = source.digest_hex
            loaded = load_source(source, env, files, is_to_run=True)
        else:
            own = _read_local(path, is_optional=mesh["is_optional"])
            local = [(path, own.digest_hex)] if own is not None else []
            said = _pushed(mesh["pushed"])
            digest_hex, pushed = (said.digest_hex, said.path) if said is not None else ("", "")
            loaded = load_followed(said, own, mesh["options"], env, files, is_to_run=True)
        frames = write_frames(loaded, local)
        plan = dry_run(loaded, frames)
        if found is not None:
            from sidecar.insight.warnings.of_plan import warnings_of

            found += warnings_of(loaded, plan)
        return frames
    except SourceError as refusal:
        error = str(refusal)
    except ConfigError as refusal:
        problems = problem_frames(refusal.problems)
    except MemoryError:
        error = f"{path}: there is not enough memory to read this file"
    except Exception as failure:
        is_transient = False
        secrets.learn(files.values)
        sys.stderr.write(secrets.hide(traceback.format_exc()))
        said_of_it = secrets.hide(f"{failure!r}")
        error = f"{path}: the sidecar failed while reading this file; please report it: {said_of_it:.500}"
    header = Header(
        False,
        digest_hex,
        error=error,
        is_transient=is_transient and bool(error),
        local_files=tuple(local),
        secret_files=tuple(files.digests.items()),
        secrets=tuple(sorted(files.values)),
        pushed=pushed,
    )
    return [header.to_frame(), *problems, make_frame(Kind.END)]


def _read_local(path: str, *, is_optional: bool) -> Source | None:
    """What this machine says; None where it need not say anything and does not."""
    try:
        return read_source(path)
    except SourceError as error:
        if is_optional and error.is_absent:
            return None
        raise


def _pushed(said: Mapping[str, str] | None) -> Source | None:
    """The file that was pushed, or the one that stands for it, whose name then is its path."""
    if said is None:
        return None
    if "text" not in said:
        return read_source(said["name"])
    return Source(said["name"], said["text"].encode("utf-8", "surrogatepass"), said["hash"])


def preview_file(request: Mapping[str, Any], blocks: Sequence[bytes], env: Mapping[str, str]) -> list[bytes]:
    """
    What another file would do with requests, as one frame.

    Args:
        request: As `compile_file`'s arguments; and `preview`, which says of `blocks`, in this order, how many are
            frames of the configuration in force (`live`), and of the other one (`new`), or else one is its text under a
            `name`; and how many there are of each process' requests (`rings`).
    """
    # Only here: loads do without.
    from sidecar.insight.preview.preview import preview, refused

    asked = request["preview"]
    rest = iter(blocks)
    live = [next(rest) for _ in range(asked["live"])]
    new = [next(rest) for _ in range(asked["new"])]
    mesh = request.get("mesh")
    found: list[Problem] = []
    if not new:
        source = make_source(asked["name"], next(rest))
        if mesh is not None:
            said = {"name": source.path, "text": source.raw.decode("utf-8", "replace"), "hash": source.digest_hex}
            mesh = {**mesh, "pushed": said}
        new = compile_file(request["path"], env, mesh, source, found)
    rings = [[next(rest) for _ in range(count)] for count in asked["rings"]]
    was, header = read_header(live[0]), read_header(new[0])
    secrets = Secrets.of(env)
    secrets.learn((*was.secrets, *header.secrets))
    try:
        if header.is_ok:
            report = preview(live, new, rings, asked["name"], secrets, found)
        else:
            problems = [shown_problem(one) for frame in new[1:-1] for one in read_problems(frame)]
            report = refused(problems, secrets.hide(header.error))
    except Exception as failure:
        sys.stderr.write(secrets.hide(traceback.format_exc()))
        report = refused([], secrets.hide(f"the sidecar failed over this preview; please report it: {failure!r:.500}"))
    return [make_frame(Kind.REPORT, json.dumps(report).encode()), make_frame(Kind.END)]


def read_block(stream: BinaryIO) -> bytes:
    """What `wire.prefixed` made; raises EOFError if there is no more."""
    head = stream.read(4)
    block = stream.read(int.from_bytes(head, "little"))
    if len(head) < 4 or len(block) < int.from_bytes(head, "little"):
        raise EOFError
    return block


def main() -> None:
    """Do what standard input asks for; never returns."""
    # The variables of the file are ours, for whoever started this process gave it its own.
    env = dict(os.environ)
    # What a load makes is acyclic, and the collector would visit a million nodes of YAML again and again.
    gc.disable()
    # Where memory ends, the kernel ends this process and not the data path's; a container may not allow to say so.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    frames_to = os.fdopen(os.dup(1), "wb")
    # What a library may print is no frame.
    os.dup2(2, 1)
    with suppress(BrokenPipeError, EOFError):
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if request["niceness"] is not None:
                lower_priority(request["niceness"])
            if "preview" in request:
                count = sum((request["preview"]["live"], request["preview"]["new"] or 1, *request["preview"]["rings"]))
                frames = preview_file(request, [read_block(sys.stdin.buffer) for _ in range(count)], env)
            else:
                frames = compile_file(request["path"], env, request.get("mesh"))
            for frame in frames:
                frames_to.write(prefixed(frame))
            frames_to.flush()
            gc.collect()
    # Without giving back object by object what the system takes back at once: 0.2 s with 10,000 routes.
    sys.stderr.flush()
    os._exit(0)
