explain warnings
