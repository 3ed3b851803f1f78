explain lenet.cnn conv3
