"""ONNX's operators by ours: an adapter an operator, from its inputs and attributes to its outputs.

`run("conv2d", input=..., ...)` calls one of our operators in the implementation under test; all
arithmetic that a case is about is done by it. ONNX's definitions: onnx.ai/onnx/operators.
"""

from __future__ import annotations

import numpy as np


def conv(run, attributes, x, weight, bias=None):
    strides, dilations = pair(attributes, "strides"), pair(attributes, "dilations")
    x, padding = padded(attributes, x, weight.shape[2:], strides, dilations, 0)
    group = attributes.get("group", 1)
    arguments = {"stride": strides, "padding": padding, "dilation": dilations, "groups": group}
    return [run("conv2d", input=x, weight=weight, bias=bias, **arguments)]


def max_pool(run, attributes, x):
    """The indices count through the whole tensor; columns first for storage order 1."""
    kernel, strides = tuple(attributes["kernel_shape"]), pair(attributes, "strides")
    dilations, (n, c, h, w) = pair(attributes, "dilations"), x.shape
    inside, padding = padded(attributes, x, kernel, strides, dilations, -np.inf)
    output, indices = run(
        "max_pool2d",
        input=inside,
        kernel_size=kernel,
        stride=strides,
        padding=padding,
        dilation=dilations,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        return_indices=True,
    )
    above, left = before(attributes, x, kernel, strides, dilations) if padding == (0, 0) else (0, 0)
    i, j = divmod(indices, inside.shape[3])
    i, j = i - above, j - left
    planes = np.arange(n * c).reshape(n, c, 1, 1) * h * w
    columns_first = attributes.get("storage_order", 0)
    return [output, planes + (j * h + i if columns_first else i * w + j)]


def average_pool(run, attributes, x):
    """Padding done beforehand counts: it is taken out by the average of ones padded alike."""
    kernel, strides = tuple(attributes["kernel_shape"]), pair(attributes, "strides")
    counted = bool(attributes.get("count_include_pad", 0))
    inside, padding = padded(attributes, x, kernel, strides, (1, 1), 0)
    arguments = {
        "kernel_size": kernel,
        "stride": strides,
        "padding": padding,
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
        "count_include_pad": counted,
    }
    output = run("avg_pool2d", input=inside, **arguments)
    if inside.shape != x.shape and not counted:
        ones, _ = padded(attributes, np.ones_like(x), kernel, strides, (1, 1), 0)
        output = output / run("avg_pool2d", input=ones, **arguments)
    return [output]


def global_average_pool(run, attributes, x):
    return [run("adaptive_avg_pool2d", input=x, output_size=1)]


def gemm(run, attributes, a, b, c=None):
    """alpha A B + beta C; C is a bias where it has one number a column, and else added."""
    a = a.T if attributes.get("transA", 0) else a
    weight = b if attributes.get("transB", 0) else b.T
    a = np.float32(attributes.get("alpha", 1)) * a
    beta = attributes.get("beta", 1)
    if c is not None and c.shape in [(len(weight),), (1, len(weight))]:
        return [run("linear", input=a, weight=weight, bias=np.float32(beta) * c.reshape(-1))]
    output = run("linear", input=a, weight=weight)
    return [output if c is None else run("add", input=output, other=c, alpha=beta)]


def relu(run, attributes, x):
    return [run("relu", input=x)]


def softmax(run, attributes, x):
    return [run("softmax", input=x, dim=attributes.get("axis", -1))]


def log_softmax(run, attributes, x):
    return [run("log_softmax", input=x, dim=attributes.get("axis", -1))]


def softmax_cross_entropy_loss(run, attributes, scores, labels, weights=None):
    loss = run("cross_entropy", input=scores, target=labels, weight=weights, **loss_of(attributes))
    return [loss, run("log_softmax", input=scores, dim=1)]


