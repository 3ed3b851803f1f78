explain E0307
