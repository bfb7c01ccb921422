"""What gradients are measured by."""

import numpy as np

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
