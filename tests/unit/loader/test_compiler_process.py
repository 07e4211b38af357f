"""Compilers as processes: what they say, and every way in which one can fail to say it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from sidecar.compile.deserialize import Written
from sidecar.compile.frames import FrameError, Kind, kind_of, read_header, read_problems
from sidecar.insight.preview.wire import pack
from sidecar.loader import compiler_process
from sidecar.loader.compiler_process import CompilerProcess
from sidecar.loader.low_priority import background_niceness
from sidecar.loader.plan_source import MeshRequest, PlanSourceError, PreviewQuestion, Pushed
from sidecar.loader.spawn import Child, spawn, spawn_compiler
from sidecar.loader.wire import prefixed
from tests.support.compiling import frames_of
from tests.support.keeping import Keeping, head_of
from tests.support.wait import eventually

GOOD = "service: ${NAME}\noutbound: {routes: [{to: a}]}\nupstreams: {a: {endpoints: ['10.0.0.1:80']}}\n"


def run(source: CompilerProcess, times: int = 1, between: Callable[[], None] = lambda: None) -> list[list[bytes]]:
    """Ask so often, on one loop; afterwards nothing of it is left."""

    async def ask() -> list[list[bytes]]:
        answers = []
        try:
            for time in range(times):
                if time:
                    between()
                answers.append([frame async for frame in source.frames("start" if not time else "file")])
            return answers
        finally:
            end(source)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(ask())


def end(source: CompilerProcess) -> None:
    """End the compiler that is kept, as the end of the process would."""
    if source._idle is not None:
        source._idle.close()


def calls_of(act: Callable[[], object]) -> int:
    """How many functions are called, of Python's and of C."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


def held_by(
    monkeypatch: pytest.MonkeyPatch, question: PreviewQuestion, path: Path
) -> tuple[dict[str, object], list[int]]:
    """The report, and how many functions each callback of the loop called while it was waited for."""
    took: list[int] = []
    original = asyncio.events.Handle._run

    def counted(handle: asyncio.events.Handle) -> None:
        took.append(calls_of(lambda: original(handle)))

    source = CompilerProcess(str(path), {**os.environ, "NAME": "shop"})
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        monkeypatch.setattr(asyncio.events.Handle, "_run", counted)
        return runner.run(source.report(question)), took


@pytest.mark.long
def test_a_preview_of_a_large_file_and_a_full_ring_is_no_work_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is done there for each request or route: no callback calls as many functions as there are of them."""
    many = "".join(
        f"    - {{name: r{number}, match: {{host: h{number % 50}, path: {{prefix: /p{number}}}}}, to: one}}\n"
        for number in range(3000)
    )
    text = f"service: shop\noutbound:\n  routes:\n{many}upstreams: {{one: {{endpoints: []}}, two: {{endpoints: []}}}}\n"
    keeping = Keeping(text)
    for number in range(2000):
        keeping.live(head_of("GET", f"h{number % 50}", f"/p{number % 50}/x"))
    ring = pack(keeping.recent)
    assert calls_of(lambda: pack(keeping.recent)) < 400
    new = text.replace("to: one}", "to: two}").encode()
    report, took = held_by(monkeypatch, PreviewQuestion(frames_of(text), [ring], "new.yaml", new), tmp_path / "f.yaml")
    assert (report["requests"], report["problems"]) == (2000, [])
    assert report["moved"] == 2000
    assert 0 < max(took) < 1000


def test_a_preview_of_a_bad_file_is_its_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At their places, as a load tells them; variables are those of the sidecar."""
    live = frames_of("service: shop\noutbound: {}\n")
    question = PreviewQuestion(live, [], "new.yaml", b"service: ${NAME}\noutbound: {routs: [], unmached: x}\n")
    report, _ = held_by(monkeypatch, question, tmp_path / "f.yaml")
    assert report["requests"] == 0
    problems = [str(one["text"]) for one in report["problems"]]  # type: ignore[index]
    assert [problem.split(" ")[0] for problem in problems] == ["new.yaml:2:12:", "new.yaml:2:23:"]


