from ulcompress.data.batch import Batch, collate
from ulcompress.data.dataset import ImageDataset
from ulcompress.data.loader import ResumableLoader
from ulcompress.data.module import ImageDataModule
from ulcompress.data.sampler import Draw, EpochSampler
from ulcompress.data.sources import ImageSource, Sample, open_source

__all__ = [
    "Batch",
    "Draw",
    "EpochSampler",
    "ImageDataModule",
    "ImageDataset",
    "ImageSource",
    "ResumableLoader",
    "Sample",
    "collate",
    "open_source",
]
