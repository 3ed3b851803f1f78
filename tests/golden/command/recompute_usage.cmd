bench wide.cnn --recompute
