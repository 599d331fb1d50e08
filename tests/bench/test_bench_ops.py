"""Benchmarks of operators: right results or no figures, figures that add up, and a picture of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leyolo import _C
from leyolo.bench import limits, ops, roofline, timing
from leyolo.bench.ops.case import OURS, Case, Contestant, largest_difference, unequal_share
from leyolo.cli import main
from leyolo.errors import CheckError


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks set up their process for good; this one is not theirs."""
    monkeypatch.setattr(ops, "keep_memory", lambda: None)
    real = limits.measure
    monkeypatch.setattr(limits, "measure", lambda threads: real(threads, seconds=0.02))
    threads = torch.get_num_threads(), _C.num_threads()
    yield
    torch.set_num_threads(threads[0])
    _C.set_num_threads(threads[1])


@pytest.fixture
def first_case(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ops.cases
    monkeypatch.setattr(ops, "cases", lambda op, **shapes: real(op, **shapes)[:1])


def case(contestants: dict[str, Contestant], **rest: Any) -> Case:
    return Case("nms", "a case", lambda threads: contestants, bytes=8000, tolerance=1e-3, **rest)


@pytest.mark.parametrize("op", ops.OPS)
@pytest.mark.usefixtures("first_case")
def test_rows(op: str) -> None:
    report = ops.benchmark([op], imgsz=64, threads=1, rounds=2, seconds=1e-4)
    assert json.loads(json.dumps(report))["rows"] == report["rows"]
    rows = {row["name"]: row for row in report["rows"]}
    assert len(rows) >= 2
    assert any(name.startswith("torch") for name in rows)
    ours = rows[OURS]
    assert ours["ratio_to_ours"] == 1
    for row in rows.values():
        assert (row["op"], row["case"], row["threads"], row["dtype"]) == (op, ours["case"], 1, "float32")
        assert 0 < row["p25_ms"] <= row["median_ms"] <= row["p75_ms"]
        assert row["ratio_to_ours"] == pytest.approx(row["median_ms"] / ours["median_ms"])
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["median_ms"] / 1e6)
        counted = row["operations"] is not None
        assert row["gflop_per_s"] == (pytest.approx(row["operations"] / row["median_ms"] / 1e6) if counted else None)
    assert rows[next(name for name in rows if name.startswith("torch"))]["version"] == torch.__version__
    assert ours["of_limit"] == pytest.approx(row["of_limit"] * row["ratio_to_ours"])
    assert report["environment"]["imgsz"] == 64
    assert report["environment"]["limits"]["gflop_per_s"] > 0


@pytest.mark.parametrize("op", ops.OPS)
@pytest.mark.parametrize("size", ["n", "m"])
def test_cases_have_names_of_their_own(op: str, size: str) -> None:
    found = ops.cases(op, size=size)
    assert found
    assert len({c.name for c in found}) == len(found)
    assert all(c.op == op and c.bytes > 0 for c in found)


