"""The planted faults. Each line is tested on every network that has such a place."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import gates, outputs, spatial, weights, wiring
from tests.faults.editing import Edited, Place

SE, MOBILE = ("se_digits",), ("se_mobilenet_v3_small",)
# The last one is CBAM as its authors wrote it, with Linear layers that have biases.
PUBLISHED = ("published_cbam",)
WITH_SHORTCUTS = ("cbam_digits", "cbam_resnet18")
CBAM = (*WITH_SHORTCUTS, *PUBLISHED)
NETWORKS = (*SE, *CBAM, *MOBILE)
TRAINED = ("se_digits", "cbam_digits")
# Of `make test`: the trained networks, and Linear layers with biases.
USUAL = (*TRAINED, *PUBLISHED)
# Where a fault has to be seen first: in its own block's gate, in the one after, anywhere, or only by what happens.
OWN, AFTER, OUTPUT, LATER = "own gate", "next gate", "output", "a later gate or the output"
UNPAIRED, FAILS = "number of gates", "doesn't run"

PLACES = {
    "se_digits": Place("layer2.0.conv2.weight", "layer2.0.attention.fc.3", "layer3.0.attention.fc.3", "layer2.0"),
    "cbam_digits": Place(
        "layer2.0.conv2.weight",
        "layer2.0.attention.ChannelGate.sigmoid",
        "layer2.0.attention.SpatialGate.sigmoid",
        "layer2.0",
    ),
    "cbam_resnet18": Place(
        "layer3.0.conv2.weight",
        "layer3.0.attention.ChannelGate.sigmoid",
        "layer3.0.attention.SpatialGate.sigmoid",
        "layer3.0",
    ),
    "published_cbam": Place(
        "stages.1.conv.weight", "stages.1.attention.channel", "stages.1.attention.spatial", "stages.1"
    ),
    "se_mobilenet_v3_small": Place(
        "features.5.block.1.0.weight",
        "features.5.block.2.scale_activation",
        "features.6.block.2.scale_activation",
        "features.5",
    ),
}


@dataclass(frozen=True)
class Fault:
    """A change of a good file.

    Attributes:
        name: what it is, for the table.
        plant: makes it.
        seen: where it has to be found first.
        networks: that have such a place.
    """

    name: str
    plant: Callable[[Edited, Place], None]
    seen: str
    networks: tuple[str, ...] = NETWORKS


FAULTS = (
    # weights
    Fault("one layer's weights scaled by 1.0001", weights.scale_weight, OWN),
    Fault("one layer's weights rounded to bfloat16", weights.round_weight_to_bfloat16, OWN),
    Fault("one layer's weights rounded to float16", weights.round_weight_to_float16, OWN),
    Fault("one weight's sign flipped", weights.flip_one_sign, OWN),
    Fault("one channel zeroed", weights.zero_one_channel, OWN),
    Fault("two channels swapped", weights.swap_two_channels, OWN),
    Fault("kernels transposed", weights.transpose_kernels, OWN),
    Fault("NaN in one weight", weights.nan_in_a_weight, OWN),
    Fault("infinity in one bias", weights.infinity_in_a_bias, OWN),
    Fault("one bias off by 0.001", weights.shift_one_bias, OWN),
    Fault("another epsilon in BatchNorm", weights.another_epsilon_in_batch_norm, OWN),
    # the channel gate
    Fault("its ReLU dropped", gates.relu_dropped, OWN),
    Fault("its pool takes the maximum", gates.pool_takes_the_maximum, OWN),
    Fault("its pool averages over the batch too", gates.pool_averages_over_the_batch, OWN),
    Fault("its mean taken over one axis", gates.mean_over_one_axis, OWN),
    Fault("its mean divided by n - 1", gates.unbiased_mean, OWN),
    Fault("its hidden units in another order", gates.hidden_units_in_another_order, OWN),
    Fault("second MLP branch dropped", gates.second_branch_dropped, OWN, CBAM),
    Fault("MLP branches averaged instead of added", gates.branches_averaged, OWN, CBAM),
    Fault("second layer's bias halved", gates.second_layers_bias_halved, OWN, MOBILE),
    Fault("bias added once instead of twice", gates.second_layers_bias_halved, OWN, PUBLISHED),
    Fault("tanh before the sigmoid", gates.tanh_before_the_gate, OWN),
    Fault("its logits in float16", gates.gate_in_float16, OWN),
    Fault("its sigmoid missing", gates.sigmoid_dropped, UNPAIRED),
    Fault("its sigmoid doubled", gates.sigmoid_doubled, UNPAIRED),
    Fault("hard sigmoid for sigmoid", gates.hard_sigmoid_for_sigmoid, AFTER, SE + CBAM),
    Fault("hard sigmoid of slope 0.2 for 1/6", gates.hard_sigmoid_of_another_slope, AFTER, MOBILE),
    Fault("hard sigmoid of slope 0.1667 for 1/6", gates.hard_sigmoid_slope_rounded, AFTER, MOBILE),
    Fault("gate always open", gates.gate_dropped, AFTER),
    Fault("gate applied twice", gates.gate_on_the_map_before, AFTER),
    Fault("each channel gets another one's gate", gates.gate_over_channels_reversed, AFTER),
    # the spatial gate
    Fault("average and maximum swapped", spatial.average_and_maximum_swapped, AFTER, CBAM),
    Fault("average taken twice", spatial.average_taken_twice, AFTER, CBAM),
    Fault("maximum taken of magnitudes", spatial.maximum_of_magnitudes, AFTER, WITH_SHORTCUTS),
    Fault("spatial gate sees the map before the channel gate", spatial.seen_before_the_channel_gate, AFTER, CBAM),
    Fault("spatial kernel flipped", spatial.spatial_kernel_flipped, AFTER, CBAM),
    Fault("spatial kernel one pixel off", spatial.kernel_one_pixel_off, AFTER, CBAM),
    Fault("spatial gate transposed", spatial.gate_transposed, LATER, CBAM),
    # between the gates
    Fault("padding on one side", wiring.padding_on_one_side, OWN),
    Fault("shortcut not added", wiring.shortcut_not_added, LATER, SE + WITH_SHORTCUTS),
    Fault("shortcut added before the gate", wiring.shortcut_before_the_gate, LATER, SE + WITH_SHORTCUTS),
    Fault("ReLU that leaks", wiring.leaky_relu, LATER),
    Fault("ReLU cut off at 6", wiring.relu_cut_off, LATER, SE + WITH_SHORTCUTS),
    Fault("Swish for HardSwish", wiring.swish_for_hard_swish, LATER, MOBILE),
    Fault("one map stored in float16", wiring.map_in_float16, LATER),
    Fault("one map overflows float16", wiring.map_overflows_float16, LATER),
    Fault("noise of 0.001 left in", wiring.noise_left_in, LATER),
    # what goes in and comes out
    Fault("normalized twice", outputs.normalized_twice, LATER),
    Fault("divided by 255 twice", outputs.pixels_to_255, LATER),
    Fault("BGR for RGB", outputs.colours_swapped, LATER, ("cbam_resnet18", *MOBILE)),
    Fault("image mirrored", outputs.image_mirrored, LATER),
    Fault("height and width swapped", outputs.height_and_width_swapped, LATER),
    Fault("outputs permuted", outputs.outputs_permuted, OUTPUT),
    Fault("one output's bias off by 0.001", outputs.one_output_bias_off, OUTPUT),
    Fault("NaN in one output", outputs.nan_in_one_output, OUTPUT),
    Fault("output in float16", outputs.output_in_float16, OUTPUT),
    Fault("softmax appended", outputs.softmax_appended, OUTPUT),
    Fault("batch reversed", outputs.batch_reversed, OUTPUT),
    Fault("batch shifted by one", outputs.images_shifted_in_the_batch, OUTPUT),
    Fault("first image for all of a batch", outputs.first_image_for_all, OUTPUT),
    Fault("batch baked to 1", outputs.batch_baked_to_one, FAILS),
)
