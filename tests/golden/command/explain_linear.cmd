explain book.cnn Linear
