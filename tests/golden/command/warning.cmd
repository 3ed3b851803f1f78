check lenet.cnn -W no-first-kernal
