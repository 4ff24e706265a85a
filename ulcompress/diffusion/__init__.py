from ulcompress.diffusion.schedule import NoiseSchedule

__all__ = ["NoiseSchedule"]
