def write_quantized(folder): pass