def test_nano_is_covered() -> None:
    """Sums hold what the network holds: 36 depthwise convolutions, 2 x 1231.9 million multiply-accumulates."""
    depthwise = ops.cases("depthwise_conv2d")
    assert sum(count for c in depthwise for count in c.totals.values()) == 36
    blocks = [c for op in ops.TOTAL_OF[ops.BLOCKS] for c in ops.cases(op) if c.totals.get(ops.BLOCKS)]
    assert sum((c.operations or 0) * c.totals[ops.BLOCKS] for c in blocks) == 2 * 1_231_910_400


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(3) + torch.tensor([0, 0, 0.01]),
        torch.ones(4),
        torch.tensor([1, 1, float("nan")]),
        torch.tensor([1, 1, float("inf")]),
        (torch.ones(3), torch.ones(3)),
    ],
)
def test_other_results_are_refused(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Contestant(lambda: torch.ones(3))
    right = Contestant(lambda: np.ones(3) + 1e-4)
    monkeypatch.setattr(ops, "cases", lambda op, **_: [case({OURS: ours, "numpy": right})])
    rows = ops.benchmark(["nms"], rounds=1, seconds=1e-4)["rows"]
    assert rows[1]["max_difference"] == pytest.approx(1e-4)
    monkeypatch.setattr(ops, "cases", lambda op, **_: [case({OURS: ours, "torch": Contestant(lambda: wrong)})])
    with pytest.raises(
        CheckError, match=r"nms a case: the result of 'torch' differs from that of 'leyolo' by .*0\.001"
    ):
        ops.benchmark(["nms"], rounds=1, seconds=1e-4)


def test_decisions_may_differ_in_a_few_places() -> None:
    labels = torch.arange(1000)
    other = labels.clone()
    other[7] = -1
    assert unequal_share([labels], [other]) == 0.001
    assert unequal_share([labels], [labels[:-1]]) == float("inf")
    assert largest_difference([labels], [other]) == 8


def test_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every median times its count; a plainer variant stands in; who is missing somewhere has no sum."""
    times = [{OURS: 1.0, "torch": 2.0, "torch folded": 1.5, "cv2": 9.0}, {OURS: 3.0, "torch": 4.0}]
    runs: Any = Contestant(lambda: torch.ones(1))
    table = [case(dict.fromkeys(t, runs), totals={"all": count}) for t, count in zip(times, (2, 5), strict=True)]
    answers = iter(times)
    monkeypatch.setattr(ops, "cases", lambda op, **_: table)
    monkeypatch.setattr(
        ops, "measure", lambda runs, **_: {name: timing.Quartiles(t, t, t) for name, t in next(answers).items()}
    )
    totals = {t["contestant"]: (t["ms"], t["ratio_to_ours"]) for t in ops.benchmark(["nms"])["totals"]}
    assert totals == {OURS: (17, 1), "torch": (24, 24 / 17), "torch folded": (23, 23 / 17)}


@pytest.mark.usefixtures("first_case")
def test_a_part_is_no_whole() -> None:
    report = ops.benchmark(["forward"], imgsz=32, rounds=1, seconds=1e-4)
    assert report["totals"] == []


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        ({"ops": ["nsm"]}, "no benchmark is called 'nsm'.*Did you mean 'nms'"),
        ({"imgsz": 100}, "multiple of 32, got 100"),
        ({"threads": 999}, "between 1 and 256, got 999"),
        ({"rounds": 0}, "at least 1"),
        ({"size": "x"}, "no model is called 'x'"),
    ],
)
def test_rejects(ask: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ops.benchmark(**ask)


def test_turns_are_interleaved_and_slow_ones_few(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    calls: list[str] = []

    def contestant(name: str, seconds: float) -> Any:
        def run() -> None:
            calls.append(name)
            clock[0] += seconds

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    tick = 1 / 1024  # sums of it are exact
    runs = {"a": contestant("a", 4 * tick), "b": contestant("b", 2 * tick), "slow": contestant("slow", 1.0)}
    found = timing.measure(runs, rounds=5, seconds=10 * tick)
    expected = {"a": 4000 * tick, "b": 2000 * tick, "slow": 1000}
    assert {name: q.median for name, q in found.items()} == pytest.approx(expected)
    per_round = {"a": timing.WARM_UP + 3, "b": timing.WARM_UP + 5}
    assert [calls.count(name) for name in runs] == [5 * per_round["a"] + 1, 5 * per_round["b"] + 1, 3 + 1]
    first_round, second_round = calls[3:16], calls[16:]
    assert [first_round[0], first_round[-1], second_round[0]] == ["a", "slow", "b"]


def report() -> dict[str, Any]:
    def row(op: str, case: str, name: str, rate: float, operations: int | None = 4000) -> dict[str, Any]:
        return {"op": op, "case": case, "name": name, "operations": operations, "bytes": 1000, "gflop_per_s": rate}

    rows = [
        *(row("conv2d", "small", "leyolo", 50), row("conv2d", "small", "leyolo packed", 80)),
        *(row("conv2d", "small", "torch", 20), row("conv2d", "small", "onnxruntime", 40)),
        *(row("box_iou", "alone", "leyolo", 90), row("box_iou", "far below", "leyolo", 60)),
        *(row("box_iou", "far below", "torch", 0.1), row("nms", "uncounted", "leyolo", 1, None)),
    ]
    limits = {"gflop_per_s": 200.0, "read_gb_per_s": {"L1": 400.0, "DRAM": 20.0}}
    surroundings = {"size": "n", "imgsz": 640, "threads": 2, "processor": "a processor", "limits": limits}
    return {"environment": surroundings, "rows": rows}


def test_roofline_shows_the_fastest_of_both_sides() -> None:
    found = roofline.dots(report()["rows"])
    assert [(dot.op, dot.case, dot.intensity, dot.ours, dot.peer) for dot in found] == [
        ("conv2d", "small", 4, 80, 40),
        ("box_iou", "alone", 4, 90, None),
        ("box_iou", "far below", 4, 60, 0.1),
    ]


def test_roofline_picture(tmp_path: Path) -> None:
    data = report()
    roofline.draw(data, tmp_path / "roofline.png")
    picture = np.asarray(Image.open(tmp_path / "roofline.png").convert("RGB"))
    drawn = roofline._Picture(roofline.dots(data["rows"]), data["environment"])
    for rate, color in ((80, roofline.COLORS[0]), (90, roofline.COLORS[1]), (60, roofline.COLORS[1])):
        x, y = (round(v) for v in drawn.at(4, rate))
        assert np.abs(picture[y, x].astype(int) - color).max() < 40
    for intensity, rate in ((3, 200), (4.5, 4.5 * 20)):  # the peak; memory below it
        x, y = (round(v) for v in drawn.at(intensity, rate))
        assert picture[y - 2 : y + 3, x - 1 : x + 2].max(2).min() < 170


def test_roofline_needs_operations(tmp_path: Path) -> None:
    data = report()
    data["rows"] = data["rows"][-1:]
    with pytest.raises(ValueError, match="nothing to draw"):
        roofline.draw(data, tmp_path / "roofline.png")


@pytest.mark.usefixtures("first_case")
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers, picture = tmp_path / "ops.json", tmp_path / "ops.png"
    options = ["--op", "nms", "--op", "max_pool2d,box_iou", "--imgsz", "64", "--rounds", "1", "--threads", "1"]
    assert main(["benchmark", "ops", *options, "--json", str(numbers), "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert "plain C++ loop" in out
    assert "leyolo-n, 64 x 64, 1 thread, float32" in err
    assert {row["op"] for row in json.loads(numbers.read_text())["rows"]} == {"nms", "max_pool2d", "box_iou"}
    assert Image.open(picture).width > 500
    assert main(["benchmark", "ops", "--op", "letterbx"]) == 2
    assert "Did you mean 'letterbox'" in capsys.readouterr().err
    for unwritable in (tmp_path / "no" / "where.png", tmp_path / "where.xyz"):
        assert main(["benchmark", "ops", "--op", "fcos", "--plot", str(unwritable)]) == 2
        assert "operator" not in capsys.readouterr().out  # nothing has been measured
    assert main(["benchmark", "ops", "--op", "fcos", "--imgsz", "64", "--rounds", "1", "--plot", str(picture)]) == 2
    out, err = capsys.readouterr()
    assert "fcos" in out  # what was measured is not lost
    assert "nothing to draw" in err
