"""The rules in the order of application, one in each file."""

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.rule import Rule
from attn_export.exporter.cleanup.rules import (
    apply_second_layer_once,
    average_channels,
    concat_scattered,
    convolve_squeezed,
    drop_expand,
    fold_added_bias,
    fold_batch_norm,
    fold_channel_order,
    fold_gain,
    fold_known_sizes,
    fold_pixel_mean,
    fold_pixel_scale,
    fuse_hard_sigmoid,
    fuse_hard_swish,
    fuse_sigmoid,
    keep_reduced_axis,
    merge_clips,
    merge_views,
    multiply_gates_first,
    pool_channels_last,
    pool_in_one_form,
    pool_integers,
    read_gate_directly,
    repeat_spatial_gate,
    resize_gate,
    resolve_sizes,
    select_summaries,
    sink_views,
    squeeze_before_expansion,
    standardize_weights,
    sum_gate_products,
    summarize_channels_last,
    summarize_maps,
    take_concatenated,
    view_unit_transpose,
)

RULES: tuple[Rule, ...] = (
    # Shape arithmetic first: later rules need constants.
    resolve_sizes.RULE,
    fold_known_sizes.RULE,
    drop_expand.RULE,
    concat_scattered.RULE,
    take_concatenated.RULE,
    view_unit_transpose.RULE,
    merge_views.RULE,
    keep_reduced_axis.RULE,
    # Weights.
    standardize_weights.RULE,
    fold_batch_norm.RULE,
    merge_clips.RULE,
    fuse_hard_sigmoid.RULE,
    fuse_hard_swish.RULE,
    fuse_sigmoid.RULE,
    # After the hard sigmoids, whose sums stay.
    fold_added_bias.RULE,
    fold_gain.RULE,
    # Preprocessing, from the first convolution upward.
    fold_channel_order.RULE,
    fold_pixel_scale.RULE,
    fold_pixel_mean.RULE,
    # The channel gate: its pools, its layers, then the views between them.
    pool_in_one_form.RULE,
    convolve_squeezed.RULE,
    sink_views.RULE,
    apply_second_layer_once.RULE,
)

# They run on the canonical form, after RULES have reached their fixpoint.
TARGET_RULES: dict[Target, tuple[Rule, ...]] = {
    Target.ANY: (),
    Target.TENSORRT: (
        sum_gate_products.RULE,
        squeeze_before_expansion.RULE,
        pool_channels_last.RULE,
        select_summaries.RULE,
        multiply_gates_first.RULE,
    ),
    Target.ONNXRUNTIME: (
        squeeze_before_expansion.RULE,
        resize_gate.RULE,
        summarize_channels_last.RULE,
        repeat_spatial_gate.RULE,
    ),
}

# For a graph that ONNX Runtime computes in integers, in its form or the canonical one.
INTEGER_RULES: tuple[Rule, ...] = (
    read_gate_directly.RULE,
    summarize_maps.RULE,
    average_channels.RULE,
    pool_integers.RULE,
)
