build tiles.cnn --dump tile --precision bf16 --cpu sapphirerapids
