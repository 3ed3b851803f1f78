bench wide.cnn --train --dump tile --cpu x86-64-v4
