report net.cnn --format csv
