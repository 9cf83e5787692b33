"""Forgetting: images that the network unlearned again are the ones to keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def forgetting_scores(correct_en: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count how often each image went from right to wrong; those never right score highest.

    Parameters
    ----------
    correct_en : ndarray of shape (e, n), bool
        Whether the network was right about each image after each pass over them.

    Returns
    -------
    ndarray of shape (n,), float64
        Forgetting events, or e + 1 for an image that was never right. Highest kept first.

    Notes
    -----
    O(e·n). The paper looks at an image when it is in a batch, we after each pass over all of
    them: as often, and in eval mode.

    References
    ----------
    Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
    Learning", ICLR 2019, section 3 and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> forgetting_scores(np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 1]], bool))
    array([2., 5., 0.])
    """
    events_n = (correct_en[:-1] & ~correct_en[1:]).sum(0)
    return np.where(correct_en.any(0), events_n, len(correct_en) + 1).astype(np.float64)
