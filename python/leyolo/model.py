"""The public class: a LeYOLO model with what one does with it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from leyolo.errors import LeYOLOError, UsageError
from leyolo.predict import backends
from leyolo.predict.arrays import is_tensor
from leyolo.predict.pipeline import Pipeline, Settings, check_count, check_flag, class_ids, image_size
from leyolo.predict.run import collect, run
from leyolo.predict.sources import Options

if TYPE_CHECKING:
    from leyolo.data import Dataset
    from leyolo.eval import Metrics
    from leyolo.predict.results import Results
    from leyolo.train import TrainResult
    from leyolo.weights import Checkpoint


MAX_CLASSES = 65_536


class LeYOLO:
    """A LeYOLO detector: ``LeYOLO("weights.pt")("picture.jpg")``.

    ``model``: a weights file (the official ``.pt`` or our ``.safetensors``), a model name (``leyolo models``), or None
    for the weights inside the package. ``device``: ``"cpu"`` (default; our own kernels, torch is not imported) or
    ``"cuda[:N]"`` (ours too, through torch). ``dtype``: ``"float32"``, ``"bfloat16"`` (``"bf16"``) or, on cuda alone,
    ``"float16"`` (its default) and ``"tf32"`` (float32 whose dense convolutions multiply in TF32); a CPU without a dot
    product for bfloat16 (AVX512-BF16) runs in float32, with a warning; where it is present, bfloat16 is about 1.8 times
    as fast, and mAP on 100 photographs moves by at most 0.003.
    ``cuda_graph``: everything from pixels to boxes is recorded once for every batch size, image size and set of
    settings, and then replayed as a whole; the first picture of a kind takes longer, and memory stays taken.
    ``num_classes`` or ``head`` other than those of the weights give the model a new, untrained head.

    Predicting changes nothing that a second thread could notice, so threads may share one.
    """

    def __init__(
        self,
        model: str | Path | None = "leyolo-n",
        *,
        device: str | None = None,
        dtype: str | None = None,
        num_classes: int | None = None,
        head: Literal["leyolo", "yolox"] | None = None,
        cuda_graph: bool = False,
    ) -> None:
        if model is not None and not isinstance(model, (str, os.PathLike)):
            raise UsageError(f"model must be a weights file or a model name, got {model!r}")
        if num_classes is not None:
            check_count("num_classes", num_classes, MAX_CLASSES)
        if head not in (None, "leyolo", "yolox"):
            raise UsageError(f"head must be 'leyolo' or 'yolox', got {head!r}")
        self.device = backends.check_device(device)
        self.dtype = backends.check_dtype(dtype, self.device)
        check_flag("cuda_graph", cuda_graph)
        if cuda_graph and self.device == "cpu":
            raise UsageError("cuda_graph needs device='cuda', got device='cpu'")
        self.cuda_graph = bool(cuda_graph)
        self.checkpoint: Checkpoint = backends.load_weights(model)
        wanted = (int(num_classes or self.checkpoint.num_classes), head or self.checkpoint.head)
        if wanted != (self.checkpoint.num_classes, self.checkpoint.head):
            self.checkpoint = backends.with_new_head(self.checkpoint, *wanted)
        self._lock = threading.Lock()
        self._pipeline: Pipeline | None = None
        self._network: Any = None
        self._fused = False

    def __repr__(self) -> str:
        c = self.checkpoint
        return f"LeYOLO(leyolo-{c.size}, {c.num_classes} classes, head={c.head!r}, device={self.device!r})"

    @property
    def names(self) -> dict[int, str]:
        """Class names by class id."""
        return dict(self.checkpoint.names)

    @property
    def pipeline(self) -> Pipeline:
        """What prediction runs on; made at the first use, whichever thread comes first."""
        with self._lock:
            if self._pipeline is None:
                engine = backends.engine(self.checkpoint, self.device, self.dtype, cuda_graph=self.cuda_graph)
                self._pipeline = Pipeline(
                    engine,
                    num_classes=self.checkpoint.num_classes,
                    strides=self.checkpoint.strides,
                    head=self.checkpoint.head,
                )
            return self._pipeline

    def settings(
        self,
        *,
        imgsz: int | Iterable[int] = 640,
        classes: Iterable[int | str] | int | str | None = None,
        **rest: Any,
    ) -> Settings:
        """Checked settings for this model: sizes against its stride, class names against its names."""
        return Settings(
            imgsz=image_size(imgsz, max(self.checkpoint.strides)), classes=class_ids(classes, self.names), **rest
        )

    @overload
    def predict(
        self,
        source: Any,
        *,
        imgsz: int | Iterable[int] = ...,
        conf: float = ...,
        iou: float = ...,
        max_det: int = ...,
        classes: Iterable[int | str] | int | str | None = ...,
        agnostic_nms: bool = ...,
        multi_label: bool = ...,
        rect: bool = ...,
        batch: int = ...,
        fast_decode: bool = ...,
        stream: Literal[False] = ...,
        on_error: Literal["raise", "warn"] = ...,
        recursive: bool = ...,
        vid_stride: int = ...,
        bgr: bool = ...,
    ) -> list[Results]: ...

    @overload
    def predict(
        self,
        source: Any,
        *,
        imgsz: int | Iterable[int] = ...,
        conf: float = ...,
        iou: float = ...,
        max_det: int = ...,
        classes: Iterable[int | str] | int | str | None = ...,
        agnostic_nms: bool = ...,
        multi_label: bool = ...,
        rect: bool = ...,
        batch: int = ...,
        fast_decode: bool = ...,
        stream: Literal[True],
        on_error: Literal["raise", "warn"] = ...,
        recursive: bool = ...,
        vid_stride: int = ...,
        bgr: bool = ...,
    ) -> Iterator[Results]: ...

    def predict(
        self,
        source: Any,
        *,
        imgsz: int | Iterable[int] = 640,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: Iterable[int | str] | int | str | None = None,
        agnostic_nms: bool = False,
        multi_label: bool = False,
        rect: bool = False,
        batch: int = 1,
        fast_decode: bool = False,
        stream: bool = False,
        on_error: Literal["raise", "warn"] = "raise",
        recursive: bool = False,
        vid_stride: int = 1,
        bgr: bool = False,
    ) -> list[Results] | Iterator[Results]:
        """Detects objects.

        Args:
            source: path (image, video, directory, glob, ``.txt``/``.csv`` list), URL, camera number, RTSP address,
                ``"-"`` (standard input), numpy array (RGB ``uint8 [H, W, 3]``, grey ``[H, W]``, batch
                ``[B, H, W, 3]``, or float 0..1), PIL image, torch tensor (``uint8`` or float 0..1, ``[3, H, W]`` or
                ``[B, 3, H, W]``), ``bytes`` of an image file, or an iterable of any of these. Files are turned upright
                by their EXIF orientation. A PIL image is taken as it lies, so that boxes are coordinates of the object
                that was given.
            imgsz: side of the network input, or (height, width), in multiples of 32.
            conf: keeps boxes of a higher confidence. iou: a box suppresses worse ones that overlap it by more.
            max_det: boxes a picture at most. classes: only these, by id or name.
            agnostic_nms: boxes suppress boxes of other classes too. multi_label: a box may carry several classes.
            rect: pads to a multiple of 32 instead of to a square. batch: pictures that run together.
            fast_decode: decodes JPEGs of at least twice the size of the input to a half, a quarter or an eighth of
                their sides. Other pixels, so other boxes: on 100 photographs mAP came out 0 to 0.016 higher, that of
                small objects up to 0.05 lower. A plot decodes the whole picture once more.
            stream: gives results one by one as they are ready, for videos and long lists.
            on_error: ``"raise"`` at the first picture that cannot be read, or ``"warn"`` and leave it out.
            recursive: looks into folders below a directory. vid_stride: every n-th frame.
            bgr: numpy arrays are in OpenCV's channel order.

        Returns:
            Results in the order of the source: a list, or an iterator if ``stream``.

        Raises:
            UsageError: an argument is wrong. InputError: a picture cannot be read.
        """
        settings = self.settings(
            imgsz=imgsz,
            conf=conf,
            iou=iou,
            max_det=max_det,
            classes=classes,
            agnostic_nms=agnostic_nms,
            multi_label=multi_label,
            rect=rect,
            batch=batch,
            fast_decode=fast_decode,
        )
        check_flag("stream", stream)
        if on_error not in ("raise", "warn"):
            raise UsageError(f"on_error must be 'raise' or 'warn', got {on_error!r}")
        options = Options(recursive=recursive, vid_stride=vid_stride, bgr=bgr)
        results = run(self.pipeline, self.names, source, settings, options, _raise if on_error == "raise" else _warn)
        return results if stream else collect(results)

    __call__ = predict

    @property
    def network(self) -> Any:
        """The torch network with these weights, in eval mode, made when asked:
        ``leyolo.models.network.LeYOLONet``, after :meth:`fuse` the fused one."""
        with self._lock:
            if self._network is None:
                self._network = backends.network(self.checkpoint, self.device, self.dtype, fused=self._fused)
            return self._network

    def logits(self, x: Any) -> Any:
        """Raw head outputs ``[B, A, 4R + C]`` of ``x [B, 3, H, W]`` in 0..1, H and W multiples of 32: numpy in, numpy
        out through our kernels (BN folded); torch in, torch out through :attr:`network`, with gradients
        where ``x`` asks for them or the network is in training mode."""
        if is_tensor(x):
            import torch

            network = self.network
            with torch.set_grad_enabled(torch.is_grad_enabled() and (network.training or x.requires_grad)):
                return network(x)
        x = np.asarray(x, np.float32)
        if x.ndim != 4 or x.shape[1] != 3:
            raise UsageError(f"logits: expected [B, 3, H, W] in 0..1, got shape {x.shape}")
        return self.pipeline.engine(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))

    def fuse(self) -> LeYOLO:
        """Folds BN into the convolutions of the torch network and switches it to the fused operators. (Prediction on
        numpy always runs so.)"""
        with self._lock:
            if not self._fused:
                self._fused, self._network = True, None
        return self

    def save(self, path: str | Path) -> None:
        """Writes the weights as safetensors with names, size and head."""
        from leyolo import weights

        weights.save(path, self.checkpoint)

    def info(self, imgsz: int = 640) -> dict[str, Any]:
        """Size, classes, head, parameters, multiply-accumulates at ``imgsz`` x ``imgsz``, and the layers."""
        from leyolo.cli.report import describe

        return describe(self.checkpoint, imgsz)

    def val(
        self,
        data: str | Path | Dataset,
        *,
        split: str = "val",
        images: str | Path | None = None,
        imgsz: int | Iterable[int] = 640,
        conf: float = 0.001,
        iou: float = 0.7,
        max_det: int = 300,
        batch: int = 1,
        rect: bool = False,
        save_json: str | Path | None = None,
        plots: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Metrics:
        """COCO's and Pascal VOC's metrics on annotated pictures, several classes a box (``leyolo.eval.validate``).

        Args:
            data: COCO json, VOC folder, YOLO folder or list, a yaml that names any of them, or what
                ``leyolo.data.read`` made of one. split: which part. images: folder of the pictures, where it is not
                the usual one.
            imgsz, conf, iou, max_det, batch: as for :meth:`predict`, with the values that COCO is scored with.
            rect: pads to a multiple of 32 instead of to a square: quicker, and other scores.
            save_json: file for all detections in COCO's form, with the ids of the data. plots: folder for pictures of
                the curves and of what is taken for what.
            progress: called with (done, total) after every picture.
        """
        from leyolo.eval.model import evaluate

        settings = self.settings(
            imgsz=imgsz, conf=conf, iou=iou, max_det=max_det, batch=batch, rect=rect, multi_label=True
        )
        return evaluate(
            self.pipeline,
            self.names,
            data,
            settings,
            split=split,
            images=images,
            save_json=save_json,
            plots=plots,
            progress=progress,
        )

    def train(
        self,
        data: str | Path,
        *,
        epochs: int = 100,
        imgsz: int = 640,
        batch: int = 16,
        assigner: str | None = None,
        head: Literal["leyolo", "yolox"] | None = None,
        pretrained: bool = True,
        quiet: bool = False,
        **options: Any,
    ) -> TrainResult:
        """Trains on annotated pictures, and takes over the best weights. Needs torch.

        Args:
            data: what :meth:`val` takes; its lists are "train" and "val".
            epochs, imgsz, batch: passes over the training list, side of the input, pictures a step (and process).
            assigner: "tal" (default), "simota" or "ota"; the yolox head has the latter two. head: None keeps the one
                of the weights.
            pretrained: False starts from fresh weights of the same size.
            quiet: says nothing.
            options: any other of ``leyolo.train.Settings`` (lr, mosaic, amp, patience, project, name, …).

        Returns:
            Folder, weights files and the rows of results.csv.

        Raises:
            UsageError: an argument is wrong. InputError: the data cannot be used. DivergedError: the run did.
        """
        backends.need_torch("training")
        from leyolo import train, weights
        from leyolo.train.settings import make

        settings = make(
            {"data": str(data), "epochs": epochs, "imgsz": imgsz, "batch": batch, "assigner": assigner}
            | {"head": head or self.checkpoint.head, "device": self.device}
            | options
        )
        start = self.checkpoint if pretrained else self.checkpoint.size
        result = train.train(settings, start, quiet=quiet)
        with self._lock:
            self.checkpoint = weights.load(result.best)
            self._pipeline = self._network = None
        return result

    def benchmark(self, **options: Any) -> Any:
        """Latency of this model on this machine (``leyolo.bench.model``)."""
        from leyolo.bench.model import benchmark

        return benchmark(self, **options)


def _raise(path: str, error: LeYOLOError) -> None:
    raise type(error)(f"{path}: {error}") from None


def _warn(path: str, error: LeYOLOError) -> None:
    import warnings

    warnings.warn(f"{path}: {error}", stacklevel=2)
