"""From a model's configuration and folded weights to a program of fused steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leyolo._C as C
from leyolo.models.config import IMAGE, ModelConfig
from leyolo.runtime.chains import Streaming, chains
from leyolo.runtime.cuda import Gpu, blocks
from leyolo.runtime.dtype import Dtype
from leyolo.runtime.fold import Weights
from leyolo.runtime.pack import Packed, pack
from leyolo.runtime.program import DEPTHWISE, INPUT, OUTPUT, SILU, Buffer, Builder, Program, Slot, Step
from leyolo.runtime.upsample import split_weights, splits


class Network:
    """One model, folded and packed for this machine: builds the program of any input size, once.

    Args:
        config: the size.
        head: "leyolo" or "yolox".
        num_classes: C of the logits.
        folded: from :func:`leyolo.runtime.fold.fold`.
        dtype: of weights and maps; see :class:`leyolo.runtime.Engine`.
        share: of the second-level cache that maps and windows may take (:class:`leyolo.runtime.chains.Streaming`).
        gpu: for the kernels of this GPU; None: for those of this machine's CPU.
    """

    def __init__(
        self,
        config: ModelConfig,
        head: str,
        num_classes: int,
        folded: Weights,
        *,
        dtype: Dtype = "float32",
        share: float = Streaming.share,
        gpu: Gpu | None = None,
    ) -> None:
        self.config, self.head, self.num_classes, self.share = config, head, num_classes, share
        self.dtype, self.gpu = dtype, gpu
        self.bf16 = dtype == "bfloat16" and gpu is None
        self.weights: list[Packed] = []
        self.box_layers: list[NDArray[np.float32]] = []
        """The last layer of the box branch of every level, packed for ``detect_decode_features``, which is float32 in
        every dtype; leyolo head only."""
        # With a bfloat16 map between the two parts of a split sum voc100's mAP at 480 fell by 0.003; on a GPU the whole
        # bottleneck is one kernel.
        self.splits = {} if gpu else splits(config, expansions=not self.bf16)
        self._folded = split_weights(config, self.splits, folded)
        self._layers: dict[tuple[str, ...], tuple[int, int]] = {}
        self._programs: dict[tuple[int, int, int, bool, bool], Program] = {}
        smallest = max(config.strides)
        self.program(smallest, smallest)  # packs every weight: later programs only look them up
        if head == "leyolo" and gpu is None:
            self.program(smallest, smallest, features=True)
            self.box_layers = [C.conv2d_pack(*folded[f"head.box.{level}.3"]) for level in range(len(config.strides))]
        self._folded = {}

    @property
    def outputs(self) -> int:
        """Channels of the logits."""
        return self.config.outputs(self.num_classes, self.head)

    def program(
        self, height: int, width: int, *, threads: int = 1, from_bytes: bool = False, features: bool = False
    ) -> Program:
        """Steps for images of ``height`` x ``width``, multiples of the largest stride; ValueError otherwise.

        Their result is the logits [A, K]; with ``features`` (leyolo head only), what the last box layers read
        [A, box_width], and behind it the class logits [A, C].

        threads: that will share an image. from_bytes: the image is uint8 0..255 instead of float32 0..1 (on a GPU the
        program is the same for both).
        """
        if self.gpu is not None:
            threads, from_bytes = 1, False
        key = height, width, threads, from_bytes, features
        if key not in self._programs:
            multiple = max(self.config.strides)
            if height <= 0 or width <= 0 or height % multiple or width % multiple:
                raise ValueError(f"height and width must be positive multiples of {multiple}, got {height} x {width}")
            streaming = Streaming(threads, C.cpu_features()["l2_bytes"], self.share, 2 if self.bf16 else 4)
            lowering = _Lowering(self, height, width, from_bytes, features)
            self._programs[key] = lowering.program(streaming)
            self._pack(lowering.builder.steps)
        return self._programs[key]

    def dense(self, *names: str) -> tuple[int, int]:
        """Index of the packed weights of a dense convolution and its output channels; of several names, which read the
        same input, the outputs follow one another."""
        if names not in self._layers:
            self._layers[names] = len(self._layers), sum(len(self._folded[name][1]) for name in names)
        return self._layers[names]

    def depthwise(self, *names: str) -> int:
        """The same for depthwise convolutions side by side."""
        return self.dense(*names)[0]

    def _pack(self, steps: Sequence[Step]) -> None:
        """Packs the layers that have not been met before, for the steps that they are used in."""
        names = {index: names for names, (index, _) in self._layers.items()}
        for step in sorted(steps, key=lambda s: s.weight):
            if step.weight < len(self.weights):
                continue
            if step.kind == DEPTHWISE and step.addend:
                parts: list[Any] = [
                    pack(step, *self._folded[name], self.dtype, self.gpu) for name in names[step.weight]
                ]
                self.weights.append(np.concatenate(parts))
                continue
            weight, bias = (np.concatenate([self._folded[n][i] for n in names[step.weight]]) for i in (0, 1))
            self.weights.append(pack(step, weight, bias, self.dtype, self.gpu))


class _Lowering:
    def __init__(self, network: Network, height: int, width: int, from_bytes: bool, features: bool) -> None:
        self.network, self.config = network, network.config
        self.size = height, width
        self.features = features
        self.builder = Builder(tf32=network.dtype == "tf32")
        image = Slot.whole(Buffer(height, width, 3, space=INPUT))
        if network.bf16:
            image = self.builder.unit(image, 4)
        elif from_bytes:
            image = self.builder.unit(image)
        self.slots: dict[int, Slot] = {IMAGE: image}
        # A concatenation is a buffer that its producers write into: layer -> (concatenation, first channel).
        self.places: dict[int, tuple[int, int]] = {}
        self.concats: dict[int, Buffer] = {}
        self.splits = network.splits
        self.lowered = sorted(self.config.used - self.splits.keys() - {s.upsampling for s in self.splits.values()})
        for index in self.lowered:
            layer = self.config.layers[index]
            if layer.kind != "concat":
                continue
            start = 0
            for source in layer.inputs:
                assert source not in self.places, "a layer in two concatenations would have to be copied"
                self.places[source] = index, start
                start += self.config.layers[source].out_channels

    def program(self, streaming: Streaming) -> Program:
        for index in self.lowered:
            self.slots[index] = self._layer(index)
        anchors = self.config.anchors(*self.size)
        shape: tuple[int, ...]
        if self.features:
            outputs = self.config.box_width, self.network.num_classes
            self._each_level(self._leyolo_level_features, outputs)
            shape = (anchors * sum(outputs),)
        else:
            lower = self._yolox_level if self.network.head == "yolox" else self._leyolo_level
            self._each_level(lower, (self.network.outputs,))
            shape = anchors, self.network.outputs
        steps, gpu = self.builder.steps, self.network.gpu
        if gpu is not None:
            return self.builder.finish(shape, blocks=blocks(steps, gpu, self.network.dtype))
        return self.builder.finish(shape, chains(steps, streaming))

    def _into(self, index: int) -> Slot | None:
        """Where layer ``index`` has to write, if that is decided by a concatenation."""
        if index not in self.places:
            return None
        concat, start = self.places[index]
        layer = self.config.layers[concat]
        if concat not in self.concats:
            height, width = (size // layer.reduction for size in self.size)
            self.concats[concat] = self.builder.buffer(height, width, layer.out_channels)
        return Slot(self.concats[concat], start, self.config.layers[index].out_channels)

    def _layer(self, index: int) -> Slot:
        layer, builder, network = self.config.layers[index], self.builder, self.network
        name, into = f"layers.{index}", self._into(index)
        if layer.kind == "concat":
            return Slot.whole(self.concats[index])
        if layer.kind == "bottleneck":
            return self._bottleneck(index)
        x = self.slots[layer.inputs[0]]
        short = f"L{index}"
        if layer.kind == "conv":
            return builder.conv2d(
                *(x, *network.dense(name)),
                kernel=layer.kernel,
                stride=layer.stride,
                activation=SILU,
                into=into,
                name=short,
            )
        if layer.kind == "sppf":
            c = layer.expand
            pools = builder.buffer(x.buffer.height, x.buffer.width, 4 * c)
            weight, first = network.dense(f"{name}.reduce"), Slot(pools, 0, c)
            y = builder.conv2d(x, *weight, activation=SILU, into=first, name=f"{short}.reduce")
            for i in (1, 2, 3):
                y = builder.max_pool(y, Slot(pools, i * c, c), kernel=layer.kernel, name=f"{short}.pool{i}")
            weight = network.dense(f"{name}.merge")
            return builder.conv2d(Slot.whole(pools), *weight, activation=SILU, into=into, name=f"{short}.merge")
        return builder.upsample2x(x, into, name=short)

    def _bottleneck(self, index: int) -> Slot:
        layer, builder, network = self.config.layers[index], self.builder, self.network
        name, short, source = f"layers.{index}", f"L{index}", layer.inputs[0]
        split = self.splits.get(source)
        if split and layer.has_expansion:
            low = builder.conv2d(
                self.slots[split.low], *network.dense(f"{name}.expand.low"), name=f"{short}.expand.low"
            )
            weight = network.dense(f"{name}.expand.other")
            y = builder.conv2d(
                self.slots[split.other], *weight, activation=SILU, addend=low, name=f"{short}.expand.other"
            )
        elif layer.has_expansion:
            weight = network.dense(f"{name}.expand")
            y = builder.conv2d(self.slots[source], *weight, activation=SILU, name=f"{short}.expand")
        else:
            y = self.slots[split.other if split else source]
        parts = split is not None and not layer.has_expansion
        names = [f"{name}.depthwise{part}" for part in ((".low", ".other") if parts else ("",))]
        y = builder.depthwise(
            *(y, network.depthwise(*names)),
            kernel=layer.kernel,
            stride=layer.stride,
            low=self.slots[split.low] if split and parts else None,
            name=f"{short}.depthwise",
        )
        residual = self.slots[source] if layer.residual else None
        weight = network.dense(f"{name}.project")
        return builder.conv2d(y, *weight, residual=residual, into=self._into(index), name=f"{short}.project")

    def _each_level(self, lower: Any, outputs: tuple[int, ...]) -> None:
        """Calls ``lower(level, feature map, *this level's rows of each output)``; outputs of that many channels lie one
        behind the other."""
        first, anchors = 0, self.config.anchors(*self.size)
        for level, (index, stride) in enumerate(zip(self.config.head_inputs, self.config.strides, strict=True)):
            height, width = (size // stride for size in self.size)
            rows, start = [], 0
            for channels in outputs:
                rows.append(Buffer(height, width, channels, space=OUTPUT, offset=start + first * channels))
                start += anchors * channels
            lower(level, self.slots[index], *rows)
            first += height * width

    def _pyramid(self, level: int) -> str:
        """The usual name of a level, by its stride: P3 is an eighth of the image."""
        return f"P{self.config.strides[level].bit_length() - 1}"

    def _leyolo_level(self, level: int, x: Slot, logits: Buffer) -> None:
        network, builder = self.network, self.builder
        box, cls, short = f"head.box.{level}", f"head.cls.{level}", self._pyramid(level)
        y = self._leyolo_branches(level, x)
        y = builder.depthwise(y, network.depthwise(f"{box}.2", f"{cls}.2"), kernel=3, name=f"{short}.box+cls.2")
        split = self.config.box_width
        weight, channels = network.dense(f"{box}.3")
        into = Slot(logits, 0, channels)
        builder.conv2d(Slot(y.buffer, 0, split), weight, channels, into=into, name=f"{short}.box.3")
        weight, classes = network.dense(f"{cls}.3")
        into = Slot(logits, channels, classes)
        builder.conv2d(Slot(y.buffer, split, y.channels - split), weight, classes, into=into, name=f"{short}.cls.3")

    def _leyolo_level_features(self, level: int, x: Slot, features: Buffer, classes: Buffer) -> None:
        network, builder, short = self.network, self.builder, self._pyramid(level)
        y = self._leyolo_branches(level, x)
        split = self.config.box_width
        box, cls = Slot(y.buffer, 0, split), Slot(y.buffer, split, y.channels - split)
        weight = network.depthwise(f"head.box.{level}.2")
        builder.depthwise(box, weight, kernel=3, into=Slot.whole(features), name=f"{short}.box.2")
        y = builder.depthwise(cls, network.depthwise(f"head.cls.{level}.2"), kernel=3, name=f"{short}.cls.2")
        builder.conv2d(y, *network.dense(f"head.cls.{level}.3"), into=Slot.whole(classes), name=f"{short}.cls.3")

    def _leyolo_branches(self, level: int, x: Slot) -> Slot:
        """The first two layers of both branches, which have the same shape, side by side as one."""
        network, builder = self.network, self.builder
        box, cls, short = f"head.box.{level}", f"head.cls.{level}", self._pyramid(level)
        weight = network.dense(f"{box}.0", f"{cls}.0")
        y = builder.conv2d(x, *weight, activation=SILU, name=f"{short}.box+cls.0")
        return builder.depthwise(y, network.depthwise(f"{box}.1", f"{cls}.1"), kernel=3, name=f"{short}.box+cls.1")

    def _yolox_level(self, level: int, x: Slot, logits: Buffer) -> None:
        network, builder, short = self.network, self.builder, self._pyramid(level)
        stem = builder.conv2d(x, *network.dense(f"head.stem.{level}"), activation=SILU, name=f"{short}.stem")
        start = 0
        for branch in ("box", "cls"):
            y = stem
            for j in (0, 1):
                dense = network.dense(f"head.{branch}.{level}.{j}")
                y = builder.conv2d(y, *dense, kernel=3, activation=SILU, name=f"{short}.{branch}.{j}")
            weight, channels = network.dense(f"head.{branch}.{level}.2")
            into = Slot(logits, start, channels)
            builder.conv2d(y, weight, channels, into=into, name=f"{short}.{branch}.2")
            start += channels
