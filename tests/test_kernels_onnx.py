"""ONNX's conformance cases for the operators that we have, in every implementation.

They ship in the `onnx` package. Each case of our operators is named here: run, or left with the
reason. One that vanishes, or a new one, fails.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import kernels
from tests.gpu_checks import NAMES as ON_GPUS
from tests.onnx_adapters import ADAPTERS

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

RUN = {
    "Conv": """
        basic_conv_with_padding basic_conv_without_padding conv_with_strides_padding
        conv_with_strides_no_padding conv_with_strides_and_asymmetric_padding
        conv_with_autopad_same
    """,
    "MaxPool": """
        maxpool_2d_precomputed_pads maxpool_with_argmax_2d_precomputed_pads
        maxpool_2d_precomputed_strides maxpool_with_argmax_2d_precomputed_strides
        maxpool_2d_precomputed_same_upper maxpool_2d_default maxpool_2d_same_upper
        maxpool_2d_same_lower maxpool_2d_pads maxpool_2d_strides maxpool_2d_ceil
        maxpool_2d_ceil_output_size_reduce_by_one maxpool_2d_dilations
    """,
    "AveragePool": """
        averagepool_2d_precomputed_pads averagepool_2d_precomputed_pads_count_include_pad
        averagepool_2d_precomputed_strides averagepool_2d_precomputed_same_upper
        averagepool_2d_default averagepool_2d_same_upper averagepool_2d_same_lower
        averagepool_2d_pads averagepool_2d_pads_count_include_pad averagepool_2d_strides
        averagepool_2d_ceil averagepool_2d_ceil_last_window_starts_on_pad
    """,
    "GlobalAveragePool": """
        globalaveragepool globalaveragepool_precomputed
    """,
    "Gemm": """
        gemm_default_zero_bias gemm_default_no_bias gemm_default_scalar_bias
        gemm_default_single_elem_vector_bias gemm_default_vector_bias gemm_default_matrix_bias
        gemm_transposeA gemm_transposeB gemm_alpha gemm_beta gemm_all_attributes
    """,
    "Relu": """
        relu
    """,
    "Softmax": """
        softmax_example softmax_large_number softmax_axis_0 softmax_axis_1 softmax_axis_2
        softmax_negative_axis softmax_default_axis
    """,
    "LogSoftmax": """
        logsoftmax_example_1 logsoftmax_large_number logsoftmax_axis_0 logsoftmax_axis_1
        logsoftmax_axis_2 logsoftmax_negative_axis logsoftmax_default_axis
    """,
    "SoftmaxCrossEntropyLoss": """
        sce_none sce_none_log_prob sce_none_weights sce_none_weights_log_prob sce_sum
        sce_sum_log_prob sce_mean sce_mean_log_prob sce_mean_3d sce_mean_3d_log_prob
        sce_mean_weight sce_mean_weight_log_prob sce_mean_weight_ii sce_mean_weight_ii_log_prob
        sce_mean_no_weight_ii sce_mean_no_weight_ii_log_prob sce_mean_weight_ii_3d
        sce_mean_weight_ii_3d_log_prob sce_mean_no_weight_ii_3d
        sce_mean_no_weight_ii_3d_log_prob sce_mean_weight_ii_4d sce_mean_weight_ii_4d_log_prob
        sce_mean_no_weight_ii_4d sce_mean_no_weight_ii_4d_log_prob sce_NCd1d2d3d4d5_mean_weight
        sce_NCd1d2d3d4d5_mean_weight_log_prob sce_NCd1d2d3d4d5_none_no_weight
        sce_NCd1d2d3d4d5_none_no_weight_log_prob sce_NCd1_mean_weight_negative_ii
        sce_NCd1_mean_weight_negative_ii_log_prob sce_NCd1d2d3_none_no_weight_negative_ii
        sce_NCd1d2d3_none_no_weight_negative_ii_log_prob sce_NCd1d2d3_sum_weight_high_ii
        sce_NCd1d2d3_sum_weight_high_ii_log_prob
    """,
    "NegativeLogLikelihoodLoss": """
        nllloss_NC nllloss_NCd1d2 nllloss_NCd1d2_reduction_mean nllloss_NCd1d2_reduction_sum
        nllloss_NCd1d2_with_weight nllloss_NCd1d2_with_weight_reduction_mean
        nllloss_NCd1d2_with_weight_reduction_sum nllloss_NCd1d2_with_weight_reduction_sum_ii
        nllloss_NCd1d2_no_weight_reduction_mean_ii nllloss_NCd1 nllloss_NCd1_weight
        nllloss_NCd1_ii nllloss_NCd1_weight_ii nllloss_NCd1d2d3d4d5_mean_weight
        nllloss_NCd1d2d3d4d5_none_no_weight nllloss_NCd1_mean_weight_negative_ii
        nllloss_NCd1d2d3_none_no_weight_negative_ii nllloss_NCd1d2d3_sum_weight_high_ii
    """,
    "BatchNormalization": """
        batchnorm_example batchnorm_epsilon batchnorm_example_training_mode
        batchnorm_epsilon_training_mode
    """,
    "Add": """
        add add_bcast
    """,
}
"""ONNX's operator -> its cases, without `test_`, that run through ours."""

