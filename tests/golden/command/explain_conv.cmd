explain book.cnn conv3
