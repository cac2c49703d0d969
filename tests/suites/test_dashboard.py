"""asv's page without a network, and commits that have no results yet."""

from __future__ import annotations

import http.server
import json
import platform
import random
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from suites.dashboard import fill, machine, site
from tests.history.asv_results import make_repository, result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
BROWSER = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
BROWSER += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
NPM = Path(__file__).parents[2] / ".asv/npm"


def test_the_page_of_this_asv_loads_nothing_from_the_network():
    asv = pytest.importorskip("asv", reason="asv is not installed")
    page, used = site.local_page((Path(asv.__file__).parent / "www/index.html").read_text("utf-8"))
    assert sorted(used) == sorted(site.PLACES)
    assert re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page) == []
    assert "integrity=" not in page
    assert '<script src="vendor/jquery/dist/jquery.min.js" onerror="js_load_failure()">' in page
    assert '<link rel="stylesheet" href="vendor/bootstrap/dist/css/bootstrap.min.css">' in page


@pytest.mark.parametrize(
    "page, error",
    [
        (
            '<script src="https://a.b/new.js"></script>',
            "asv's page loads https://a.b/new.js, which no package here has",
        ),
        ('<script src="asv.js"></script>', "asv's page loads nothing from the network: expected asv 0.6.6, whose page"),
    ],
)
def test_a_page_of_another_asv_is_an_error(page, error):
    with pytest.raises(site.SiteError, match=re.escape(error)):
        site.local_page(page)


def test_the_locked_packages_name_no_registry():
    for name in site.NPM:
        assert "http" not in (site.HERE / name).read_text()
    locked = json.loads((site.HERE / "package-lock.json").read_text())["packages"]
    assert all(path == "" or "integrity" in package for path, package in locked.items())
    assert {place.partition("/")[0] for place in site.PLACES.values()} == {
        path.rpartition("/")[2] for path in locked
    } - {""}


def test_without_npm_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(site.SiteError, match=r"expected npm, .* got none\. Install Node\.js 18 or newer\."):
        site.packages(tmp_path)


def test_commits_without_results_of_asv_itself_are_measured(tmp_path, monkeypatch):
    commits = make_repository(tmp_path / "project", 4)
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "out/m").mkdir(parents=True)
    for name in (f"{commits[3][:8]}-existing-py.json", f"{commits[2][:8]}-loaderperf-py3.json", "machine.json"):
        (tmp_path / "out/m" / name).touch()
    assert fill.missing(3, tmp_path / "out") == [commits[2], commits[1]]


def test_a_commit_is_measured_from_its_own_files_also_after_a_killed_run(tmp_path, monkeypatch):
    first, _ = make_repository(tmp_path / "project", 2)
    monkeypatch.chdir(tmp_path / "project")
    there = Path(".asv/commits", first[:12]).resolve()
    fill._git("worktree", "add", "--detach", str(there), first)
    seen, run = [], subprocess.run

    def asv(command, **how):
        if command[0] == "git":
            return run(command, **how)
        at = Path(how["env"]["ASV_PYTHONPATH"])
        seen.append((command[3:], (at / "code.py").read_text(), how["env"].get("LOADERPERF_ASV_QUICK")))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", asv)
    assert not fill.measure(first, "x", quick=True)
    options = ["run", "--python=same", f"--set-commit-hash={first}", "--show-stderr", "--bench=x"]
    assert seen == [(options, "0", "1")]
    assert not there.exists()


@pytest.mark.parametrize("named", [{}, {"ci": {"machine": "ci", "os": "An OS", "cpu": "?"}}])
def test_asv_is_told_of_the_gpu(tmp_path, monkeypatch, named):
    asv_machine = pytest.importorskip("asv.machine", reason="asv is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("suites.dashboard.machine.machine_facts", lambda: {"cpu": "A CPU", "gpu": "A GPU", "cores": 4})
    if named:
        (tmp_path / ".asv-machine.json").write_text(json.dumps({"version": 1} | named))
    machine.main()
    told = asv_machine.Machine.load()
    assert (told.cpu, told.num_cpu) == ("A CPU + A GPU", "4")
    assert told.machine == ("ci" if named else platform.node())
    assert set(vars(told)) == {name for name, _ in asv_machine.Machine.fields}


class Serves(http.server.SimpleHTTPRequestHandler):
    """Serves files, and notes in ``lost`` what is not there."""

    def __init__(self, *arguments, lost, **keywords):
        self.lost = lost
        super().__init__(*arguments, **keywords)

    def log_message(self, form, *values):
        if values[1] not in ("200", "304"):
            self.lost.append(str(values))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.skipif(not (NPM / "node_modules/.installed").exists(), reason="make asv-site has not been run here")
def test_every_view_is_drawn_in_a_browser_without_a_network(tmp_path):
    pytest.importorskip("asv", reason="asv is not installed")
    from pytest_loaderperf.history.asv import write_asv

    root = tmp_path / "p"
    commits, noise = make_repository(root, 12), random.Random(0)  # noqa: S311 no secret depends on it
    settings = {"project": "p", "repo": ".", "branches": ["main"], "results_dir": "out", "html_dir": "html"}
    (root / "asv.conf.json").write_text(json.dumps({"version": 1, "environment_type": "virtualenv"} | settings))
    for number, commit in enumerate(commits):
        tests = {"a/test_ä.py::test_it[a-8]": (80 if number > 7 else 100) * noise.gauss(1, 0.01)}
        write_asv(result(commit, tests), root / "out", root=root)
    subprocess.run([sys.executable, "-m", "asv", "publish"], cwd=root, check=True, capture_output=True)
    site.vendor(root / "html", NPM / "node_modules")

    lost = []
    views = {
        "#/": "test_ä.test_it: seconds per sample",
        "#/regressions": "1.25x",
        "#a.test_ä.test_it.seconds_per_sample": "flot-tick-label",
    }
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Serves, directory=root / "html", lost=lost)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for view, drawn in views.items():
            command = [*BROWSER, f"--user-data-dir={tmp_path / 'chrome'}", "--virtual-time-budget=5000", "--dump-dom"]
            address = f"http://127.0.0.1:{server.server_port}/index.html{view}"
            seen = subprocess.run([*command, address], capture_output=True, text=True, check=True, timeout=60)
            assert drawn in seen.stdout, view
            assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == [], view
            assert ("<canvas" in seen.stdout) == (view != "#/regressions")
        server.shutdown()
    assert lost == []
