report lenet.cnn -Dwidth=4 --format csv --batch 2
