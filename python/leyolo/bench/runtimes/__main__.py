"""One runtime in a process of its own: loads it, gives its output, then measures a turn whenever it is asked.

Run as ``python -m leyolo.bench.runtimes`` by :mod:`leyolo.bench.race`; they talk in JSON lines over stdin and stdout.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leyolo import weights
from leyolo.bench.runtimes import NETWORKS, PIPELINES
from leyolo.bench.runtimes.base import Array, Job, NotHereError, joined
from leyolo.bench.timing import WARM_UP, turn


class _Contestant:
    """What is measured: ``run`` gives the output; pipelines also note what every stage took."""

    def __init__(self, order: dict[str, Any]) -> None:
        job = Job(weights.load(order["weights"]), tuple(order["shape"]), order["threads"])
        self._stages: list[dict[str, float]] = []
        self.run: Callable[[], Any]
        if order["kind"] == "network":
            network = NETWORKS[order["runtime"]].load(job)
            x = np.load(order["input"])
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if network.layout == "NCHW" else x
            self.version, self.run = network.version, lambda: network.forward(x)
            self.output: Array = joined(self.run())
        else:
            pipeline = PIPELINES[order["runtime"]].load(job)
            data = Path(order["input"]).read_bytes()
            self.version, self.run = pipeline.version, lambda: self._noted(*pipeline.detect(data))
            self.output = self.run()

    def _noted(self, boxes: Array, stages: dict[str, float]) -> Array:
        self._stages.append(stages)
        return boxes

    def turn(self, seconds: float) -> dict[str, Any]:
        self._stages.clear()
        answer: dict[str, Any] = {"ms": turn(self.run, seconds)}
        if timed := self._stages[WARM_UP:]:
            answer["stages"] = {name: statistics.median(each[name] for each in timed) * 1e3 for name in timed[0]}
        return answer


def _failure(order: dict[str, Any], error: Exception) -> dict[str, Any]:
    """The answer to an order that failed; names what pip would install if that is all that is amiss."""
    if isinstance(error, NotHereError):
        return {"failed": str(error)}
    if isinstance(error, ModuleNotFoundError) and "runtime" in order:
        table = NETWORKS if order["kind"] == "network" else PIPELINES
        packages = table[order["runtime"]].packages
        return {"failed": f"{error.name} is not installed", "install": f"pip install {' '.join(packages)}"}
    return {"failed": (f"{type(error).__name__}: {error}".splitlines() or [""])[0]}


def main() -> None:
    """Answers orders until stdin ends. What libraries print goes to stderr, away from the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contestant: _Contestant | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if contestant is None:
                contestant = _Contestant(order)
                np.save(Path(order["output"]), contestant.output)
                answer = {"version": contestant.version}
            else:
                answer = contestant.turn(order["seconds"])
        except Exception as error:  # whatever a runtime raises, the driver says which one it was
            traceback.print_exc()
            answer = _failure(order, error)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
