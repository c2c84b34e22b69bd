"""A finished network in the form in which a CPU answers fastest, with the same numbers.

Its graph is traced and written anew with the layers of `fast_layers`: batch norms go into the
convolution before them, activations and sums into the same pass, and maps that were to be joined
are convolved one by one and added. The network itself stays as it is, with its weights, for
training and gradients. What cannot be traced keeps its own steps, and its layers become fast ones.
"""

from __future__ import annotations

import copy
import operator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from medmtl.networks.fast_layers import (
    CONVS,
    TRANSPOSED,
    Activation,
    FastConv,
    FastInstanceNorm,
    are_here,
)

if TYPE_CHECKING:
    from medmtl.networks.joint import JointNet

__all__ = ["InferenceForm", "portable_form"]

_READERS = (
    *(FastConv, FastInstanceNorm, _BatchNorm, _InstanceNorm),
    *(nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool2d, nn.MaxPool3d),
)
"""Layers that make a map of their own and leave what they are given as it is."""
_ADDS = (operator.add, operator.iadd, torch.add)
_ANY_STEPS = (32, 32, 32)
"""For networks that do not say what their sizes are multiples of."""
_LARGEST_DIFFERENCE = 1e-3
"""Of the largest logit; float32 sums in another order differ by a hundredth of that."""


class InferenceForm:
    """Runs a network on a CPU in the place of `JointNet.torch_pass`.

    Args:
        net: In evaluation mode, on the CPU.
        levels: Places in `JointNet.encode` of the feature maps that are read later; the others come
            back empty.
    """

    def __init__(self, net: JointNet, *, levels: tuple[int, ...]) -> None:
        self._pass = _Pass(net, levels)
        self.run = _traced(self._pass) or _with_fast_layers(self._pass)

    @staticmethod
    def fits(net: nn.Module) -> bool:
        """Whether torch can do it here, and the network is made of float32."""
        return are_here() and all(one.dtype == torch.float32 for one in net.parameters())

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        """Feature maps, empty where nobody reads them, and logits, class by class in memory."""
        *found, logits = self.run(stem_bckji)
        features = [stem_bckji.new_empty(0)] * self._pass.count
        for level, feature in zip(self._pass.levels, found, strict=True):
            features[level] = feature
        return features, logits.contiguous()

    @torch.no_grad()
    def agrees(self, net: JointNet) -> bool:
        """Whether noise gets the network's own answer.

        oneDNN's fused steps are no public part of torch: another version may do them otherwise.
        """
        noise = torch.Generator().manual_seed(0)
        states_steps = max(net.divisor) > 1
        k, j, i = (2 * step for step in net.divisor) if states_steps else _ANY_STEPS
        stem = net.context(torch.randn(1, net.config.in_channels, k, j, i, generator=noise))
        expected = net.torch_pass(stem)[1]
        convs = [layer for layer in self.run.modules() if isinstance(layer, FastConv)]
        try:
            for conv in convs:
                conv.packs = False  # for this small size
            own = self(stem)[1]
        except RuntimeError:
            return False
        finally:
            for conv in convs:
                conv.packs = True
        limit = _LARGEST_DIFFERENCE * float(expected.abs().max())
        return bool(((own - expected).abs() <= limit).all())


def portable_form(root: nn.Module) -> nn.Module | None:
    """The same graph in torch's public steps, for other programs to read; None if none is found.

    Batch norms are in the convolutions, and maps that were joined are convolved apart: the joined
    one takes neither memory nor time.
    """
    written = _traced(root)
    if written is None:
        return None
    for layer in written.modules():
        if isinstance(layer, FastConv):
            layer.is_portable = True
    return written.eval()


