"""What a prediction gives back: the shape that users of ultralytics' Results know, on numpy arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo.errors import InputError, MissingDependencyError
from leyolo.predict import coco
from leyolo.predict.images import Pixels, decode_image, read_image


class Array(np.ndarray[Any, np.dtype[Any]]):
    """An ndarray that also answers the few tensor methods that code written for torch results calls."""

    device = "cpu"

    def cpu(self) -> Array:
        return self

    def cuda(self, *_: Any, **__: Any) -> Array:
        return self

    def to(self, *_: Any, **__: Any) -> Array:
        return self

    def detach(self) -> Array:
        return self

    def clone(self) -> Array:
        return self.copy()

    def numpy(self) -> NDArray[Any]:
        return np.asarray(self)

    def int(self) -> Array:
        return array(self.astype(np.int32))

    def long(self) -> Array:
        return array(self.astype(np.int64))

    def float(self) -> Array:
        return array(self.astype(np.float32))


def array(values: NDArray[Any]) -> Array:
    """``values`` seen as an :class:`Array`; nothing is copied."""
    return values.view(Array)


class Boxes:
    """Boxes of one picture. ``data``: float32 ``[N, 6]`` rows ``x1 y1 x2 y2 confidence class``, best first."""

    is_track = False
    id = None

    def __init__(self, data: NDArray[np.float32], orig_shape: tuple[int, int]) -> None:
        self.data = array(np.asarray(data, np.float32).reshape(-1, 6))
        self.orig_shape = orig_shape

    @property
    def xyxy(self) -> Array:
        """``[N, 4]`` corners in picture pixels."""
        return array(self.data[:, :4])

    @property
    def xywh(self) -> Array:
        """``[N, 4]`` centre x, centre y, width, height in picture pixels."""
        low, high = self.data[:, :2], self.data[:, 2:4]
        return array(np.concatenate([(low + high) / 2, high - low], axis=1))

    @property
    def xyxyn(self) -> Array:
        """``xyxy`` divided by the picture's width and height."""
        return array(self.xyxy / self._extent())

    @property
    def xywhn(self) -> Array:
        """``xywh`` divided by the picture's width and height."""
        return array(self.xywh / self._extent())

    @property
    def conf(self) -> Array:
        return array(self.data[:, 4])

    @property
    def cls(self) -> Array:
        """Class ids, float32 as in ``data``."""
        return array(self.data[:, 5])

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.data), 6

    def _extent(self) -> NDArray[np.float32]:
        height, width = self.orig_shape
        return np.array([width, height, width, height], np.float32)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Boxes:
        return Boxes(self.data[index], self.orig_shape)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Boxes({len(self)} boxes, orig_shape={self.orig_shape})\n{np.asarray(self.data)}"

    def cpu(self) -> Boxes:
        return self

    def cuda(self, *_: Any, **__: Any) -> Boxes:
        return self

    def to(self, *_: Any, **__: Any) -> Boxes:
        return self

    def numpy(self) -> Boxes:
        return self


