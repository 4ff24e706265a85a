"""The norm of the gradient while a model is trained."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from ulcompress.training.sharding import whole
from ulcompress.training.zero import ZeroStrategy


class GradientNorm(Callback):
    """Logs `train/gradient-norm`, the Euclidean norm of an optimiser step's whole gradient, before it is clipped."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm in the steps that are logged; in the others it would cost time for nothing."""
        if not trainer._logger_connector.should_update_logs:
            return
        if isinstance(trainer.strategy, ZeroStrategy):
            norm = trainer.strategy.gradient_norm()
        else:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = whole(get_total_norm(gradients))
        pl_module.log("train/gradient-norm", norm)
