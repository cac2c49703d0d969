"""Runs jobs, and the steps in them, as a runner of GitHub Actions does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from suites.actions.expressions import condition, interpolate

SHELLS = {None: ("bash", "-e"), "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail")}
STEP_KEYS = {"name", "id", "if", "uses", "with", "run", "env", "shell"}
JOB_KEYS = {"name", "runs-on", "timeout-minutes", "steps", "if", "needs", "outputs", "permissions", "environment"}
JOB_KEYS |= {"strategy"}
_TIMEOUT_S = 1800.0

Used = Callable[["Job", dict[str, str]], Mapping[str, str]]
"""Stands in for an action that is not ours: takes its inputs, and returns its outputs."""


@dataclass
class Runner:
    """What all jobs share: the files of the action, stand-ins for those of others, and variables.

    ``environment`` is that of every step; ``event`` is what started the workflow; ``folder`` holds all that is written.
    """

    folder: Path
    event: Mapping[str, Any]
    environment: Mapping[str, str]
    ours: Mapping[str, Path]
    others: Mapping[str, Used]
    variables: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    token: Callable[[Mapping[str, str]], str] = lambda _permissions: ""  # for the permissions of a job
    log: Callable[[str], None] = print


@dataclass
class Job:
    """One job: its workspace, the outputs of its steps, and what it shows."""

    runner: Runner
    workspace: Path
    github: dict[str, Any]
    matrix: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    failed: bool = False
    summary: str = ""
    output: str = ""

    @property
    def annotations(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith(("::error", "::warning"))]

    def steps(
        self, steps: Sequence[Mapping[str, Any]], inputs: Mapping[str, str], env: Mapping[str, str], action: Path | None
    ) -> dict[str, Any]:
        """Run ``steps``, of the ``action`` in a folder or of a job; return the context ``steps`` at their end."""
        known: dict[str, Any] = {
            step["id"]: {"outputs": _Empty()} for step in steps if "id" in step
        }  # a step that was skipped has no outputs
        functions = {
            "success": lambda: not self.failed,
            "failure": lambda: self.failed,
            "always": lambda: True,
            "cancelled": lambda: False,
        }
        for step in steps:
            _only(step, STEP_KEYS, "a step")
            contexts = self._contexts(inputs, known, env)
            if not condition(str(step.get("if", "success()")), contexts, functions):
                continue
            own = dict(env) | {key: interpolate(str(text), contexts) for key, text in step.get("env", {}).items()}
            contexts = self._contexts(inputs, known, own)
            self.runner.log(f"  {step.get('name') or step.get('uses') or step['run'].splitlines()[0]}")
            outputs = self._use(step, contexts, own) if "uses" in step else self._run(step, contexts, own, action)
            if "id" in step:
                known[step["id"]] = {"outputs": _Empty(outputs)}
        return known

    def _contexts(self, inputs: Mapping[str, str], steps: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
        return {
            "inputs": inputs,
            "steps": steps,
            "env": {**env, **self.env},
            "github": self.github,
            "runner": {"temp": str(self._temp), "os": "Linux"},
            "vars": self.runner.variables,
            "matrix": self.matrix,
            "needs": self.needs,
        }

    @property
    def _temp(self) -> Path:
        return self.workspace.with_name(f"{self.workspace.name}.temp")

    def _run(
        self, step: Mapping[str, Any], contexts: Mapping[str, Any], env: Mapping[str, str], action: Path | None
    ) -> Mapping[str, str]:
        if "${{" in step["run"]:
            raise ValueError(f"expected inputs to reach the shell as variables, got {step['run']!r}")
        files = {name: self._temp / f"{name.lower()}.txt" for name in ("ENV", "OUTPUT", "PATH", "STEP_SUMMARY")}
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        environment = {**self.runner.environment, **self._of_github(), **self.env, **env}
        environment |= {f"GITHUB_{name}": str(file) for name, file in files.items()}
        environment["PATH"] = os.pathsep.join([*reversed(self.path), environment["PATH"]])
        if action is not None:
            environment["GITHUB_ACTION_PATH"] = str(action)
        script = self._temp / "script.sh"
        script.write_text(step["run"])
        done = subprocess.run(  # noqa: S603 the steps are our own
            [*SHELLS[step.get("shell")], str(script)],
            cwd=self.workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        self.output += done.stdout
        self.summary += files["STEP_SUMMARY"].read_text()
        self.env |= _assignments(files["ENV"])
        self.path += files["PATH"].read_text().splitlines()
        if done.returncode:
            self.failed = True
            self.runner.log(f"    status {done.returncode}")
        return _assignments(files["OUTPUT"])

    def _of_github(self) -> dict[str, str]:
        """The variables that GitHub sets."""
        event_file = self._temp / "event.json"
        event_file.parent.mkdir(parents=True, exist_ok=True)
        event_file.write_text(json.dumps(self.github["event"]))
        names = ("sha", "repository", "base_ref", "server_url", "api_url", "run_id")
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_EVENT_PATH": str(event_file),
            "RUNNER_TEMP": str(self._temp),
            **{f"GITHUB_{name.upper()}": str(self.github.get(name, "")) for name in names},
        }

    def _use(self, step: Mapping[str, Any], contexts: Mapping[str, Any], env: Mapping[str, str]) -> Mapping[str, str]:
        name = step["uses"].partition("@")[0]
        given = {key: interpolate(str(value), contexts) for key, value in step.get("with", {}).items()}
        if name in self.runner.ours:
            return self._use_ours(self.runner.ours[name], given, env)
        if name not in self.runner.others:
            raise ValueError(f"expected one of {', '.join([*self.runner.ours, *self.runner.others])}, got {name}")
        return self.runner.others[name](self, given)

    def _use_ours(self, folder: Path, given: Mapping[str, str], env: Mapping[str, str]) -> Mapping[str, str]:
        action = yaml.safe_load((folder / "action.yml").read_text())
        defaults = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()}
        if unknown := set(given) - set(defaults):
            raise ValueError(f"expected inputs of the action, {', '.join(defaults)}, got {', '.join(sorted(unknown))}")
        inputs = defaults | dict(given)
        known = self.steps(action["runs"]["steps"], inputs, env, folder)
        contexts = self._contexts(inputs, known, env)
        return {name: interpolate(entry["value"], contexts) for name, entry in action.get("outputs", {}).items()}


def run_workflow(file: Path, runner: Runner, github: Mapping[str, Any]) -> dict[str, Job]:
    """Run the jobs of a workflow in turn; those whose condition does not hold are left out."""
    workflow = yaml.load(file.read_text(), yaml.CBaseLoader)  # noqa: S506 it makes strings alone: `on` stays a key
    done: dict[str, Job] = {}
    outputs: dict[str, Any] = {}
    for name, entry in workflow["jobs"].items():
        _only(entry, JOB_KEYS, "a job")
        needs = [entry["needs"]] if isinstance(entry.get("needs"), str) else entry.get("needs", [])
        for number, matrix in enumerate(entry.get("strategy", {}).get("matrix", {}).get("include", [{}])):
            job = Job(runner, runner.folder / f"{file.stem}-{name}-{number}", dict(github), matrix)
            job.needs = {need: outputs[need] for need in needs if need in outputs}
            contexts = job._contexts(runner.inputs, {}, {})  # noqa: SLF001 one file
            succeeded = all(need in outputs and not outputs[need]["failed"] for need in needs)
            functions = {"success": lambda succeeded=succeeded: succeeded, "always": lambda: True}
            if not condition(entry.get("if", "success()"), contexts, functions):
                continue
            runner.log(f"{file.name}: {name}")
            permissions = entry.get("permissions", workflow.get("permissions", {}))
            job.github["token"] = runner.token(permissions)
            job.workspace.mkdir(parents=True)
            known = job.steps(entry["steps"], runner.inputs, workflow.get("env", {}), None)
            contexts = job._contexts(runner.inputs, known, {})  # noqa: SLF001 one file
            of_job = {key: interpolate(text, contexts) for key, text in entry.get("outputs", {}).items()}
            outputs[name] = {"outputs": of_job, "failed": job.failed}
            done[name if not number else f"{name}-{number}"] = job
    return done


class _Empty(dict[str, str]):
    """The outputs of a step: one that was not written is empty, as on GitHub."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return ""


def _assignments(file: Path) -> dict[str, str]:
    """The lines ``name=value`` that a step wrote."""
    lines = file.read_text().splitlines()
    if odd := [line for line in lines if "=" not in line]:
        raise ValueError(f"{file.name}: expected lines with name=value, got {odd[0]!r}")
    return dict(line.split("=", 1) for line in lines)


def _only(entry: Mapping[str, Any], known: set[str], what: str) -> None:
    if unknown := set(entry) - known:
        raise ValueError(f"{what} has keys that are not known here: {', '.join(sorted(unknown))}")
