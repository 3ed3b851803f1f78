check -W error ../warning/pasted.cnn --error-format short
