"""Training and validation images for Lightning's Trainer."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Subset

from ulcompress.captioning.captions import GUESSED
from ulcompress.data.batch import Batch, collate
from ulcompress.data.dataset import MAX_TRAINING_PIXELS, ImageDataset
from ulcompress.data.loader import ResumableLoader, begin_worker
from ulcompress.data.resident import ResidentImages
from ulcompress.data.sampler import WINDOW, EpochSampler
from ulcompress.data.sources import ImageSource, Survey, open_source


class ImageDataModule(LightningDataModule):
    """Batches of square crops and captions; training continues after an interruption with the very next batch.

    Args:
        train: Folder, image files, shards (`.tar`, `.tar.gz`, `.parquet`) by path or URL, `train-{000..099}.tar`,
            another pattern, or a list of these (see `locations.expand`).
        validation: Validation images by the same kinds of path; each is a central crop with its first caption.
        crop: Side of the crops in pixels, or a list of sides from which every batch draws one. Validation takes the
            first.
        batch_size: Images a batch, in each process.
        num_workers: Processes that load images, beside each training process.
        seed: Seed of the order of the images, of their crops and flips, and of the choice of captions.
        cache: Keep decoded images in memory, 3 bytes a pixel, in each process that loads images.
        validation_images: Use this many of the validation images, the first ones; None for all.
        zoom: Enlarge random crops by factors up to this (see `ImageDataset`).
        captions: File of JSON lines, or COCO's `captions_*.json`, with captions of training and validation images; None
            takes `<stem>.txt` beside each image.
        max_pixels: Images of more pixels are left out, with a warning.
        shorter_side: Images whose shorter side is longer, in pixels, are reduced to it before crops are drawn, JPEG
            while it is decoded (see `ImageDataset`); None for crops of the pixels as they are.
        caption_field: Field of `<stem>.json` beside each image, or column of Parquet, with its captions.
        resident: Keep the training images decoded on the device that trains, 3 bytes a pixel, and cut the crops there:
            for a set that fits into a GPU, which then waits for no process that decodes.
        crops_per_image: Let crops, flips and captions recur after this many epochs (see `ImageDataset`); None draws new
            ones for ever.
        window: Images among which those of shards elsewhere, or of compressed ones, are shuffled, after the shards; all
            others are shuffled as a whole.
    """

    def __init__(
        self,
        *,
        train: str | list[str] | None = None,
        validation: str | list[str] | None = None,
        crop: int | list[int] = 128,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        cache: bool = False,
        validation_images: int | None = None,
        zoom: float = 1.0,
        captions: str | None = None,
        max_pixels: int = MAX_TRAINING_PIXELS,
        caption_field: str | None = None,
        window: int = WINDOW,
        shorter_side: int | None = None,
        crops_per_image: int | None = None,
        resident: bool = False,
    ):
        super().__init__()
        counts = {"crop": crop, "batch_size": batch_size, "validation_images": validation_images}
        for name, count in (
            counts | {"max_pixels": max_pixels, "window": window, "crops_per_image": crops_per_image}
        ).items():
            if count is not None and (count == [] or min([count] if isinstance(count, int) else count) < 1):
                raise ValueError(f"got data.{name} {count}; give at least 1")
        self.train = train
        self.validation = validation
        self.crop = crop
        self._training: ImageDataset | None = None
        self._crops = [crop] if isinstance(crop, int) else list(crop)
        if shorter_side is not None and shorter_side < max(self._crops):
            raise ValueError(f"got data.shorter_side {shorter_side}; give at least the crop, {max(self._crops)}")
        self.shorter_side = shorter_side
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cache = cache
        self.validation_images = validation_images
        self.zoom = zoom
        self.captions = captions
        self.max_pixels = max_pixels
        self.caption_field = caption_field
        self.window = window
        self.crops_per_image = crops_per_image
        if resident and num_workers:
            raise ValueError(
                f"got data.num_workers {num_workers} for data.resident images, which no worker loads; give 0"
            )
        self.resident = resident

    def prepare_data(self) -> None:
        """Index the images in one process of each machine; the others take its index."""
        fn = self.trainer.state.fn if self.trainer else None
        if self.train is not None and fn == TrainerFn.FITTING:
            len(self._train_source)
        if self.validation is not None:
            len(self._validation_source)

    def setup(self, stage: str) -> None:
        """Raise ValueError for a fit without `train`, and for a validation without `validation`."""
        if stage == "fit":
            self._check_processes(len(self._train_source))
            if self.trainer is None or self.trainer.is_global_zero:
                self._survey  # noqa: B018, says what there is
        if stage in ("validate", "test") and self.validation is None:
            raise ValueError("no images to validate on; give data.validation, a folder or .tar shards for instance")

    def train_captions(self) -> list[str]:
        """Return the captions of the training images, of at most `sources.SURVEYED`; reads no image.

        Raises:
            ValueError: There is no `train`, or it holds no images.
        """
        return self._survey.captions

    def teardown(self, stage: str) -> None:
        """Warn of training images and shards that could not be read."""
        if stage != "fit" or self._training is None:
            return
        images, shards = self._training.left_out, self._train_source.left_out.get("shards", 0)
        if images or shards:
            left_out = f"{images} of {len(self._training)} training images" + (
                f", and {shards} shards" if shards else ""
            )
            rank_zero_warn(f"left out of this training, as they could not be read: {left_out}")

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled random crops, whole batches only; raises ValueError for less than one batch."""
        source = self._train_source
        processes, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if len(source) < self.batch_size * processes:
            raise ValueError(
                f"got {len(source)} training images, less than one batch of {self.batch_size} for each of "
                f"{processes} process(es); give a smaller data.batch_size or more images"
            )
        sampler = EpochSampler(
            size=len(source),
            seed=self.seed,
            num_replicas=processes,
            rank=rank,
            crops=self._crops,
            batch_size=self.batch_size,
            streams=source.streams,
            window=self.window,
        )
        self._training = self._dataset(source)
        if self.resident:
            return ResumableLoader(
                self._resident_images, sampler=sampler, drop_last=True, batch_size=self.batch_size, collate_fn=_as_it_is
            )
        return ResumableLoader(self._training, sampler=sampler, drop_last=True, **self._options())

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return the validation batches: a test is a validation under another name."""
        return self.val_dataloader()

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Return central crops in order, or an empty list when there are no validation images."""
        if self.validation is None:
            return []
        dataset = self._dataset(self._validation_source)
        count = min(len(dataset), self.validation_images or len(dataset))
        return DataLoader(Subset(dataset, range(count)), generator=torch.Generator(), **self._options())

    @cached_property
    def _resident_images(self) -> ResidentImages:
        assert self._training is not None, "set where the loader is made"
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return ResidentImages(dataset=self._training, crop=max(self._crops), device=device)

    @cached_property
    def _train_source(self) -> ImageSource:
        if self.train is None:
            raise ValueError("no images to train on; give data.train, a folder or .tar shards for instance")
        return self._source(self.train)

    @cached_property
    def _validation_source(self) -> ImageSource:
        assert self.validation is not None, "asked for where there is one"
        return self._source(self.validation)

    def _source(self, paths: str | list[str]) -> ImageSource:
        first = self.trainer is None or self.trainer.local_rank == 0
        return open_source(paths, self.captions, caption_field=self.caption_field, check=first)

    def _check_processes(self, images: int) -> None:
        """Raise ValueError where the first process sees another number of images than this one."""
        first = self.trainer.strategy.broadcast(images) if self.trainer and self.trainer.world_size > 1 else images
        if first != images:
            raise ValueError(f"this process sees {images} training images, the first one {first}; check data.train")

    @cached_property
    def _survey(self) -> Survey:
        """The captions of the training images; says how many images there are, where from, and what was left out."""
        source = self._train_source
        survey = source.survey()
        parts = [f"{survey.captioned} of {len(source)} training images have captions. They are from {source.origin()}."]
        if source.left_out:
            parts.append(f"Left out: {', '.join(f'{kind}: {count}' for kind, count in source.left_out.items())}.")
        rank_zero_info(" ".join(parts))
        if survey.guessed:
            more = f"; so for {len(survey.guessed) - 1} more" if len(survey.guessed) > 1 else ""
            rank_zero_warn(f"the caption file of {survey.guessed[0]} {GUESSED}{more}")
        return survey

    def _dataset(self, source: ImageSource) -> ImageDataset:
        return ImageDataset(
            source=source,
            crop=self._crops[0],
            seed=self.seed,
            cache=self.cache,
            zoom=self.zoom,
            max_pixels=self.max_pixels,
            shorter_side=self.shorter_side,
            crops_per_image=self.crops_per_image,
        )

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "collate_fn": collate,
            "worker_init_fn": begin_worker,
        }


def _as_it_is(batch: Batch) -> Batch:
    """Return a batch that the dataset has put together; a function by name, so that a loader can be copied."""
    return batch
