"""Plateaus."""
from unplateau.plateau.detect import Plateau, find_plateaus
