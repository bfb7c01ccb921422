"""What random cases are held to, and what gradients are measured by."""

import numpy as np

from gpt2_core.parity import TOLERANCE, compare

# What is left of a loss of about 1 where nothing depends on the weights, over the tolerance
NOISE = {"float64": 1e-7, "float32": 1e-3}


def measured_by_the_largest(gradients, expected, dtype):
    """Returns gradients, those that are to be measured by the largest of all joined into one.

    In float64 those that vanish: a loss does not depend on some weights at all, as on a bias that a softmax cancels,
    and what is left of them is rounding. In float32 all: a gradient is a sum whose terms cancel.
    """
    largest = max(np.abs(x).max(initial=0) for x in expected.values())
    below = largest * 1e-13 + 1e-15 if dtype == "float64" else np.inf
    small = [name for name, x in expected.items() if np.abs(x).max(initial=0) <= below]
    assert gradients.keys() == expected.keys()
    rest = {f"gradient {name}": x for name, x in gradients.items() if name not in small}
    joined = [*(gradients[name].ravel() for name in small), [max(largest, NOISE[dtype])]]
    return rest | {"gradients joined": np.concatenate(joined)}


def beyond(ours, theirs, exact, dtype):
    """Returns the Differences of `ours` from `theirs` that pass the tolerance of a type.

    It is four times as far as `theirs` lies from `exact`, what it gives in float64, where that is further: where terms
    cancel, no one is nearer.
    """
    rounding = {} if exact is None else {d.name: d.relative for d in compare(theirs, exact)}
    return [d for d in compare(ours, theirs) if not d.within(max(TOLERANCE[dtype], 4 * rounding.get(d.name, 0)))]
