from ulcompress.evaluation.anchors import ANCHORS, Anchor, Match, match
from ulcompress.evaluation.demo import demo
from ulcompress.evaluation.measuring.contestants import AnchorContestant, CodecContestant, Coded, Contestant, Setting
from ulcompress.evaluation.measuring.evaluation import Evaluation
from ulcompress.evaluation.measuring.measurement import Measurement
from ulcompress.evaluation.measuring.plan import Curve, Plan, name_images
from ulcompress.evaluation.measuring.run import Outcome, prepare, run
from ulcompress.evaluation.metrics import METRICS, Metric, Pair, PairMetric, SetMetric, ms_ssim, psnr
from ulcompress.evaluation.metrics.features import PooledFeatures
from ulcompress.evaluation.picture import Panel, side_by_side
from ulcompress.evaluation.results.bjontegaard import Delta, rate_delta
from ulcompress.evaluation.results.comparison import Comparison, Point, compare
from ulcompress.evaluation.results.results import gather, write_results
from ulcompress.evaluation.results.runs import compare_runs
from ulcompress.evaluation.seams import seam_ratio
from ulcompress.evaluation.seed import choose_seed, with_seed

__all__ = [
    "ANCHORS",
    "METRICS",
    "Anchor",
    "AnchorContestant",
    "CodecContestant",
    "Coded",
    "Comparison",
    "Contestant",
    "Curve",
    "Delta",
    "Evaluation",
    "Match",
    "Measurement",
    "Metric",
    "Outcome",
    "Pair",
    "PairMetric",
    "Panel",
    "Plan",
    "Point",
    "PooledFeatures",
    "SetMetric",
    "Setting",
    "choose_seed",
    "compare",
    "compare_runs",
    "demo",
    "gather",
    "match",
    "ms_ssim",
    "name_images",
    "prepare",
    "psnr",
    "rate_delta",
    "run",
    "seam_ratio",
    "side_by_side",
    "with_seed",
    "write_results",
]
