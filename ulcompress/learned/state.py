"""Published weights: read without executing anything, and loaded into networks that must fit exactly."""

from collections.abc import Mapping

from torch import Tensor, nn

from ulcompress.files import read_torch


def read_state(path: str) -> dict[str, Tensor]:
    """Read a file of weights without executing anything in it; ValueError where it holds none."""
    try:
        state = read_torch(path)
    except ValueError as error:
        raise ValueError(
            f"cannot read the weights {path!r}: {reason_of(error)}; give the file as it was published"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path!r} holds no weights but a {type(state).__name__}; give the file as it was published")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], *, names: Mapping[str, str], source: str) -> None:
    """Load published weights into a network, of which none may be missing, left over or of another shape.

    Args:
        network: The network.
        state: Weights by their names in the file.
        names: For each name in the file that of the network's weight.
        source: The file, for errors.

    Raises:
        ValueError: The weights do not fit; the message says which is the first that does not.
    """
    wanted = network.state_dict()
    published = {ours: theirs for theirs, ours in names.items()}
    for ours, value in wanted.items():
        theirs = published.get(ours, ours)
        if theirs not in state:
            raise ValueError(f"{source} does not fit: {theirs} is missing")
        if state[theirs].shape != value.shape:
            found, expected = tuple(state[theirs].shape), tuple(value.shape)
            raise ValueError(f"{source} does not fit: {theirs} has the shape {found}, not {expected}")
    for theirs in state:
        if names.get(theirs) not in wanted:
            raise ValueError(f"{source} does not fit: {theirs} has no place in the network")
    network.load_state_dict({names[theirs]: value for theirs, value in state.items()})


def reason_of(error: Exception) -> str:
    """Return the message of an error in one line of at most some 200 letters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]} ..."
