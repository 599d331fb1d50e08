"""What the training recipe reaches on a dataset, over assigners and seeds.

Trains on its train list, picks the best epoch on its val list, measures on its test list:

    python benchmarks/train_accuracy.py DATA --start LeYOLONano.pt --epochs 10 30 --out accuracy.jsonl

--start takes a weights file, or a size (leyolo-n) to train from scratch. A run that has ended is a line of json in
--out; one that is there already is left out. At the end: means and sample standard deviations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from leyolo import LeYOLO
from leyolo.predict.backends import load_weights
from leyolo.train import Settings, train

KEYS = ("data", "start", "assigner", "epochs", "imgsz", "padding", "seed")


def measured(key: dict[str, Any], data: str) -> dict[str, Any]:
    """A run of ``data``, whose name alone is in the key."""
    start = key["start"]
    rect = key["padding"] == "rect"
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data=data, epochs=key["epochs"], imgsz=key["imgsz"], assigner=key["assigner"], seed=key["seed"],
            rect=rect, plots=False, project=folder, name="run",
        )  # fmt: skip
        result = train(settings, load_weights(start) if Path(start).is_file() else start, quiet=True)
        metrics = LeYOLO(result.best).val(data, split="test", imgsz=key["imgsz"], rect=rect).to_dict()
    return {
        **key,
        **{name: round(metrics[name], 4) for name in ("map50", "map75", "map")},
        "map50_per_class": {name: round(value, 4) for name, value in metrics["per_class50"].items()},
        "best_epoch": result.best_epoch,
        "train_seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "images_per_s": round(statistics.median(row["images_per_s"] for row in result.rows), 1),
        "threads": torch.get_num_threads(),
    }


def summary(rows: list[dict[str, Any]]) -> str:
    def spread(values: list[float]) -> str:
        deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.3f}{deviation}"

    table = [[*KEYS[:-1], "seeds", "mAP50", "mAP75", "mAP50-95", "AP50 by class", "s a run", "img/s"]]
    table.append(["---"] * len(table[0]))
    for kind in dict.fromkeys(tuple(row[name] for name in KEYS[:-1]) for row in rows):
        runs = [row for row in rows if tuple(row[name] for name in KEYS[:-1]) == kind]
        classes = (
            f"{name} {spread([row['map50_per_class'][name] for row in runs])}" for name in runs[0]["map50_per_class"]
        )
        scores = (spread([row[name] for row in runs]) for name in ("map50", "map75", "map"))
        speed = (f"{statistics.mean(row[name] for row in runs):.0f}" for name in ("train_seconds", "images_per_s"))
        table.append([*map(str, kind), str(len(runs)), *scores, ", ".join(classes), *speed])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--start", required=True)
    parser.add_argument("--epochs", type=int, nargs="+", default=[30])
    parser.add_argument("--assigners", nargs="+", default=["tal", "simota", "ota"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--padding", choices=["rect", "square"], default="rect")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {tuple(row[name] for name in KEYS) for row in rows}
    for seed, epochs, assigner in itertools.product(given.seeds, given.epochs, given.assigners):
        key = (Path(given.data).name, given.start, assigner, epochs, given.imgsz, given.padding, seed)
        if key not in done:
            rows.append(measured(dict(zip(KEYS, key, strict=True)), given.data))
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    print(summary(rows))


if __name__ == "__main__":
    main()
