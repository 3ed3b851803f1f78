check lenet.cnn lenet.cnn
