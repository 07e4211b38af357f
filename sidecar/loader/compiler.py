"""
The compiler: a process that reads one file, judges it, says what it found in frames, and ends. *Cold.*

All that a configuration costs happens here: YAML, the models, the rules, a trial of the compiler and the file's own
tests. The data path's process starts it (`compiler_process`), and neither imports what this needs, nor waits for it,
nor keeps its memory; if it dies, hangs, or eats all memory, one load was refused. For each line of JSON on standard
input, `{"path": ..., "niceness": ..., "mesh": ...}`, it writes frames to standard output, each with its length before
it. `mesh` is for a sidecar that follows a control plane (`plan_source.MeshRequest`), else null.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sidecar.compile.frames import Header, Kind, make_frame, problem_frames
from sidecar.config.load import load_followed, load_source
from sidecar.config.problems import ConfigError
from sidecar.config.source import Source, SourceError, read_source
from sidecar.config.yaml.secret_files import SecretFiles
from sidecar.insight.dry_run import dry_run
from sidecar.loader.low_priority import lower_priority
from sidecar.loader.serialize import write_frames
from sidecar.loader.wire import prefixed
from sidecar.redact import Secrets


def compile_file(path: str, env: Mapping[str, str], mesh: Mapping[str, Any] | None = None) -> list[bytes]:
    """
    What came of reading a file, as frames: its configuration, its problems, or why there is neither.

    Args:
        path: Of the file; with `mesh`, of the local one.
        env: Variables for `${NAME}`.
        mesh: What else there is, if a control plane is followed: `plan_source.MeshRequest` as JSON has it.
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
            source = read_source(path)
            digest_hex = source.digest_hex
            loaded = load_source(source, env, files, is_to_run=True)
        else:
            own = _read_local(path, is_optional=mesh["is_optional"])
            local = [(path, own.digest_hex)] if own is not None else []
            said = _pushed(mesh["pushed"])
            digest_hex, pushed = (said.digest_hex, said.path) if said is not None else ("", "")
            loaded = load_followed(said, own, mesh["options"], env, files, is_to_run=True)
        frames = write_frames(loaded, local)
        dry_run(loaded, frames)
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
    with suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if request["niceness"] is not None:
                lower_priority(request["niceness"])
            for frame in compile_file(request["path"], env, request.get("mesh")):
                frames_to.write(prefixed(frame))
            frames_to.flush()
            gc.collect()
    # Without giving back object by object what the system takes back at once: 0.2 s with 10,000 routes.
    sys.stderr.flush()
    os._exit(0)
