check lenet.cnn --dump grpah
