report lenet.cnn --input-shape=1x28x28 --format json
