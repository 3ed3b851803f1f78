check nothing.cnn
