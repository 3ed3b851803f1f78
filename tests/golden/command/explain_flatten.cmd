explain book.cnn Flatten
