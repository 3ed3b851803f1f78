check lenet.cnn --epochs 3
