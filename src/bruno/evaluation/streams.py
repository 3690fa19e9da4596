"""The independent streams of random numbers that evaluations draw from one seed."""

from enum import IntEnum


class Stream(IntEnum):
    """Second key of :func:`~bruno.seeding.generator_for`, after the seed.

    The numbers are part of the protocol: another number means other episodes and other noise.
    """

    FEW_SHOT_TRIALS = 7002
    LIKELIHOOD_SETS = 7003
    LIKELIHOOD_NOISE = 7004
    REPORT_PICTURES = 7005
    ANOMALY_SETS = 7006
    ANOMALY_NOISE = 7007
    VIEWS = 7008
    POSE = 7009
    VIEW_PICTURES = 7010
    EXCHANGEABILITY = 7011
    GENERATION = 7012
    COMPARISON = 7013
    ANOMALY_STREAMS = 7020
    ANOMALY_STREAM_NOISE = 7021
    CORRELATION_IMAGES = 7022
    LATENTS = 7023
    ROBUSTNESS = 7024
    LIKELIHOOD_PROBES = 7025
