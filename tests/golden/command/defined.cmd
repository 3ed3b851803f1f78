check --dump ast lenet.cnn -D width