def negative_log_likelihood_loss(run, attributes, scores, labels, weights=None):
    """cross_entropy, of scores on which its log_softmax does nothing.

    Those have exponentials that sum to one: a constant is taken off, and one class more has what is
    missing. The constant comes back by the cross_entropy of equal scores, which is log(classes)
    with the same weights, ignored labels and reduction. In float64, for the detour's rounding.
    """
    dtype, classes, scores = scores.dtype, scores.shape[1], scores.astype(np.float64)
    weights = np.ones(classes) if weights is None else weights.astype(np.float64)
    arguments = {"target": labels, **loss_of(attributes)}
    equal = run("cross_entropy", input=np.zeros_like(scores), weight=weights, **arguments)
    constant = scores.max() + np.log(classes + 1)
    scores = scores - constant
    missing = np.log(1 - np.exp(scores).sum(1, keepdims=True))
    scores, weights = np.concatenate([scores, missing], 1), np.append(weights, 1)
    loss = run("cross_entropy", input=scores, weight=weights, **arguments)
    return [np.asarray(loss - constant / np.log(classes) * equal).astype(dtype)]


def batch_normalization(run, attributes, x, scale, bias, mean, variance):
    """ONNX's running variance takes the batch's own variance, torch's the unbiased one."""
    training = bool(attributes.get("training_mode", 0))
    keep = attributes.get("momentum", 0.9)
    running = {"running_mean": mean.copy(), "running_var": variance.copy()}
    arguments = {"training": training, "momentum": 1 - keep, "eps": attributes.get("epsilon", 1e-5)}
    output = run("batch_norm", input=x, weight=scale, bias=bias, **running, **arguments)
    if not training:
        return [output]
    count = x.size // x.shape[1]
    of_batch = running["running_var"] - np.float32(keep) * variance
    running_var = np.float32(keep) * variance + of_batch * np.float32((count - 1) / count)
    return [output, running["running_mean"], running_var]


def add(run, attributes, x, y):
    return [run("add", input=x, other=y)]


ADAPTERS = {
    "Conv": ("conv2d", conv),
    "MaxPool": ("max_pool2d", max_pool),
    "AveragePool": ("avg_pool2d", average_pool),
    "GlobalAveragePool": ("adaptive_avg_pool2d", global_average_pool),
    "Gemm": ("linear", gemm),
    "Relu": ("relu", relu),
    "Softmax": ("softmax", softmax),
    "LogSoftmax": ("log_softmax", log_softmax),
    "SoftmaxCrossEntropyLoss": ("cross_entropy", softmax_cross_entropy_loss),
    "NegativeLogLikelihoodLoss": ("cross_entropy", negative_log_likelihood_loss),
    "BatchNormalization": ("batch_norm", batch_normalization),
    "Add": ("add", add),
}
"""ONNX's operator -> ours, whose implementations are run, and the adapter."""


def pair(attributes, name):
    return tuple(attributes.get(name, (1, 1)))


def loss_of(attributes):
    """Reduction and ignored label, as `cross_entropy` takes them."""
    given = {"reduction": attributes.get("reduction", b"mean").decode()}
    if "ignore_index" in attributes:
        given["ignore_index"] = attributes["ignore_index"]
    return given


def pads(attributes, x, kernel, strides, dilations):
    """(above, left, below, right)."""
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    if automatic in {"NOTSET", "VALID"}:
        return tuple(attributes.get("pads", (0, 0, 0, 0)))
    lengths = zip(x.shape[2:], kernel, strides, dilations, strict=True)
    totals = [
        max(0, (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size)
        for size, taps, stride, dilation in lengths
    ]
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*less, *more) if automatic == "SAME_UPPER" else (*more, *less)


def before(attributes, x, kernel, strides, dilations):
    return pads(attributes, x, kernel, strides, dilations)[:2]


def padded(attributes, x, kernel, strides, dilations, value):
    """The input and the padding to ask for: what no operator takes is done beforehand.

    That is more on one side than on the other, and more than half a kernel.
    """
    above, left, below, right = pads(attributes, x, kernel, strides, dilations)
    even = (above, left) == (below, right)
    if even and 2 * above <= kernel[0] and 2 * left <= kernel[1]:
        return x, (above, left)
    edges = ((0, 0), (0, 0), (above, below), (left, right))
    return np.pad(x, edges, constant_values=value), (0, 0)
