explain sobel.cnn top --image ../../../examples/data/digits/0.png --pixel 8,13