def test_a_compiler_that_dies_over_a_preview_is_told_in_a_line(tmp_path: Path) -> None:
    """And one that says something else than a report."""
    question = PreviewQuestion(frames_of("service: shop\noutbound: {}\n"), [], "new.yaml", b"service: x")
    source = CompilerProcess(str(tmp_path / "f.yaml"), os.environ, spawn=program("import sys; sys.exit(3)"))
    with pytest.raises(PlanSourceError, match="ended before the preview was done: exit code 3"):
        asyncio.run(source.report(question))
    end_frame = prefixed(bytes((Kind.END,)))
    code = f"import sys; sys.stdout.buffer.write({end_frame!r}); sys.stdout.flush(); sys.stdin.read()"
    source = CompilerProcess(str(tmp_path / "f.yaml"), os.environ, spawn=program(code))
    with pytest.raises(FrameError, match="expected a report"):
        asyncio.run(source.report(question))


def program(code: str) -> Callable[[Mapping[str, str], bool], Child]:
    """Starts this Python program instead of a compiler."""
    return lambda env, niceness: spawn((sys.executable, "-c", code), env)


class Counted:
    """Starts compilers and remembers them."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def __call__(self, env: Mapping[str, str], niceness: int | None) -> Child:
        self.children.append(spawn_compiler(env, niceness))
        return self.children[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    path = tmp_path / "f.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def env() -> dict[str, str]:
    """With the variable that the file wants."""
    return {**os.environ, "NAME": "shop"}


def test_a_good_file_comes_as_its_frames(path: Path, env: dict[str, str]) -> None:
    """With its digest, its listeners, and variables from the environment that was given."""
    ((header, *rest),) = run(CompilerProcess(str(path), env))
    said = read_header(header)
    assert said.is_ok
    assert [wanted.role for wanted in said.listeners] == ["outbound", "metrics", "admin"]
    assert Written([header, *rest]).settings.service.name == "shop"
    assert kind_of(rest[-1]) is Kind.END


def test_a_bad_file_comes_as_its_problems(path: Path, env: dict[str, str]) -> None:
    """With file, line and column; the digest is told, so that nobody reads the same content again."""
    path.write_text("service: x\noutbound: {lisen: 1}\ntests: [{}]\n")
    ((header, *rest, _),) = run(CompilerProcess(str(path), env))
    assert not read_header(header).is_ok
    assert len(read_header(header).digest_hex) == 64
    problems = [str(problem) for frame in rest for problem in read_problems(frame)]
    assert problems[0].startswith(f"{path}:2:12: outbound.lisen: unknown key")
    assert len(problems) == 3


def test_tests_that_fail_are_problems_at_their_place(path: Path, env: dict[str, str]) -> None:
    """They are tried before the file is called good."""
    path.write_text(GOOD + "tests: [{name: t, request: {url: 'http://a/'}, expect: {status: 404}}]\n")
    ((header, problems, _),) = run(CompilerProcess(str(path), env))
    assert not read_header(header).is_ok
    (problem,) = read_problems(problems)
    assert (problem.line, problem.path) == (4, "tests[0]")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, env: dict[str, str]) -> None:
    """In the words of `sidecar check`."""
    ((header, _),) = run(CompilerProcess(str(tmp_path / "none"), env))
    assert read_header(header).error == f"cannot read {tmp_path / 'none'}: no such file"


def test_several_loads_in_a_row_have_one_compiler(path: Path, env: dict[str, str]) -> None:
    """Each reads the file anew."""
    started = Counted()
    source = CompilerProcess(str(path), env, spawn=started)
    first, second, third = run(source, 3, lambda: path.write_text(path.read_text() + "\n"))
    assert len(started.children) == 1
    assert len({read_header(frames[0]).digest_hex for frames in (first, second, third)}) == 3


def test_a_compiler_that_had_much_to_do_is_not_kept(
    path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is the file's."""
    monkeypatch.setattr(compiler_process, "LINGER_BYTES", 100)
    started = Counted()
    run(CompilerProcess(str(path), env, spawn=started), 2)
    assert len(started.children) == 2


