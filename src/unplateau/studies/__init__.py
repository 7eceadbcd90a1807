"""Studies: runs planned beforehand, what each account of plateaus predicts of them, and what they have shown."""

from unplateau.studies.amplify import Amplify
from unplateau.studies.base import Study
from unplateau.studies.controls import Controls
from unplateau.studies.crossing import Crossing
from unplateau.studies.drowned import Drowned
from unplateau.studies.figures import FIGURES
from unplateau.studies.prediction import Prediction
from unplateau.studies.transplant import Transplant

STUDIES: dict[str, Study] = {
    study.name: study for study in (Crossing(), Controls(), Transplant(), Prediction(), Amplify(), Drowned(), *FIGURES)
}
