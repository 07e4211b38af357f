"""
`codec`, compiled: the modules that it measures, and itself, in a library of their own, which takes a minute to make.

    python -m benchmarks.micro.codec_compiled

Its streams inherit from the codec's, as those of the proxy do, and in the library of `make compile` nobody else may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_BUILD = _ROOT / "build" / "codec"
_COPIED = ("sidecar", "benchmarks/micro", "benchmarks/harness", "tests/support")
_SETUP = """\
import glob
from mypyc.build import mypycify
from setuptools import setup
modules = ["sidecar/message.py", "sidecar/grpc.py", "sidecar/http1/grammar.py", "sidecar/http1/target.py"]
modules += ["benchmarks/micro/codec.py", *sorted(glob.glob("sidecar/http2/**/*.py", recursive=True))]
options = ["--follow-imports=silent", "--ignore-missing-imports"]
setup(name="codec", ext_modules=mypycify([*options, *modules], opt_level="3", debug_level="0", group_name="codec"))
"""


def main() -> None:
    """Compile and measure."""
    shutil.rmtree(_BUILD, ignore_errors=True)
    for folder in _COPIED:
        shutil.copytree(_ROOT / folder, _BUILD / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (_BUILD / "setup.py").write_text(_SETUP)
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=_BUILD, check=True)
    environment = {**os.environ, "PYTHONPATH": str(_BUILD)}
    measuring = "import codec; assert codec.__file__.endswith('.so'), codec.__file__; codec.main()"
    subprocess.run([sys.executable, "-P", "-c", measuring], env=environment, check=True)


if __name__ == "__main__":
    main()
