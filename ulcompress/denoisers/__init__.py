from typing import TYPE_CHECKING

from ulcompress.functional.lazy import lazy_exports

if TYPE_CHECKING:
    from ulcompress.denoisers.base import Context, Denoiser
    from ulcompress.denoisers.consistency import ConsistencyEncoder
    from ulcompress.denoisers.guided_unet import GuidedUNet
    from ulcompress.denoisers.unet import UNet

__all__ = ["ConsistencyEncoder", "Context", "Denoiser", "GuidedUNet", "UNet"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    ConsistencyEncoder="consistency",
    Context="base",
    Denoiser="base",
    GuidedUNet="guided_unet",
    UNet="unet",
)
