predict lenet.cnn x.png
