"""Distillation methods, one short file each, named after the method.

A method is a module of this package with `Settings` and `loss(batch, prepared, settings) -> scalar`,
the term that is added to the student's hash model. It may have `prepare(teacher, settings)`, called
once a run with what the teacher knows about the training set; what it returns is passed on to `loss`
(None without it). Adding a method is adding a file.
"""

from __future__ import annotations

from brcd_core.distillation.batch import Batch, TeacherKnowledge
from brcd_core.plugins import Plugins

methods = Plugins(__name__, kind="distillation method", needs=("Settings", "loss"), other_modules=("batch", "memory"))

__all__ = ["Batch", "TeacherKnowledge", "methods"]
