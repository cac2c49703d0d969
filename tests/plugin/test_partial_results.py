"""A run that does not get to its end says so in its result, and keeps what was measured; a whole one says that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = pytest.mark.slow
THREE = """
    import os
    import signal
    import sys

    import pytest

    class Loader:
        def __iter__(self):
            return iter([[0, 1]] * 400)

    def test_first(loaderperf):
        assert loaderperf(Loader).throughput >= 1

    def test_second(loaderperf):
        {second}

    def test_third(loaderperf):
        assert loaderperf(Loader).throughput >= 1
"""
REPR = "Loader.__repr__ = lambda self: {raises}\n        assert loaderperf(Loader).throughput >= 1"
RAISES = "(_ for _ in ()).throw({}('from repr'))"
MEASURED = "assert loaderperf(Loader).throughput >= 1"


def run(pytester, second, *arguments, conftest=""):
    pytester.makepyfile(test_it=THREE.format(second=second))
    pytester.makeconftest(conftest)
    result = pytester.runpytest_subprocess(
        "--loaderperf", "--loaderperf-budget=0.3", "--loaderperf-json=result.json", *arguments, timeout=120
    )
    path = pytester.path / "result.json"
    return result, json.loads(path.read_text()) if path.exists() else None


def measured(document):
    return [run["nodeid"].partition("::")[2] for run in document["runs"]]


@pytest.mark.parametrize(
    "second, names",
    [
        ("os.kill(os.getpid(), signal.SIGINT)", ["test_first"]),
        pytest.param("pytest.exit('enough', returncode=0)", ["test_first"], marks=SLOW),
        pytest.param("os._exit(3)", ["test_first"], marks=SLOW),
        ("os.kill(os.getpid(), signal.SIGTERM)", ["test_first"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", ["test_first"]),
        ("run = loaderperf(Loader); run.throughput; raise KeyboardInterrupt", ["test_first", "test_second"]),
        (REPR.format(raises=RAISES.format("KeyboardInterrupt")), ["test_first", "test_second"]),
        pytest.param(
            REPR.format(raises=RAISES.format("BaseException")), ["test_first", "test_second", "test_third"], marks=SLOW
        ),
    ],
)
def test_a_run_that_is_cut_short_is_partial(pytester, second, names):
    _, document = run(pytester, second)
    assert (document["partial"], measured(document)) == (True, names)


@pytest.mark.parametrize("arguments", [["-x"], pytest.param(["--maxfail=1"], marks=SLOW)])
def test_a_run_that_stops_at_a_failure_is_partial(pytester, arguments):
    _, document = run(pytester, "assert False", *arguments)
    assert (document["partial"], measured(document)) == (True, ["test_first"])


@pytest.mark.parametrize(
    "hook",
    [
        "logreport(report)",
        pytest.param("makereport(item)", marks=SLOW),
        "teardown(item)",
        pytest.param("logfinish(nodeid)", marks=SLOW),
    ],
)
def test_a_crash_in_a_hook_of_another_plugin_is_partial(pytester, hook):
    name = {"report": "report.nodeid", "item": "item.nodeid", "nodeid": "nodeid"}[hook.partition("(")[2][:-1]]
    crashes = f"import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_{hook}:\n"
    if hook.startswith("teardown"):
        crashes += f"    if 'second' in {name}: raise KeyboardInterrupt\n"
    else:
        crashes += f"    if 'second' in {name}: raise RuntimeError('crash')\n"
    _, document = run(pytester, MEASURED, conftest=crashes)
    assert document["partial"] is True
    assert measured(document)[0] == "test_first"


def test_a_crash_at_the_end_of_the_session_is_partial(pytester):
    crashes = (
        "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): raise RuntimeError('crash')\n"
    )
    _, document = run(pytester, MEASURED, conftest=crashes)
    assert (document["partial"], len(document["runs"])) == (True, 3)


def test_a_file_that_cannot_be_collected_makes_the_result_partial(pytester):
    pytester.makepyfile(test_broken="import no_such_module")
    _, document = run(pytester, MEASURED, "--continue-on-collection-errors")
    assert (document["partial"], len(document["runs"])) == (True, 3)


def test_an_earlier_result_is_not_taken_for_that_of_an_interrupted_run(pytester):
    run(pytester, MEASURED)
    _, document = run(pytester, MEASURED, conftest="def pytest_runtestloop(): raise KeyboardInterrupt")
    assert (document["partial"], document["runs"]) == (True, [])


@pytest.mark.parametrize(
    "second, arguments, count",
    [
        (MEASURED, [], 3),
        pytest.param(MEASURED, ["-n", "1"], 3, marks=SLOW),
        (MEASURED, ["-k", "first or third"], 2),
        ("assert False", [], 2),
        pytest.param("pytest.skip('not today')", ["-x"], 2, marks=SLOW),
        pytest.param(REPR.format(raises=RAISES.format("ValueError")), [], 3, marks=SLOW),
        ("raise SystemExit", [], 2),
    ],
)
@pytest.mark.usefixtures("quick_children")
def test_a_run_that_gets_to_its_end_is_whole(pytester, second, arguments, count):
    _, document = run(pytester, second, *arguments)
    assert (document["partial"], len(document["runs"])) == (False, count)


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize("arguments", [[], pytest.param(["--max-worker-restart=0"], marks=SLOW)])
def test_what_a_lost_xdist_worker_measured_stays(pytester, arguments):
    _, document = run(pytester, "os._exit(3)", "-n", "1", *arguments)
    assert document["partial"] is True
    assert measured(document)[0] == "test_first"


@pytest.mark.usefixtures("quick_children")
def test_a_second_ctrl_c_while_the_first_is_served_loses_nothing(pytester):
    slow_end = """
        run = loaderperf(Loader)
        run.throughput
        open("there", "w").close()
        import time
        time.sleep(60)

    @pytest.fixture(autouse=True)
    def slow_end():
        import time
        yield
        open("ending", "w").close()
        time.sleep(60)
    """
    pytester.makepyfile(test_it=THREE.format(second=slow_end.strip()))
    command = [sys.executable, "-m", "pytest", "--loaderperf", "--loaderperf-json=result.json", "-k", "second"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for sign in ("there", "ending"):
            deadline_s = time.monotonic() + 60
            while not (pytester.path / sign).exists() and process.poll() is None:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGINT)
        shown, _ = process.communicate(timeout=60)
    document = json.loads((pytester.path / "result.json").read_text())
    assert (document["partial"], measured(document)) == (True, ["test_second"]), shown
