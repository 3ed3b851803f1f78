explain net.cnn
