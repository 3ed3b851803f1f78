chekc lenet.cnn
