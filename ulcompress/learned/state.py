"""Published weights: read without executing anything, and loaded into networks that must fit exactly."""

from collections.abc import Callable, Mapping

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ulcompress.files import read_torch


def read_state(path: str) -> dict[str, Tensor]:
    """Read a file of weights, of torch or safetensors, without executing anything; ValueError where it holds none."""
    try:
        state = load_file(path) if path.endswith(".safetensors") else read_torch(path)
    except (ValueError, OSError, SafetensorError) as error:
        raise ValueError(
            f"cannot read the weights {path!r}: {reason_of(error)}; give the file as it was published"
        ) from error
    for key in ("state_dict", "module"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path!r} holds no weights but a {type(state).__name__}; give the file as it was published")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], *, name: Callable[[str], str], source: str) -> None:
    """Load published weights into a network, of which none may be missing, left over or of another shape.

    Args:
        network: The network.
        state: Weights by their names in the file.
        name: Returns the name in the file of one of the network's weights.
        source: The file, for errors.

    Raises:
        ValueError: The weights do not fit; the message names the first that does not.
    """
    wanted = {ours: (name(ours), value.shape) for ours, value in network.state_dict().items()}
    for theirs, shape in wanted.values():
        if theirs not in state:
            raise ValueError(f"{source} does not fit: {theirs} is missing")
        if state[theirs].shape != shape:
            found = tuple(state[theirs].shape)
            raise ValueError(f"{source} does not fit: {theirs} has the shape {found}, not {tuple(shape)}")
    taken = {theirs for theirs, _ in wanted.values()}
    if left := next((theirs for theirs in state if theirs not in taken), None):
        raise ValueError(f"{source} does not fit: {left} has no place in the network")
    network.load_state_dict({ours: state[theirs] for ours, (theirs, _) in wanted.items()})


def reason_of(error: Exception) -> str:
    """Return the message of an error in one line of at most some 200 letters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]} ..."