class _Pass(nn.Module):
    """What is written anew: a stem in, the features that are read and the logits out."""

    def __init__(self, net: JointNet, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.levels = levels
        depth = len(cast("Any", net.backbone).channels)
        self.count = depth if net.partner is None else 2 * depth

    def forward(self, stem_bckji: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.net.torch_pass(stem_bckji)
        return *(features[level] for level in self.levels), logits


def _traced(root: nn.Module) -> fx.GraphModule | None:
    """The same pass with fused layers; None where its steps depend on what they are given."""
    try:
        graph = fx.Tracer().trace(root)
    except (NameError, TypeError, RuntimeError, AttributeError, ValueError):  # as fx words it
        return None
    written = _Writing(graph, dict(root.named_modules()))
    return written.done(root)


class _Writing:
    """A graph that is written anew, node by node in its order."""

    def __init__(self, graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
        self.graph = graph
        self.modules = modules
        self.made: dict[fx.Node, FastConv] = {}

    def done(self, root: nn.Module) -> fx.GraphModule:
        """The graph with the layers that it calls."""
        for node in reversed(list(self.graph.nodes)):
            if node.target in (getattr, operator.getitem) and not node.users:
                self.graph.erase_node(node)  # a size that nobody asks for keeps its map alive
        for node in list(self.graph.nodes):
            if node.op == "call_module":
                self._layer(node, self.modules[cast("str", node.target)])
            elif node.op == "call_function" and node.target in _ADDS:
                self._add(node)
            elif node.op == "call_function":
                self._activate(node, _activation_of_call(node))
        for node in [one for one in self.graph.nodes if one.target is torch.cat]:
            self._part(node)
        self.graph.lint()
        paths = [str(n.target) for n in self.graph.nodes if n.op in ("call_module", "get_attr")]
        own = {path: self.modules.get(path) or attrgetter(path)(root) for path in paths}
        return fx.GraphModule(own, self.graph)

    def _layer(self, node: fx.Node, module: nn.Module) -> None:
        if _is_conv(module):
            self._put(node, FastConv(cast("Any", module)))
        elif isinstance(module, _InstanceNorm):
            self._put(node, FastInstanceNorm(module))
        elif isinstance(module, _BatchNorm):
            source = self._only_source(node)
            if source is not None and self.made[source].can_fold and module.track_running_stats:
                self.made[source].fold(module)
                self._drop(node, source)
        elif isinstance(module, nn.Dropout | nn.Dropout2d | nn.Dropout3d | nn.Identity):
            self._drop(node, cast("fx.Node", node.args[0]))
        else:
            self._activate(node, _activation_of(module))

    def _put(self, node: fx.Node, layer: nn.Module) -> None:
        """A new layer in the place of the one that a node calls."""
        node.target = f"fast_{len(self.modules)}"
        self.modules[node.target] = layer
        if isinstance(layer, FastConv):
            self.made[node] = layer

    def _drop(self, node: fx.Node, source: fx.Node) -> None:
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)

    def _only_source(self, node: fx.Node) -> fx.Node | None:
        """The convolution that a node follows, where nobody else reads it and nothing is fused."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source not in self.made or len(source.users) > 1:
            return None
        is_plain = self.made[source].activation == Activation() and "added" not in source.kwargs
        return source if is_plain else None

    def _activate(self, node: fx.Node, activation: Activation | None) -> None:
        source = node.args[0] if node.args and activation is not None else None
        if not isinstance(source, fx.Node) or source not in self.made or len(source.users) > 1:
            return
        if self.made[source].activation == Activation() and activation is not None:
            self.made[source].activation = activation
            self._drop(node, source)

    def _add(self, node: fx.Node) -> None:
        """A sum whose later part is a convolution, which adds the other while it is computed."""
        parts = [part for part in node.args if isinstance(part, fx.Node)]
        if len(parts) != 2 or parts[0] is parts[1] or node.kwargs:
            return
        other, last = sorted(parts, key=self._place)
        if self._can_add(last) and self._can_add(other) and self._moves_up(last, other):
            other, last = last, other
        if self._can_add(last) and self._is_settled(other, last, node):
            last.kwargs = {"added": other, "may_overwrite": self._is_free(other, node)}
            self._drop(node, last)
        elif node.args[0] in self.made and len(parts[0].users) == 1:
            node.target = operator.iadd

    def _is_settled(self, other: fx.Node, last: fx.Node, node: fx.Node) -> bool:
        """Whether nothing changes a map between a convolution and the sum with it."""
        here = self._place(last)
        return other.op != "placeholder" and all(
            user is node or self._only_reads(user) or self._place(user) < here
            for user in other.users
        )

    def _place(self, node: fx.Node) -> int:
        return list(self.graph.nodes).index(node)

    def _can_add(self, node: fx.Node) -> bool:
        """Whether a node is a convolution for one sum only, which has added nothing yet."""
        conv = self.made.get(node)
        is_alone = conv is not None and len(node.users) == 1 and not conv.is_transposed
        return is_alone and self.made[node].activation == Activation() and not node.kwargs

    def _moves_up(self, last: fx.Node, other: fx.Node) -> bool:
        """Take a shortcut's convolution to where its input comes from, which is then let go."""
        source, other_source = last.args[0], other.args[0]
        if not isinstance(source, fx.Node) or not isinstance(other_source, fx.Node):
            return False
        is_earlier = self._place(source) < self._place(other_source)
        if not is_earlier or not all(self._only_reads(user) for user in source.users):
            return False
        source.append(last)
        return True

    def _is_free(self, other: fx.Node, node: fx.Node) -> bool:
        """Whether a map is a convolution's own memory, and a sum the last that reads it."""
        is_last = all(self._place(user) <= self._place(node) for user in other.users)
        is_read = all(user is node or self._only_reads(user) for user in other.users)
        return other in self.made and is_last and is_read

    def _only_reads(self, user: fx.Node) -> bool:
        """Whether a step makes a map of its own of what it is given."""
        if user.op != "call_module":
            return user.op == "output" or user.target is torch.cat
        layer = self.modules[str(user.target)]
        return isinstance(layer, _READERS) or _is_conv(layer)

    def _part(self, node: fx.Node) -> None:
        """Two maps that are joined for convolutions only are convolved apart.

        The one that is there first before the other is made, so that it can be let go.
        """
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        parts = list(cast("list[fx.Node]", node.args[0])) if node.args else []
        convs = [self.made.get(user) for user in node.users]
        is_plain = all(c and c.groups == 1 and not c.is_transposed for c in convs)
        if axis != 1 or len(set(parts)) != 2 or not convs or not is_plain:
            return
        known = [self.made[part].width if part in self.made else None for part in parts]
        if known == [None, None] or any(user.kwargs for user in node.users):
            return
        if not all(self._only_reads(user) for part in parts for user in part.users):
            return
        first, second = known
        total = cast("FastConv", convs[0]).weight.shape[1]
        widths = (total - cast("int", second), second) if first is None else (first, total - first)
        early, late = sorted(range(2), key=lambda number: self._place(parts[number]))
        for user in list(node.users):
            self._apart(user, parts, cast("tuple[int, int]", widths), early, late)
        self.graph.erase_node(node)

    def _apart(
        self, user: fx.Node, parts: list[fx.Node], widths: tuple[int, int], early: int, late: int
    ) -> None:
        pieces = self.made[user].split(widths, order=(early, late))
        with self.graph.inserting_before(parts[late]):
            before = self.graph.call_module("later", (parts[early],))
        self._put(before, pieces[0])
        self._put(user, pieces[1])
        user.args = (parts[late],)
        user.kwargs = {"added": before, "may_overwrite": True}


def _is_conv(module: nn.Module) -> bool:
    is_known = isinstance(module, (*CONVS, *TRANSPOSED))
    return is_known and cast("Any", module).padding_mode == "zeros" and not isinstance(
        cast("Any", module).padding, str
    )  # fmt: skip


def _activation_of(module: nn.Module) -> Activation | None:
    if isinstance(module, nn.ReLU):
        return Activation(0.0)
    return Activation(module.negative_slope) if isinstance(module, nn.LeakyReLU) else None


def _activation_of_call(node: fx.Node) -> Activation | None:
    if node.target in (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_):
        return Activation(0.0)
    if node.target in (nn.functional.leaky_relu, nn.functional.leaky_relu_):
        slope = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
        return Activation(float(cast("float", slope)))
    return None


def _with_fast_layers(
    module: nn.Module, done: dict[nn.Module, nn.Module] | None = None
) -> nn.Module:
    """The same module around fast layers; weights are shared."""
    done = {} if done is None else done
    if module not in done:
        if _is_conv(module):
            done[module] = FastConv(cast("Any", module))
        elif isinstance(module, _InstanceNorm):
            done[module] = FastInstanceNorm(module)
        else:
            done[module] = twin = copy.copy(module)
            twin._modules = {
                name: None if child is None else _with_fast_layers(child, done)
                for name, child in module._modules.items()
            }
    return done[module]
