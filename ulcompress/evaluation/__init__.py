from ulcompress.evaluation.anchors import Anchor, encode_to
from ulcompress.evaluation.demo import demo
from ulcompress.evaluation.features import PooledFeatures
from ulcompress.evaluation.frechet import FrechetDistance
from ulcompress.evaluation.measurement import Measurement, measure, measure_all
from ulcompress.evaluation.metrics import ms_ssim, psnr
from ulcompress.evaluation.picture import Panel, side_by_side
from ulcompress.evaluation.seams import seam_ratio
from ulcompress.evaluation.seed import choose_seed, with_seed
from ulcompress.evaluation.table import markdown, summary, write_csv

__all__ = [
    "Anchor",
    "FrechetDistance",
    "Measurement",
    "Panel",
    "PooledFeatures",
    "choose_seed",
    "demo",
    "encode_to",
    "markdown",
    "measure",
    "measure_all",
    "ms_ssim",
    "psnr",
    "seam_ratio",
    "side_by_side",
    "summary",
    "with_seed",
    "write_csv",
]
