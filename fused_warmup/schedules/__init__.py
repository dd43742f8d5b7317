"""Schedules: learning rate factors as data, evaluated in closed form at any step."""

from .schedule import Schedule
from .segment import Kind, PastEnd, Segment

__all__ = ["Kind", "PastEnd", "Schedule", "Segment"]
