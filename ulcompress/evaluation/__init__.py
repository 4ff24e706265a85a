from ulcompress.evaluation.anchors import Anchor, encode_to
from ulcompress.evaluation.demo import demo
from ulcompress.evaluation.features import PooledFeatures
from ulcompress.evaluation.frechet import FrechetDistance
from ulcompress.evaluation.measurement import Measurement, measure, measure_all
from ulcompress.evaluation.metrics import ms_ssim, psnr
from ulcompress.evaluation.picture import Panel, side_by_side
from ulcompress.evaluation.table import markdown, summary, write_csv

__all__ = [
    "Anchor",
    "FrechetDistance",
    "Measurement",
    "Panel",
    "PooledFeatures",
    "demo",
    "encode_to",
    "markdown",
    "measure",
    "measure_all",
    "ms_ssim",
    "psnr",
    "side_by_side",
    "summary",
    "write_csv",
]
