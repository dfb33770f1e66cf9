"""Files from outside, known by their SHA-256 and by the sources that can supply them."""
