check lenet.cnn --batch
