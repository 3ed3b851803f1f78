explain sobel.cnn edge --image ../../../examples/data/digits/0.png
