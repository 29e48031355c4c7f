cuda = hip = xpu = None
