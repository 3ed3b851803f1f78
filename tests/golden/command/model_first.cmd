lenet.cnn check