LEFT = {
    "one dimension; ours pool images": "averagepool_1d_default maxpool_1d_default",
    "three dimensions; ours pool images": """
        averagepool_3d_default averagepool_3d_dilations_small
        averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True
        averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False
        averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True
        averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False
        maxpool_3d_default maxpool_3d_dilations maxpool_3d_dilations_use_ref_impl
        maxpool_3d_dilations_use_ref_impl_large
    """,
    "whole numbers; ours take float32 and float64": """
        add_int8 add_int16 add_uint8 add_uint16 add_uint32 add_uint64 maxpool_2d_uint8
    """,
    "torch's avg_pool2d has no dilation": "averagepool_2d_dilations",
}
"""Why a case of these operators does not run -> those cases."""

EXPANDED = {
    "LogSoftmax": ["_expanded", "_expanded_ver18"],
    "NegativeLogLikelihoodLoss": ["_expanded"],
    "Relu": ["_expanded_ver18"],
    "Softmax": ["_expanded", "_expanded_ver18"],
    "SoftmaxCrossEntropyLoss": ["_expanded"],
}
"""Endings of cases that are another's again, written in smaller operators, which ours are not."""

EACH = [
    (case, implementation)
    for operator, cases in RUN.items()
    for case in cases.split()
    for implementation in (*kernels.names(ADAPTERS[operator][0]), *ON_GPUS)
]

WINOGRAD = {"basic_conv_with_padding", "basic_conv_without_padding"}
"""The convolutions that are 3 x 3 of stride 1."""


@pytest.fixture(scope="module")
def cases():
    """Every node case of the package by name, without `test_`; made in memory, in a few seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of making other operators' cases are not ours
        from onnx.backend.test.loader import load_model_tests

        return {case.name.removeprefix("test_"): case for case in load_model_tests(kind="node")}


def attributes_of(node):
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def missing_and_new(cases):
    """Of cases by name: the listed ones that are not there, and those there that are not listed."""
    plain = {name for names in (*RUN.values(), *LEFT.values()) for name in names.split()}
    again = {
        name + ending
        for operator, endings in EXPANDED.items()
        for name in RUN[operator].split()
        for ending in endings
    }
    there = {
        name
        for name, case in cases.items()
        if name.partition("_expanded")[0] in plain or is_of_ours(case.model.graph)
    }
    return (plain | again) - there, there - (plain | again)


def is_of_ours(graph):
    return len(graph.node) == 1 and graph.node[0].op_type in ADAPTERS


def test_every_case_is_listed_and_every_listed_case_is_there(cases):
    assert missing_and_new(cases) == (set(), set())


@pytest.mark.parametrize("name", ["relu", "sce_mean_expanded", "maxpool_3d_default"])
def test_a_case_that_vanishes_and_a_new_one_are_found(cases, name):
    others = {other: case for other, case in cases.items() if other != name}
    assert missing_and_new({**others, f"{name}_2": cases[name]}) == ({name}, {f"{name}_2"})


def assert_meets(outputs, expected, case):
    for output, wanted in zip(outputs, expected, strict=True):
        assert output.shape == wanted.shape
        assert output.dtype == wanted.dtype
        np.testing.assert_allclose(output, wanted, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: [][: y.size],
        lambda y: [y[None]],
        lambda y: [y.astype(np.float64)],
        lambda y: [y + np.float32(0.01)],
        lambda y: [np.where(y == y.max(), np.nan, y)],
    ],
    ids=["nothing", "shape", "dtype", "value", "nan"],
)
def test_what_onnx_does_not_expect_is_found(cases, spoil):
    ((_, expected),) = cases["relu"].data_sets
    assert_meets(expected, expected, cases["relu"])
    with pytest.raises((AssertionError, ValueError)):
        assert_meets(spoil(expected[0]), expected, cases["relu"])


def narrow(value):
    """What an adapter made in float64, to spare itself a rounding, as a GPU takes it."""
    wide = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32) if wide else value


@pytest.mark.parametrize(("case", "implementation"), EACH)
def test_a_case_gives_what_onnx_expects(cases, gpu, case, implementation):
    """Shape, dtype, and values within the case's own tolerance."""
    told = cases[case]
    (node,) = told.model.graph.node
    _, adapter = ADAPTERS[node.op_type]

    def run(name, **call):
        if implementation in ON_GPUS:
            return gpu(name, implementation).forward(**{key: narrow(v) for key, v in call.items()})
        ours = kernels.get(name, implementation)
        reason = ours.unavailable_reason()
        if reason is not None:
            pytest.skip(reason)
        return ours.forward(**call)

    ((inputs, expected),) = told.data_sets
    if implementation == "winograd" and case not in WINOGRAD:
        with pytest.raises(NotImplementedError, match="winograd"):
            adapter(run, attributes_of(node), *inputs)
        return
    outputs = adapter(run, attributes_of(node), *inputs)
    assert_meets(outputs[: len(expected)], expected, told)
