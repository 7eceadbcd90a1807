"""Where items come from: vectors or tokens with known factors."""