class Results:
    """Detections of one picture.

    ``orig_img`` is RGB (ultralytics: BGR). Of a long list of predictions made without ``stream=True`` the pictures
    themselves are not all kept; ``orig_img`` then reads the file again, and raises InputError for what was no image
    file: a video frame, an array, a PIL image (which may lie otherwise than its file). Of a picture that was decoded
    to fewer pixels (``fast_decode``), ``orig_img`` decodes the whole, at every use.
    """

    masks = None
    obb = None
    probs = None
    keypoints = None

    def __init__(
        self,
        orig_img: Pixels | None,
        path: str,
        names: Mapping[int, str],
        boxes: NDArray[np.float32],
        *,
        speed: Mapping[str, float] | None = None,
        frame: int | None = None,
        from_file: bool = False,
        shape: tuple[int, int] | None = None,
        encoded: bytes | None = None,
    ) -> None:
        """``shape`` (height, width) is asked for where ``orig_img`` is None; the picture then is what ``encoded``
        holds, or the file."""
        if shape is None:
            assert orig_img is not None, "either the picture or its shape"
            shape = int(orig_img.shape[0]), int(orig_img.shape[1])
        self.orig_shape = shape
        self.path = path
        self.names = dict(names)
        self.boxes = Boxes(boxes, self.orig_shape)
        self.speed = dict(speed or {})
        self.frame = frame
        self._from_file = from_file
        self._image, self._encoded = orig_img, encoded

    @property
    def orig_img(self) -> Pixels:
        """The picture, ``uint8 [H, W, 3]`` RGB."""
        if self._image is not None:
            return self._image
        if self._encoded is not None:
            return decode_image(self._encoded)
        path = os.path.expanduser(self.path)
        if not self._from_file or not os.path.isfile(path):
            raise InputError(f"{self.path}: the picture was not kept; predict with stream=True and use it in the loop")
        return read_image(path)

    @property
    def kept_bytes(self) -> int:
        """Of the pixels that are held."""
        return 0 if self._image is None else self._image.nbytes

    def drop_image(self) -> None:
        """Lets go of the pixels."""
        self._image = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Results:
        return self._with(self.boxes.data[index].reshape(-1, 6))

    def __iter__(self) -> Iterator[Results]:
        return (self[i] for i in range(len(self)))

    def _with(self, rows: NDArray[np.float32]) -> Results:
        other = object.__new__(Results)
        other.__dict__.update(self.__dict__)
        other.boxes = Boxes(rows, self.orig_shape)
        return other

    def __repr__(self) -> str:
        return f"Results({self.path!r}, {self.orig_shape[1]}x{self.orig_shape[0]}: {self.verbose()})"

    def verbose(self) -> str:
        """``"4 persons, 1 bus"``, most frequent first, or ``"no detections"``."""
        ids, counts = np.unique(self.boxes.cls.astype(int), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        parts = [counted(int(counts[k]), self.names[int(ids[k])]) for k in order]
        return ", ".join(parts) or "no detections"

    def cpu(self) -> Results:
        return self

    def cuda(self, *_: Any, **__: Any) -> Results:
        return self

    def to(self, *_: Any, **__: Any) -> Results:
        return self

    def numpy(self) -> Results:
        return self

    def plot(
        self, *, line_width: int | None = None, font_size: float | None = None, labels: bool = True, conf: bool = True
    ) -> Pixels:
        """The picture with its boxes, a new ``uint8 [H, W, 3]`` RGB array; line and text scale with the picture."""
        from leyolo.predict.draw import annotate

        return annotate(self, line_width=line_width, font_size=font_size, labels=labels, conf=conf)

    def save(self, filename: str | Path | None = None, **plot: Any) -> str:
        """Writes the annotated picture and returns its path; default ``<name>_leyolo.jpg`` in the working directory."""
        from leyolo.predict.writers import write_picture

        path = Path(filename) if filename is not None else Path(f"{self._name()}_leyolo.jpg")
        write_picture(path, self.plot(**plot))
        return str(path)

    def _name(self) -> str:
        stem = Path(self.path).stem
        return stem if self.frame is None else f"{stem}_{self.frame}"

    def show(self, **plot: Any) -> None:
        """Opens the annotated picture in the system's viewer."""
        from leyolo.predict.draw import show

        show(self.plot(**plot), Path(self.path).name)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Writes YOLO rows ``class cx cy w h [confidence]``, normalised; no detections give an empty file."""
        from leyolo.predict.writers import write_text

        rows = [
            " ".join([str(int(c)), *(f"{v:g}" for v in box), *([f"{p:g}"] if save_conf else [])])
            for c, box, p in zip(self.boxes.cls, self.boxes.xywhn.tolist(), self.boxes.conf.tolist(), strict=True)
        ]
        write_text(Path(txt_file), "".join(f"{row}\n" for row in rows))
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path | None = None) -> list[str]:
        """Writes every box as ``save_dir/<class>/<file name>-<n>.jpg`` and returns the paths. All stay inside
        ``save_dir``: separators in the names become ``_``."""
        from leyolo.predict.writers import safe_name, write_picture

        stem = safe_name(str(file_name if file_name is not None else self._name()))
        image, paths = self.orig_img, []
        for number, (x1, y1, x2, y2, _, cls) in enumerate(self.boxes.data.tolist()):
            left, top = int(x1), int(y1)
            crop = image[top : max(top + 1, int(np.ceil(y2))), left : max(left + 1, int(np.ceil(x2)))]
            if crop.size:
                path = Path(save_dir) / safe_name(self.names[int(cls)]) / f"{stem}-{number}.jpg"
                write_picture(path, np.ascontiguousarray(crop))
                paths.append(str(path))
        return paths

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """One dict a box: name, class, confidence, box {x1, y1, x2, y2}."""
        corners = (self.boxes.xyxyn if normalize else self.boxes.xyxy).tolist()
        return [
            {
                "name": self.names[int(cls)],
                "class": int(cls),
                "confidence": round(conf, decimals),
                "box": {key: round(v, decimals) for key, v in zip(("x1", "y1", "x2", "y2"), box, strict=True)},
            }
            for box, conf, cls in zip(corners, self.boxes.conf.tolist(), self.boxes.cls.tolist(), strict=True)
        ]

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """``summary()`` as JSON text."""
        return json.dumps(self.summary(normalize, decimals), ensure_ascii=False)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """CSV text with a header: name, class, confidence, x1, y1, x2, y2."""
        from leyolo.predict.writers import csv_text

        rows = [[r["name"], r["class"], r["confidence"], *r["box"].values()] for r in self.summary(normalize, decimals)]
        return csv_text([["name", "class", "confidence", "x1", "y1", "x2", "y2"], *rows])

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """A pandas DataFrame with the columns of ``to_csv`` (pandas is asked for only here)."""
        import io

        try:
            import pandas
        except Exception as error:
            raise MissingDependencyError(f"to_df needs pandas, which is not usable here ({error})") from None
        return pandas.read_csv(io.StringIO(self.to_csv(normalize, decimals)))

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """COCO result rows: image_id (default: by file name and frame), category_id, bbox x, y, w, h, score."""
        image = image_id
        if image is None:
            image = coco.image_id(self.path) if self.frame is None else self._name()
        category = coco.categories(self.names)
        corners = self.boxes.xyxy.astype(np.float64).tolist()
        return [
            {
                "image_id": image,
                "category_id": category[int(cls)],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(conf, 5),
            }
            for (x1, y1, x2, y2), conf, cls in zip(
                corners, self.boxes.conf.tolist(), self.boxes.cls.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """A ``supervision.Detections``."""
        try:
            import supervision
        except Exception as error:
            raise MissingDependencyError(
                f"to_supervision needs supervision, which is not usable here ({error}). pip install supervision"
            ) from None
        return supervision.Detections.from_ultralytics(self)

    def to_torchvision(self) -> dict[str, Any]:
        """``{"boxes": float32 [N, 4], "labels": int64 [N], "scores": float32 [N]}`` as torch tensors."""
        try:
            import torch
        except Exception as error:
            raise MissingDependencyError(f"to_torchvision needs torch, which is not usable here ({error})") from None
        data = torch.from_numpy(np.array(self.boxes.data))
        return {"boxes": data[:, :4], "labels": data[:, 5].long(), "scores": data[:, 4]}


def counted(number: int, word: str) -> str:
    """``"1 bus"``, ``"2 buses"``."""
    ending = "" if number == 1 else "es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return f"{number} {word}{ending}"
