fmt lenet.cnn
