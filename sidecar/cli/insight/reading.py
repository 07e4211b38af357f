"""What every command about a configuration file does first: read and compile it, or tell why not. *Cold.*"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import NoReturn

from sidecar.cli.check.files import source_of
from sidecar.compile.deserialize import Written
from sidecar.compile.dry_plan import dry_plan
from sidecar.compile.effective import Effective
from sidecar.config.load import Loaded, load_source
from sidecar.config.problems import ConfigError
from sidecar.config.source import SourceError
from sidecar.insight.explain.account import Scene
from sidecar.loader.serialize import write_frames
from sidecar.redact import Secrets

PROBLEMS = 1
CANNOT_READ = 2


def read_plan(file: str, as_json: bool) -> tuple[Loaded, Scene]:
    """
    The plan of a file (`-`: standard input), with the variables of this environment.

    Ends the process with 2 if it cannot be read, with 1 and all problems if it is not good.
    """
    try:
        loaded = load_source(source_of(file), os.environ)
        frames = write_frames(loaded)
        plan = dry_plan(loaded, frames)
    except SourceError as error:
        refuse_unreadable(str(error), as_json)
    except ConfigError as error:
        refuse(error, as_json)
    secrets = Secrets.of(os.environ)
    secrets.learn(loaded.files.values)
    return loaded, Scene(plan, Effective(loaded.source.path, Written(frames), secrets), secrets)


def refuse_unreadable(message: str, as_json: bool) -> NoReturn:
    """End the process: the file cannot be read."""
    if as_json:
        print(json.dumps({"ok": False, "error": message, "problems": []}))
    else:
        print(message, file=sys.stderr)
    sys.exit(CANNOT_READ)


def refuse(error: ConfigError, as_json: bool) -> NoReturn:
    """End the process: the file has problems."""
    if as_json:
        print(json.dumps({"ok": False, "problems": [dataclasses.asdict(one) for one in error.problems]}))
    else:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        number = len(error.problems)
        print(f"{number} problem{'s' if number != 1 else ''} in {error.problems[0].file}", file=sys.stderr)
    sys.exit(PROBLEMS)
