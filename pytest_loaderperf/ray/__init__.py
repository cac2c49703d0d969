"""Measuring on a cluster of Ray: the waits of a Ray Train loop, and a loader on many workers."""

from pytest_loaderperf.ray.train import TrainLoop, measure_in_ray_train

__all__ = ["TrainLoop", "measure_in_ray_train"]