def test_a_compiler_that_nobody_asks_again_ends(
    path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next load has one of its own."""
    monkeypatch.setattr(compiler_process, "LINGER_S", 0.0)
    started = Counted()
    source = CompilerProcess(str(path), env, spawn=started)

    async def ask() -> None:
        for _ in range(2):
            assert [frame async for frame in source.frames("file")]
            await asyncio.to_thread(_until_gone, started.children[-1].pid)

    asyncio.run(ask())
    assert len(started.children) == 2


def test_a_compiler_that_died_while_it_was_kept_is_replaced(path: Path, env: dict[str, str]) -> None:
    """A load that follows is none the worse."""
    started = Counted()
    source = CompilerProcess(str(path), env, spawn=started)

    async def ask() -> None:
        assert [frame async for frame in source.frames("file")]
        os.kill(started.children[0].pid, 9)
        os.waitid(os.P_PID, started.children[0].pid, os.WEXITED | os.WNOWAIT)
        assert [frame async for frame in source.frames("file")]
        end(source)

    asyncio.run(ask())
    assert len(started.children) == 2


def test_the_compiler_that_was_there_before_serves_the_first_load(path: Path, env: dict[str, str]) -> None:
    """It has prepared itself meanwhile."""
    later = Counted()
    early = spawn_compiler(env)
    run(CompilerProcess(str(path), env, early, spawn=later), 2)
    assert later.children == []


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit(3)", "the compiler ended before it was done: exit code 3"),
        ("", "exit code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL; was there enough memory\?"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.write(1, b'\\x05\\0\\0\\0ab')", "exit code 0"),  # a frame that is cut
    ],
)
def test_a_compiler_that_dies_is_told_with_how_it_died(path: Path, env: dict[str, str], code: str, why: str) -> None:
    """In one line that names the file and says that nothing was changed."""
    with pytest.raises(PlanSourceError, match=why) as caught:
        run(CompilerProcess(str(path), env, spawn=program(code)))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; nothing was changed")


def test_a_compiler_that_closes_its_output_and_stays_is_ended(
    path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it for ever."""
    monkeypatch.setattr(compiler_process, "PATIENCE_S", 0.01)
    with pytest.raises(PlanSourceError, match="SIGKILL"):
        run(CompilerProcess(str(path), env, spawn=program("import os, time; os.close(1); time.sleep(600)")))


def test_a_compiler_that_hangs_is_given_up_and_ended(path: Path, env: dict[str, str]) -> None:
    """After its time, and no process is left."""
    children: list[Child] = []

    def start(env: Mapping[str, str], niceness: int | None) -> Child:
        children.append(program("import time; time.sleep(600)")(env, niceness))
        return children[-1]

    with pytest.raises(PlanSourceError, match=r"the compiler has not finished within 0\.05 s"):
        run(CompilerProcess(str(path), env, limit_s=0.05, spawn=start))
    _until_gone(children[0].pid)


def test_a_compiler_that_prints_garbage_is_no_compiler(path: Path, env: dict[str, str]) -> None:
    """It is told as such, and nothing of what it says is believed."""
    with pytest.raises(FrameError, match="expected a frame"):
        run(CompilerProcess(str(path), env, spawn=program("print('Hello, world! ' * 100)")))


def test_what_a_library_prints_in_a_compiler_is_no_frame(path: Path, env: dict[str, str]) -> None:
    """Standard output is for frames alone: the rest of it goes to standard error."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from sidecar.loader import compiler\n"
        "compile_file = compiler.compile_file\n"
        "def noisy(*arguments):\n    print('a warning', flush=True)\n    return compile_file(*arguments)\n"
        "compiler.compile_file = noisy\n"
        "compiler.main()\n"
    )
    ((header, *_),) = run(CompilerProcess(str(path), env, spawn=program(code)))
    assert read_header(header).is_ok


def test_a_system_that_starts_no_process_is_told(path: Path, env: dict[str, str]) -> None:
    """A limit on processes, or no memory for one."""

    def start(env: Mapping[str, str], niceness: int | None) -> Child:
        return spawn(("/nonexistent/python",), env)

    with pytest.raises(PlanSourceError, match="cannot start a compiler: no such file or directory"):
        run(CompilerProcess(str(path), env, spawn=start))


def test_no_descriptor_and_no_process_is_left_behind(
    path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it went well or not."""
    monkeypatch.setattr(compiler_process, "LINGER_BYTES", 0)
    children: list[Child] = []

    def noted(start: Callable[[Mapping[str, str], bool], Child]) -> Callable[[Mapping[str, str], bool], Child]:
        def noting(env: Mapping[str, str], niceness: int | None) -> Child:
            children.append(start(env, niceness))
            return children[-1]

        return noting

    run(CompilerProcess(str(path), env))
    before = os.listdir("/proc/self/fd")
    for start in (spawn_compiler, program("raise SystemExit(3)"), program("print('garbage' * 100)")):
        with suppress(PlanSourceError, FrameError):
            run(CompilerProcess(str(path), env, spawn=noted(start)))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert len(children) == 3
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Numbers above 1023 may be had, as in a sidecar with a thousand connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_descriptors_have_numbers_above_1023(path: Path, env: dict[str, str]) -> None:
    """`select` refuses them; the second load asks the first one's compiler."""
    started = []

    def high(env: Mapping[str, str], niceness: int | None) -> Child:
        child = spawn_compiler(env, niceness)
        moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 1500) for one in (child.stdin, child.stdout)]
        os.close(child.stdin)
        os.close(child.stdout)
        started.append(Child(child.pid, *moved))
        return started[-1]

    answers = run(CompilerProcess(str(path), env, spawn=high), times=2)
    assert [kind_of(frames[-1]) for frames in answers] == [Kind.END, Kind.END]
    assert len(started) == 1


