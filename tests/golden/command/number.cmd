check lenet.cnn --batch=x
