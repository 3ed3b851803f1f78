check ../error/input_missing.cnn --error-format json
