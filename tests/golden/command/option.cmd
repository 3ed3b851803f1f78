check lenet.cnn --bacth 3
