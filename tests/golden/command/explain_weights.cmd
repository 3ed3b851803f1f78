explain sobel.cnn --weights-of
