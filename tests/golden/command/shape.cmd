check lenet.cnn --input-shape 1,x
