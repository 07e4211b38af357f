"""
Starts a process of ours, such as a compiler. *Cold.* Imports next to nothing, so that it can be the first thing that
`sidecar run` does.

The process is spawned, not forked: a fork would copy the page tables of the data path and let every page that it
writes to fault. And it is spawned through the C library itself, not by `os.posix_spawn`, which keeps the interpreter
from all other threads until the new program has begun: 2 ms, on a busy machine 10, in which no request would pass.

The process gets this one's module search path, whatever made it, and nothing else of it but standard error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence

_PATH = "import sys; sys.path[:] = sys.argv[1:]; "
_LOWER_PRIORITY = "from sidecar.loader.low_priority import lower_priority; lower_priority(%d); "
_BOOT = "from sidecar.loader.compiler import main; main()"

# spawn.h of glibc and musl; their structures are smaller than this everywhere.
_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 0x02, 0x04, 0x08
_ROOM_BYTES = 1024


class Child:
    """
    A process of ours.

    Attributes:
        pid: Of it.
        stdin: Descriptor to write requests to.
        stdout: Descriptor to read frames from.
    """

    __slots__ = ("pid", "stdin", "stdout")

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout


def spawn_compiler(env: Mapping[str, str], niceness: int | None = None) -> Child:
    """
    Start a compiler, which prepares itself and waits for a request. Blocks; other threads go on.

    Whoever calls this must close both descriptors and wait for the process.

    Args:
        env: Its environment, and so the variables for `${NAME}`.
        niceness: There is traffic, for which it is to stand back from its first instruction: the data path would
            have half of a core that both want while the interpreter starts.

    Raises:
        OSError: The system does not let us.
    """
    return spawn_python(_BOOT, env, niceness)


def spawn_python(boot: str, env: Mapping[str, str], niceness: int | None = None) -> Child:
    """As `spawn_compiler`, of any program in Python that finds the modules that this one does."""
    # -P: what lies in the current directory is no module of ours.
    if niceness is None:
        return spawn((sys.executable, "-P", "-c", _PATH + boot, *sys.path), env)
    lowered = _PATH + _LOWER_PRIORITY % niceness + boot
    return _spawn_behind(niceness, (sys.executable, "-P", "-c", lowered, *sys.path), env)


def _spawn_behind(niceness: int, command: Sequence[str], env: Mapping[str, str]) -> Child:
    """
    As `spawn`, from a thread of that niceness: a process inherits its thread's, and has it from its first instruction.

    The thread is of no other use: not everybody may take a niceness back.
    """
    # Here, because the start of `sidecar run`, which needs neither, waits for this module; by now both are there.
    import threading

    from sidecar.loader.low_priority import lower_thread

    made: list[Child | BaseException] = []

    def make() -> None:
        lower_thread(niceness)
        try:
            made.append(spawn(command, env))
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=make, name="spawn", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # of which the system has no more than of processes
        raise OSError(errno.EAGAIN, str(error)) from None
    thread.join()
    child = made[0]
    if isinstance(child, BaseException):
        raise child
    return child


def spawn(command: Sequence[str], env: Mapping[str, str]) -> Child:
    """As `spawn_compiler`, of any program, whose path is given in full."""
    their_stdin, stdin = os.pipe()
    stdout, their_stdout = os.pipe()
    try:
        return Child(_posix_spawn(command, env, their_stdin, their_stdout), stdin, stdout)
    except BaseException:
        os.close(stdin)
        os.close(stdout)
        raise
    finally:
        os.close(their_stdin)
        os.close(their_stdout)


def _posix_spawn(command: Sequence[str], env: Mapping[str, str], stdin: int, stdout: int) -> int:
    """The new process's number; see posix_spawn(3)."""
    libc = ctypes.CDLL(None)
    actions, attributes, signals = (ctypes.create_string_buffer(_ROOM_BYTES) for _ in range(3))
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawnattr_init(attributes)
    try:
        libc.posix_spawn_file_actions_adddup2(actions, stdin, 0)
        libc.posix_spawn_file_actions_adddup2(actions, stdout, 1)
        # In a group of its own, so that Ctrl-C in a terminal is for the sidecar alone.
        libc.posix_spawnattr_setpgroup(attributes, 0)
        libc.sigemptyset(signals)
        libc.sigaddset(signals, int(signal.SIGPIPE))  # which Python ignores, and the new process would inherit that
        libc.posix_spawnattr_setsigdefault(attributes, signals)
        # What waits for our handlers (`inherited`) is no matter of its.
        libc.sigemptyset(signals)
        libc.posix_spawnattr_setsigmask(attributes, signals)
        libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK))
        pid = ctypes.c_int()
        argv = _strings(command)
        envp = _strings([f"{name}={value}" for name, value in env.items()])
        error = libc.posix_spawn(ctypes.byref(pid), argv[0], actions, attributes, argv, envp)
    finally:
        libc.posix_spawnattr_destroy(attributes)
        libc.posix_spawn_file_actions_destroy(actions)
    if error:
        raise OSError(error, os.strerror(error), command[0])
    return pid.value


def _strings(values: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [os.fsencode(value) for value in values]
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)
