explain net.cnn conv
