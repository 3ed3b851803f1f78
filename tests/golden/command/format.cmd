report lenet.cnn --format jsn
