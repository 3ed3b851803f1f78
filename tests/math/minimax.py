#!/usr/bin/env python3
"""Derives the polynomial coefficients of codegen/cpu/math.c (needs numpy and mpmath; neither building nor testing runs it).

Each row: the function the polynomial stands for, the weight its error has in the final result, the interval, the degree.
Remez exchange gives the minimax polynomial; coefficients are then rounded to float32 one by one from the constant term up,
refitting the rest each time, so that the rounding of one is made up for by the others."""
import numpy as np
from mpmath import mp, mpf, exp, expm1, log, log1p, tanh, erf, erfc, sqrt, pi

mp.prec = 120

def remez(f, w, a, b, powers):
    n = len(powers)
    k = np.arange(n + 1)
    x = (a + b) / 2 - (b - a) / 2 * np.cos(np.pi * (k + 0.5) / (n + 1))
    grid = (a + b) / 2 - (b - a) / 2 * np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    fg = np.array([float(f(mpf(float(t)))) for t in grid])
    wg = np.array([float(w(mpf(float(t)))) for t in grid])
    c = None
    for _ in range(30):
        fx = np.array([float(f(mpf(float(t)))) for t in x])
        wx = np.array([float(w(mpf(float(t)))) for t in x])
        A = np.column_stack([x ** p for p in powers] + [(-1.0) ** np.arange(n + 1) / wx])
        c = np.linalg.solve(A, fx)[:n]
        err = (sum(ci * grid ** p for ci, p in zip(c, powers)) - fg) * wg
        # one extremum per run of equal sign
        runs = np.split(np.arange(len(grid)), np.where(np.diff(np.sign(err)) != 0)[0] + 1)
        peaks = [r[np.argmax(np.abs(err[r]))] for r in runs]
        while len(peaks) > n + 1:
            peaks.pop(0 if abs(err[peaks[0]]) < abs(err[peaks[-1]]) else -1)
        if len(peaks) < n + 1:
            break
        x = grid[peaks]
        hi, lo = max(abs(err[peaks])), min(abs(err[peaks]))
        if hi - lo < 1e-4 * hi:
            break
    return c, max(abs(err))

def derive(name, f, w, a, b, degree):
    fixed = []
    for k in range(degree + 1):
        rest = lambda t: f(t) - sum(mpf(float(c)) * t ** i for i, c in enumerate(fixed))
        c, e = remez(rest, w, a, b, list(range(k, degree + 1)))
        fixed.append(np.float32(c[0]))
    grid = np.linspace(a, b, 3000)
    err = max(abs((sum(mpf(float(c)) * mpf(float(t)) ** i for i, c in enumerate(fixed)) - f(mpf(float(t)))) * w(mpf(float(t)))) for t in grid)
    print(f"/* {name}: relative error {float(err):.1e} */")
    print("{" + ", ".join(f"{float(c):.9g}" for c in fixed) + "}")

H = 0.34658
tiny = lambda t: t if abs(t) > 1e-12 else mpf(10) ** -12
derive("exp: (e^r - 1 - r) / r^2", lambda r: (expm1(tiny(r)) - tiny(r)) / tiny(r) ** 2, lambda r: r * r / exp(r), -H, H, 4)
derive("expm1: (e^r - 1 - r) / r^2", lambda r: (expm1(tiny(r)) - tiny(r)) / tiny(r) ** 2, lambda r: r * r / expm1(tiny(r)), -H, H, 5)
derive("log: (log(1 + f) - f + f^2 / 2) / f^3", lambda f: (log1p(tiny(f)) - tiny(f) + tiny(f) ** 2 / 2) / tiny(f) ** 3,
       lambda f: f ** 3 / log1p(tiny(f)), -0.29290, 0.41422, 8)
derive("tanh: (tanh(x) / x - 1) / x^2 in z = x^2", lambda z: (tanh(sqrt(tiny(abs(z)))) / sqrt(tiny(abs(z))) - 1) / tiny(abs(z)),
       lambda z: z * sqrt(tiny(abs(z))) / tanh(sqrt(tiny(abs(z)))), 1e-9, 0.625 ** 2, 5)
derive("erf, small: erf(x) / x - 1 in z = x^2", lambda z: erf(sqrt(z)) / sqrt(z) - 1, lambda z: sqrt(z) / erf(sqrt(z)), 1e-9, 0.92 ** 2, 6)
derive("erf, large: -log(erfc(x))", lambda x: -log(erfc(x)), lambda x: erfc(x) / erf(x), 0.92, 4.0, 8)
