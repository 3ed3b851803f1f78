bench recompute.cnn --train --recompute --dump recompute
