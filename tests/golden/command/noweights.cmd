run lenet.cnn --input x.npy -o y.npy --weights none.pt
