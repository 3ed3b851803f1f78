build ../cuda/product.cnn -q --dump cuda --device cuda --precision bf16
