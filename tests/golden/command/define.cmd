check lenet.cnn -D widht=3
