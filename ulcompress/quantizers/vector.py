"""Vector quantisation with a cosine codebook learned by moving averages."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ulcompress.entropy import EntropyModel, StagedEntropy
from ulcompress.entropy.staged import Captions
from ulcompress.functional import straight_through as gradients
from ulcompress.part import loadable
from ulcompress.quantizers.codebook import draw, fill, k_means, nearest, update
from ulcompress.quantizers.indexed import IndexQuantizer
from ulcompress.quantizers.running_mean import running_mean
from ulcompress.records import Quantized


@loadable()
class VectorQuantizer(IndexQuantizer):
    """Replaces each feature vector by the codebook entry with the largest cosine in a low-dimensional projection.

        features ─► linear ─► unit length ─► nearest entry ─► linear ─► features
                                                  │
                                               symbols

    Gradients pass straight through the choice, or turned by the rotation trick. Entries follow moving averages of the
    vectors that chose them, summed over ranks. Sources: van den Oord et al., NeurIPS 2017, appendix A.1 (moving
    averages); Yu et al., ICLR 2022, section 3.2 (projection and unit length).
    """

    encoder_arguments = frozenset({"decay", "revive_below", "kmeans_iterations", "rotation_trick"})
    loss_terms = frozenset({"commitment"})

    def __init__(
        self,
        *,
        codebook_size: int = 1024,
        channels: int = 320,
        dimension: int = 32,
        decay: float = 0.99,
        revive_below: float = 0.0,
        centred: bool = False,
        kmeans_iterations: int = 0,
        rotation_trick: bool = False,
        entropy: EntropyModel | StagedEntropy | None = None,
    ):
        """Build an empty codebook, which the first training batch fills.

        Args:
            codebook_size: Number of entries.
            channels: Channels of the features.
            dimension: Dimension of the projection, in which entries are compared with features.
            decay: Decay of the moving averages per training step.
            revive_below: An entry that is chosen fewer times than this a step, on average, is moved onto a vector of
                the batch; 0 leaves unused entries alone.
            centred: Subtract a running mean from the projected features before they are brought to unit length.
                Otherwise what all features have in common decides the cosine, and few entries are used.
            kmeans_iterations: Steps of k-means on the first training batch, starting from vectors drawn from it; with
                0 these vectors are the entries.
            rotation_trick: Rotate gradients from the direction of the code to that of the vector (`gradients.rotated`);
                otherwise they pass unchanged.
            entropy: Probability of the indices; static frequencies by default. The networks of a `ContextModel` learn
                from the term `rate/spatial`, which then needs a weight.
        """
        super().__init__(size=codebook_size, dimension=dimension, entropy=entropy)
        self.channels = channels
        self.decay = decay
        self.revive_below = revive_below
        self.centred = centred
        self.kmeans_iterations = kmeans_iterations
        self.pass_gradients = gradients.rotated if rotation_trick else gradients.straight_through
        self.project_in = nn.Linear(channels, dimension)
        self.project_out = nn.Linear(dimension, channels)
        self.usage: Tensor
        self.sums: Tensor
        self.filled: Tensor
        self.mean: Tensor
        self.register_buffer("usage", torch.ones(codebook_size))
        self.register_buffer("sums", F.normalize(torch.randn(codebook_size, dimension), dim=-1))
        self.register_buffer("filled", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(dimension))

    @property
    def entries(self) -> Tensor:
        """The entries, as `codebook`."""
        return self.codebook

    @property
    def saved_entries(self) -> Tensor:
        """The entries as a saved codec has them, whose weights are in half precision; on the CPU."""
        sums = self.sums.cpu().half().double()
        # Squares of half-precision numbers have 22 digits, so their sum in float64 is the same in any order.
        return (sums / sums.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)).float()

    @property
    def codebook(self) -> Tensor:
        """The entries, (codebook_size, dimension), of unit length."""
        return F.normalize(self.sums, dim=-1)

    def forward(self, features: Tensor, captions: Captions = None) -> Quantized:
        """Quantise features, (B, C, h, w); the term `commitment` is the mean of 1 - cosine."""
        with torch.autocast(features.device.type, enabled=False):
            projected = self.project_in(features.float().movedim(1, -1))
            vectors = F.normalize(projected - self._running_mean(projected), dim=-1)
            flat = vectors.detach().flatten(0, -2)
            if self.training and not self.filled:
                self._fill(flat)
            codebook = self.codebook
            indices = nearest(flat, codebook)
            if self.training:
                options = {"decay": self.decay, "revive_below": self.revive_below, "drawn": partial(draw, flat)}
                update(self.usage, self.sums, flat, indices, **options)
            symbols = indices.view(vectors.shape[:-1])
            if self.training:
                self.observe(symbols)
            codes = codebook[symbols]
            commitment = 1 - (vectors * codes).sum(-1).mean()
            quantized = self.project_out(self.pass_gradients(vectors, codes)).movedim(-1, 1)
        return Quantized(quantized, symbols, self.bits(symbols, captions), {"commitment": commitment})

    def dequantize(self, symbols: Tensor) -> Tensor:
        """Look up indices, (B, h, w), and project to features, (B, C, h, w)."""
        return self.project_out(self.codebook[symbols]).movedim(-1, 1)

    def _running_mean(self, projected: Tensor) -> Tensor:
        return running_mean(projected, self.mean, training=self.training and self.centred, first=not self.filled)

    @torch.no_grad()
    def _fill(self, flat: Tensor) -> None:
        entries = k_means(flat, draw(flat, self.size), self.kmeans_iterations)
        fill(self.usage, self.sums, entries, flat)
        self.filled.fill_(True)
