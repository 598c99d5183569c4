"""An evaluation as a page to look at and to pass on: one HTML file with everything in it."""

from seglab.evaluation.report.page import Baseline, write_report
from seglab.evaluation.report.pictures import Pictures, pictures_of_masks, pictures_of_model

__all__ = ["Baseline", "Pictures", "pictures_of_masks", "pictures_of_model", "write_report"]
