check lenet.cnn --dump bn_fold --no-simplify
