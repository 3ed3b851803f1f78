check --error-format=short ../error/input_missing.cnn
