from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unplateau.items.shapes3d.scene import ORIENTATIONS, SCALES, SOLIDS, SURFACES, camera, render

SHAPES = ("cube", "cylinder", "sphere", "capsule")
SKY, FLOOR, WALL, OBJECT = range(len(SURFACES))
ALL_SHAPES = pytest.mark.parametrize("shape", range(len(SHAPES)), ids=SHAPES)

shapes = st.integers(0, len(SHAPES) - 1)
sizes = st.sampled_from(SCALES)
angles = st.sampled_from(ORIENTATIONS)


@settings(max_examples=25, deadline=None)
@given(size=sizes, shape=shapes, angle=angles)
def test_maps_partition_every_pixel(size: float, shape: int, angle: float) -> None:
    maps = render(16, size, shape, angle)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.sum(axis=0).max() <= 1 + 1e-6
    assert maps.sum(axis=0).min() > 0.4  # nothing is darker than ambient light


@settings(max_examples=20, deadline=None)
@given(size=sizes, shape=shapes, angle=angles)
def test_the_object_stands_in_the_middle_of_a_room_open_above(size: float, shape: int, angle: float) -> None:
    maps = render(32, size, shape, angle)
    assert np.all(maps[SKY, 0] == 1)
    assert np.all(maps[FLOOR, -1] > 0)
    assert maps[OBJECT, 21, 16] > 0.4
    assert maps[WALL, 12, 0] > 0.4
    assert maps[WALL, 12, -1] > 0.4
    assert not maps[OBJECT, :, [0, -1]].any()


@ALL_SHAPES
def test_a_larger_object_covers_more(shape: int) -> None:
    covered = [(render(32, size, shape, 0.0)[OBJECT] > 0).sum() for size in SCALES]
    assert covered == sorted(set(covered))


@settings(max_examples=20, deadline=None)
@given(size=sizes, shape=shapes, angle=angles)
def test_turning_the_other_way_mirrors_the_geometry(size: float, shape: int, angle: float) -> None:
    seen, mirrored = render(32, size, shape, angle) > 0, render(32, size, shape, -angle)[:, :, ::-1] > 0
    assert np.mean(seen != mirrored) < 0.01  # only ties on edges may differ


@ALL_SHAPES
def test_the_light_comes_from_the_left_so_shading_is_not_mirrored(shape: int) -> None:
    floor = render(64, 1.0, shape, 0.0)[FLOOR]
    difference = floor - floor[:, ::-1]
    right = difference[:, 32:]
    assert right.min() < -0.2  # the cast shadow, dark on the right of the object
    assert right.max() < 0.2


@ALL_SHAPES
def test_every_shape_and_every_angle_looks_different(shape: int) -> None:
    passes = [render(32, 1.0, other, angle) for other in range(len(SHAPES)) for angle in (0.0, ORIENTATIONS[1])]
    own = render(32, 1.0, shape, 0.0)
    assert sum(np.abs(other - own).max() < 0.1 for other in passes) == 1


@settings(max_examples=40, deadline=None)
@given(size=sizes, shape=shapes, angle=angles)
def test_rays_meet_the_solid_on_its_near_side(size: float, shape: int, angle: float) -> None:
    eye, rays = camera(24, angle)
    solid = SOLIDS[shape](size)
    distance = solid.distance(eye, rays)
    hit = np.isfinite(distance)
    points = eye + distance[hit, None] * rays[hit]
    normal = solid.normal(points)
    assert hit.any()
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-6)
    assert np.all(np.einsum("ij,ij->i", normal, rays[hit]) < 1e-6)
    assert points[:, 2].min() > -1e-6
    # Just outside the surface a ray along the normal never comes back: the solid is convex.
    assert np.all(np.isinf(solid.distance(points + 1e-6 * normal, normal)))


def test_a_sphere_is_met_at_its_radius() -> None:
    radius = 0.791
    distance = SOLIDS[SHAPES.index("sphere")](1.0).distance(np.array([0.0, 0.0, 5.0]), np.array([[0.0, 0.0, -1.0]]))
    np.testing.assert_allclose(distance, [5 - 2 * radius])