def test_what_another_thread_opens_meanwhile_is_left_alone(path: Path, env: dict[str, str]) -> None:
    """Its descriptor may have the number of one that was just closed, so none may be closed twice."""
    closed_by_others: list[OSError] = []
    done = threading.Event()

    def open_and_close() -> None:
        while not done.is_set():
            try:
                fresh = [socket.socket() for _ in range(4)]
                for one in fresh:
                    one.close()
            except OSError as error:
                closed_by_others.append(error)

    async def read_often() -> None:
        source = CompilerProcess(str(path), env)
        [_ async for _ in source.frames("start")]
        assert source._idle is not None
        for _ in range(5000):
            assert source._idle.wake()
            source._idle.open()
            await asyncio.sleep(0)
            source._idle.rest(60)
        end(source)

    threads = [threading.Thread(target=open_and_close) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(read_often())
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert closed_by_others == []


def test_a_compiler_ignores_what_lies_in_the_working_directory(
    path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app's folder may have a `yaml.py`, or even a `sidecar`."""
    for name in ("yaml", "json", "pydantic"):
        (path.parent / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(path.parent)
    ((header, *_),) = run(CompilerProcess("f.yaml", env))
    assert read_header(header).is_ok


def test_a_compiler_beside_traffic_stands_back(path: Path, env: dict[str, str], tmp_path: Path) -> None:
    """At the start it does not: nothing is served until it is done."""
    told = tmp_path / "told"
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import json, os\n"
        "from sidecar.loader import compiler\n"
        "compile_file = compiler.compile_file\n"
        "def watched(*arguments):\n"
        f"    with open({str(told)!r}, 'a') as file:\n"
        "        print(json.dumps([os.nice(0), os.sched_getscheduler(0)]), file=file)\n"
        "    return compile_file(*arguments)\n"
        "compiler.compile_file = watched\n"
        "compiler.main()\n"
    )
    run(CompilerProcess(str(path), env, spawn=program(code)), 2)
    start, beside = [json.loads(line) for line in told.read_text().splitlines()]
    assert start == [os.nice(0), os.sched_getscheduler(0)]
    assert beside[0] > start[0] or start[0] == 19
    assert beside[1] == os.SCHED_BATCH


def test_a_compiler_beside_traffic_stands_back_from_its_first_instruction(env: dict[str, str]) -> None:
    """Its start is a quarter of a second of CPU, and the data path's too, which keeps its own priority."""
    niceness = background_niceness()
    ours = os.nice(0), os.sched_getscheduler(0)
    child = spawn_compiler(env, niceness)
    try:
        assert os.sched_getscheduler(child.pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(niceness, 19)
        assert (os.nice(0), os.sched_getscheduler(0)) == ours
    finally:
        os.close(child.stdin)
        os.close(child.stdout)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)


def test_a_system_without_threads_is_one_without_processes(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the file, and so the load is tried again."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread") as raised:
            spawn_compiler(env, background_niceness())
    assert raised.value.errno == errno.EAGAIN


def _until_gone(pid: int) -> None:
    """Wait until a process is no more, waited for and all."""
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the compiler to be gone")


PUSHED = "service: shop\ninbound: {app: '127.0.0.1:8080'}\n"


def followed(path: Path, env: dict[str, str], pushed: Pushed | None, *, is_optional: bool = False) -> list[bytes]:
    """The frames of one load of a sidecar that follows a control plane."""
    request = MeshRequest({"control": ["http://c:1"], "service": "shop", "zone": "b"}, is_optional, pushed)
    (frames,) = run(CompilerProcess(str(path), env, mesh=lambda trigger: request))
    return frames


def test_what_was_pushed_is_read_with_the_local_file(path: Path, env: dict[str, str]) -> None:
    """However long it is; its hash is the configuration's, and the local file is what is followed."""
    path.write_text("inbound: {listen: '127.0.0.1:7'}\n")
    long = PUSHED + "# a comment\n" * 50_000
    header, *rest = followed(path, env, Pushed("pushed", "ab" * 16, long))
    said = read_header(header)
    assert (said.is_ok, said.digest_hex, said.pushed) == (True, "ab" * 16, "pushed")
    assert [name for name, _ in said.local_files] == [str(path)]
    assert next((one.role, one.address, one.file) for one in said.listeners) == ("inbound", "127.0.0.1:7", str(path))
    assert said.control is not None
    assert (said.control.service, said.control.zone) == ("shop", "b")
    assert Written([header, *rest]).settings.service.name == "shop"


def test_before_anything_was_pushed_only_metrics_and_admin_listen(tmp_path: Path, env: dict[str, str]) -> None:
    """A local file that may be absent is no matter; one that may not is."""
    header, *_ = followed(tmp_path / "none", env, None, is_optional=True)
    said = read_header(header)
    assert (said.is_ok, said.digest_hex, said.local_files) == (True, "", ())
    assert [one.role for one in said.listeners] == ["metrics", "admin"]
    header, *_ = followed(tmp_path / "none", env, None)
    assert read_header(header).error == f"cannot read {tmp_path / 'none'}: no such file"


def test_a_file_that_stands_for_a_pushed_one_is_read_from_disk(tmp_path: Path, env: dict[str, str]) -> None:
    """Its problems name it, and it counts as what it holds."""
    bootstrap = tmp_path / "bootstrap.yaml"
    bootstrap.write_text(PUSHED)
    header, *_ = followed(tmp_path / "none", env, Pushed(str(bootstrap)), is_optional=True)
    assert read_header(header).pushed == str(bootstrap)
    assert len(read_header(header).digest_hex) == 64
    bootstrap.write_text(PUSHED + "workers: 2\n")
    _, problems, _ = followed(tmp_path / "none", env, Pushed(str(bootstrap)), is_optional=True)
    assert str(read_problems(problems)[0]).startswith(f"{bootstrap}:3:1: workers: ")


def test_a_compiler_that_does_not_read_what_was_pushed_is_given_up(path: Path, env: dict[str, str]) -> None:
    """It is killed, and nobody waits for the pipe."""
    request = MeshRequest({}, pushed=Pushed("pushed", "ab", "#" * 1_000_000))
    spawn = program("import time; time.sleep(600)")
    with pytest.raises(PlanSourceError, match="has not finished within"):
        run(CompilerProcess(str(path), env, limit_s=0.2, spawn=spawn, mesh=lambda trigger: request))
