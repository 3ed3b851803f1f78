/* math.c: every operation of ir/scalars.def as LLVM instructions, on scalars and on vectors of any lane count.
 * In: an Emit and operand values (a vector operand makes scalar ones splats). Out: the value.
 * Relies on: rounding to nearest and IEEE semantics (no fast-math flags anywhere). Leaves: no library calls.
 * Idea: range reduction to a short interval, a minimax polynomial there (coefficients by tests/math/minimax.py), and a
 * reconstruction that is exact or nearly so. Everything is branch-free; special values come out by themselves or by a
 * select at the end. Written so that it also holds without fused multiply-add: products that must be exact are.
 *
 *   exp(x)      x = n ln 2 + r, |r| <= ln 2 / 2     2^n (1 + r + r^2 Q(r))
 *   log(x)      x = 2^e (1 + f), 1 + f in [sqrt 1/2, sqrt 2]     e ln 2 + f - f^2 / 2 + f^3 P(f)
 *   tanh(x)     |x| < 0.625: x + x^3 P(x^2); else 1 - 2 / (e^2|x| + 1)
 *   erf(x)      |x| < 0.92: x + x P(x^2); else 1 - e^-g(|x|), g = -log erfc
 *
 * NaN: arithmetic propagates it; comparisons with it are false; MIN and MAX return NaN when an operand is NaN (as PyTorch's
 * max pooling and relu do), at two extra instructions, or none when one operand is a constant. */
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

typedef LLVMValueRef V;

/* ---- vocabulary ---- */
static int lanes_of(V v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(LLVMTypeOf(v)) : 1; }
static V num(Emit *e, V like, double v) { return emit_splat(e, emit_f32(e, v), lanes_of(like)); }
static V inum(Emit *e, V like, int64_t v) { return emit_splat(e, LLVMConstInt(e->i32, (unsigned long long)v, true), lanes_of(like)); }
static V add(Emit *e, V a, V b) { return LLVMBuildFAdd(e->b, a, b, ""); }
static V sub(Emit *e, V a, V b) { return LLVMBuildFSub(e->b, a, b, ""); }
static V mul(Emit *e, V a, V b) { return LLVMBuildFMul(e->b, a, b, ""); }
static V quot(Emit *e, V a, V b) { return LLVMBuildFDiv(e->b, a, b, ""); }
static V fcmp(Emit *e, LLVMRealPredicate p, V a, V b) { return LLVMBuildFCmp(e->b, p, a, b, ""); }
static V sel(Emit *e, V cond, V a, V b) { return LLVMBuildSelect(e->b, cond, a, b, ""); }
static V bits(Emit *e, V a) { return LLVMBuildBitCast(e->b, a, emit_vec(e, e->i32, lanes_of(a)), ""); }
static V from_bits(Emit *e, V a) { return LLVMBuildBitCast(e->b, a, emit_vec(e, e->f32, lanes_of(a)), ""); }
static V to_float(Emit *e, V a) { return LLVMBuildSIToFP(e->b, a, emit_vec(e, e->f32, lanes_of(a)), ""); }
static V iadd(Emit *e, V a, V b) { return LLVMBuildAdd(e->b, a, b, ""); }

static V intrinsic(Emit *e, const char *name, V a, V b)
{
    LLVMTypeRef t = LLVMTypeOf(a);
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    V args[2] = {a, b};
    return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->cx, id, &t, 1), LLVMGetIntrinsicDeclaration(e->mod, id, &t, 1), args, b ? 2 : 1, "");
}
static V magnitude(Emit *e, V a) { return intrinsic(e, "llvm.fabs", a, NULL); }
static V with_sign(Emit *e, V a, V sign) { return intrinsic(e, "llvm.copysign", a, sign); }

/* c[0] + c[1] x + ... by Horner's rule. */
static V horner(Emit *e, V x, const double *c, int n)
{
    V sum = num(e, x, c[n - 1]);
    for (int i = n - 2; i >= 0; i--)
        sum = emit_fma(e, sum, x, num(e, x, c[i]));
    return sum;
}
#define HORNER(e, x, c) horner(e, x, c, (int)(sizeof(c) / sizeof *(c)))

/* 2^n as a float, n in -126..127. */
static V power_of_two(Emit *e, V n)
{
    return from_bits(e, LLVMBuildShl(e->b, iadd(e, n, inum(e, n, 127)), inum(e, n, 23), ""));
}

/* ---- exponentials ---- */
/* ln 2 = high + low: the high part has 10 significant bits, so that n * high is exact for |n| < 2^14. */
static const double ln2_high = 0.693359375, ln2_low = -2.12194440e-4;

typedef struct { V r, n, nf; } Reduced;   /* x = n ln 2 + r; n (i32) and nf (float) are the same number */

/* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; NaN passes through r, and n is then unused bits. */
static Reduced reduce_exp(Emit *e, V x)
{
    V magic = num(e, x, 12582912.0);
    V t = emit_fma(e, x, num(e, x, 1.44269504088896341), magic);
    Reduced out;
    out.nf = sub(e, t, magic);
    out.n = LLVMBuildSub(e->b, bits(e, t), inum(e, x, 0x4b400000), "");
    out.r = emit_fma(e, out.nf, num(e, x, -ln2_high), x);
    out.r = emit_fma(e, out.nf, num(e, x, -ln2_low), out.r);
    return out;
}

/* lo..hi, NaN kept (ordered comparisons). */
static V clamp(Emit *e, V x, double lo, double hi)
{
    x = sel(e, fcmp(e, LLVMRealOGT, x, num(e, x, hi)), num(e, x, hi), x);
    return sel(e, fcmp(e, LLVMRealOLT, x, num(e, x, lo)), num(e, x, lo), x);
}

/* e^x = 2^n (y + low), y in [0.7, 1.42), low what rounding y lost; x clamped to where the result is not 0 or infinite */
typedef struct { V y, low, n; } ExpParts;

static ExpParts exp_parts(Emit *e, V x)
{
    static const double q[] = {0.49999994, 0.166665167, 0.0416681021, 0.00836919248, 0.00138389028};
    V one = num(e, x, 1);
    Reduced d = reduce_exp(e, clamp(e, x, -106, 90));
    V p = emit_fma(e, mul(e, d.r, d.r), HORNER(e, d.r, q), d.r);
    ExpParts out = {.y = add(e, p, one), .n = d.n};
    out.low = sub(e, p, sub(e, out.y, one));
    return out;
}

/* 2^n y in two factors: reaches denormals and infinity. */
static V scale(Emit *e, V y, V n)
{
    V half = LLVMBuildAShr(e->b, n, inum(e, n, 1), "");
    return mul(e, mul(e, y, power_of_two(e, half)), power_of_two(e, LLVMBuildSub(e->b, n, half, "")));
}

static V emit_exp(Emit *e, V x)
{
    ExpParts p = exp_parts(e, x);
    return scale(e, p.y, p.n);
}

static V emit_expm1(Emit *e, V x)
{
    static const double q[] = {0.5, 0.166666657, 0.0416664667, 0.0083336439, 0.00139349792, 0.000196606372};
    V in = x;
    x = clamp(e, x, -18, 88.8);   /* n <= 128 */
    Reduced d = reduce_exp(e, x);
    V m1 = emit_fma(e, mul(e, d.r, d.r), HORNER(e, d.r, q), d.r);
    /* 2^n m1 + 2^n - 1, at half size so that n = 128 does not overflow early */
    V s = power_of_two(e, iadd(e, d.n, inum(e, x, -1)));
    V y = emit_fma(e, s, m1, sub(e, s, num(e, x, 0.5)));
    y = add(e, y, y);
    y = sel(e, fcmp(e, LLVMRealOEQ, d.nf, num(e, x, 0)), m1, y);
    return sel(e, fcmp(e, LLVMRealOLT, magnitude(e, in), num(e, x, 0x1p-25)), in, y);
}

/* z = e^-|x|: z / (1 + z) below 0, 1 / (1 + z) above. The roundings of z and of s = 1 + z are carried along (lost) and put
 * right at the end by one step: (t + lost_t) / (s + lost_s) = q + (lost_t - q lost_s) / s. */
static V emit_sigmoid(Emit *e, V x)
{
    V one = num(e, x, 1), zero = num(e, x, 0);
    ExpParts p = exp_parts(e, LLVMBuildFNeg(e->b, magnitude(e, x), ""));
    V z = scale(e, p.y, p.n), lost_z = scale(e, p.low, p.n);
    V s = add(e, one, z), lost_s = add(e, sub(e, z, sub(e, s, one)), lost_z);
    V negative = fcmp(e, LLVMRealOLT, x, zero);
    V q = quot(e, sel(e, negative, z, one), s);
    V lost = sub(e, sel(e, negative, lost_z, zero), mul(e, q, lost_s));
    V inverse = sel(e, negative, sub(e, one, q), q);   /* 1 / s, nearly */
    return emit_fma(e, lost, inverse, q);
}

/* ---- logarithms ---- */
typedef struct { V e, m; } Split;   /* e: exponent (i32); m in [sqrt 1/2, sqrt 2) */

static Split split_log(Emit *e, V x)
{
    V i = iadd(e, bits(e, x), inum(e, x, 0x3f800000 - 0x3f3504f3));
    Split s;
    s.e = LLVMBuildSub(e->b, LLVMBuildAShr(e->b, i, inum(e, x, 23), ""), inum(e, x, 127), "");
    s.m = from_bits(e, iadd(e, LLVMBuildAnd(e->b, i, inum(e, x, 0x7fffff), ""), inum(e, x, 0x3f3504f3)));
    return s;
}

/* n ln 2 + log(1 + f) + small; n a float with an integer value */
static V log_sum(Emit *e, V f, V n, V small)
{
    static const double p[] = {0.333333135, -0.250001669, 0.200022221, -0.16659373, 0.142096385, -0.12549518, 0.121066853, -0.109416343,
                               0.0540835299};
    V z = mul(e, f, f);
    V y = mul(e, mul(e, f, z), HORNER(e, f, p));
    y = add(e, y, small);
    y = emit_fma(e, n, num(e, f, ln2_low), y);
    y = emit_fma(e, z, num(e, f, -0.5), y);
    return emit_fma(e, n, num(e, f, ln2_high), add(e, f, y));
}

/* y, or what log(u) is outside 0 < u < inf: u the argument of the logarithm */
static V log_specials(Emit *e, V u, V y)
{
    V inf = num(e, u, INFINITY);
    y = sel(e, fcmp(e, LLVMRealUGE, u, inf), u, y);                                        /* inf and NaN stay */
    y = sel(e, fcmp(e, LLVMRealOEQ, u, num(e, u, 0)), num(e, u, -INFINITY), y);
    return sel(e, fcmp(e, LLVMRealOLT, u, num(e, u, 0)), num(e, u, NAN), y);
}

static V emit_log(Emit *e, V x)
{
    V small = fcmp(e, LLVMRealOLT, x, num(e, x, 0x1p-126));
    V scaled = sel(e, small, mul(e, x, num(e, x, 0x1p25)), x);
    Split s = split_log(e, scaled);
    V n = iadd(e, s.e, sel(e, small, inum(e, x, -25), inum(e, x, 0)));
    V y = log_sum(e, sub(e, s.m, num(e, x, 1)), to_float(e, n), num(e, x, 0));
    return log_specials(e, x, y);
}

static V emit_log1p(Emit *e, V x)
{
    V one = num(e, x, 1);
    V u = add(e, one, x);
    /* what rounding 1 + x lost, divided by u: the first term of log(u + lost) - log(u) */
    V lost = sel(e, fcmp(e, LLVMRealOLT, x, one), sub(e, x, sub(e, u, one)), sub(e, one, sub(e, u, x)));
    Split s = split_log(e, u);
    V near = LLVMBuildICmp(e->b, LLVMIntEQ, s.e, inum(e, x, 0), "");
    V f = sel(e, near, x, sub(e, s.m, one));
    V y = log_sum(e, f, to_float(e, s.e), sel(e, near, num(e, x, 0), quot(e, lost, u)));
    y = log_specials(e, u, y);
    return sel(e, fcmp(e, LLVMRealOLT, magnitude(e, x), num(e, x, 0x1p-25)), x, y);
}

static V emit_softplus(Emit *e, V x)
{
    V z = emit_exp(e, LLVMBuildFNeg(e->b, magnitude(e, x), ""));
    V positive = sel(e, fcmp(e, LLVMRealOGT, x, num(e, x, 0)), x, num(e, x, 0));
    return add(e, positive, emit_log1p(e, z));
}

/* ---- tanh and erf ---- */
static V emit_tanh(Emit *e, V x)
{
    static const double p[] = {-0.333333313, 0.133332208, -0.0539481789, 0.021706894, -0.00819001347, 0.00215268391};
    V a = magnitude(e, x), z = mul(e, x, x);
    V small = emit_fma(e, mul(e, x, z), HORNER(e, z, p), x);
    V t = emit_exp(e, add(e, a, a));
    V large = sub(e, num(e, x, 1), quot(e, num(e, x, 2), add(e, t, num(e, x, 1))));
    small = with_sign(e, small, x);   /* -0 */
    return sel(e, fcmp(e, LLVMRealOLT, a, num(e, x, 0.625)), small, with_sign(e, large, x));
}

static V emit_erf(Emit *e, V x)
{
    static const double p[] = {0.128379166, -0.376126289, 0.112836257, -0.0268557295, 0.00519239251, -0.000804951473, 7.99504851e-05};
    static const double g[] = {-0.000160396565, 1.12943411, 0.633543372, 0.108012222, -0.0248955395, 0.00405369746, -0.000396822521,
                               1.43531352e-05, 5.15424688e-07};
    V a = magnitude(e, x), z = mul(e, x, x);
    V small = with_sign(e, emit_fma(e, x, HORNER(e, z, p), x), x);
    V far = sel(e, fcmp(e, LLVMRealOGT, a, num(e, x, 4)), num(e, x, 4), a);   /* NaN stays */
    V tail = emit_exp(e, LLVMBuildFNeg(e->b, HORNER(e, far, g), ""));
    V large = with_sign(e, sub(e, num(e, x, 1), tail), x);
    return sel(e, fcmp(e, LLVMRealOLT, a, num(e, x, 0.92)), small, large);
}

/* ---- selection ---- */
/* compare-and-select returns its second operand when unordered (as the hardware does), so a constant goes first. */
static V emit_extreme(Emit *e, LLVMRealPredicate wins, V a, V b)
{
    if (LLVMIsConstant(a) || LLVMIsConstant(b)) {
        if (!LLVMIsConstant(a)) {
            V t = a;
            a = b;
            b = t;
        }
        return sel(e, fcmp(e, wins, a, b), a, b);
    }
    V best = sel(e, fcmp(e, wins, a, b), a, b);
    return sel(e, fcmp(e, LLVMRealUNO, a, a), a, best);
}

static V emit_to_int(Emit *e, V a)
{
    LLVMTypeRef types[2] = {emit_vec(e, e->i32, lanes_of(a)), LLVMTypeOf(a)};
    unsigned id = LLVMLookupIntrinsicID("llvm.fptosi.sat", 15);
    return LLVMBuildCall2(e->b, LLVMIntrinsicGetType(e->cx, id, types, 2), LLVMGetIntrinsicDeclaration(e->mod, id, types, 2), &a, 1, "");
}

static V emit_to_float(Emit *e, V a)
{
    LLVMTypeRef t = LLVMTypeOf(a), elem = LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetElementType(t) : t;
    if (elem == e->i1)
        return LLVMBuildUIToFP(e->b, a, emit_vec(e, e->f32, lanes_of(a)), "");
    return to_float(e, a);
}

static V widen(Emit *e, V v, int lanes) { return v && lanes_of(v) == 1 ? emit_splat(e, v, lanes) : v; }

LLVMValueRef emit_scalar_op(Emit *e, ExprOp op, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c)
{
    int lanes = lanes_of(a);
    if (b && lanes_of(b) > lanes)
        lanes = lanes_of(b);
    if (c && lanes_of(c) > lanes)
        lanes = lanes_of(c);
    a = widen(e, a, lanes);
    b = widen(e, b, lanes);
    c = widen(e, c, lanes);
    LLVMBuilderRef B = e->b;
    switch (op) {
    case EX_NEG: return LLVMBuildFNeg(B, a, "");
    case EX_ADD: return add(e, a, b);
    case EX_SUB: return sub(e, a, b);
    case EX_MUL: return mul(e, a, b);
    case EX_DIV: return quot(e, a, b);
    case EX_MIN: return emit_extreme(e, LLVMRealOLT, a, b);
    case EX_MAX: return emit_extreme(e, LLVMRealOGT, a, b);
    case EX_ABS: return magnitude(e, a);
    case EX_SQRT: return intrinsic(e, "llvm.sqrt", a, NULL);
    case EX_EXP: return emit_exp(e, a);
    case EX_EXPM1: return emit_expm1(e, a);
    case EX_LOG: return emit_log(e, a);
    case EX_LOG1P: return emit_log1p(e, a);
    case EX_TANH: return emit_tanh(e, a);
    case EX_ERF: return emit_erf(e, a);
    case EX_SIGMOID: return emit_sigmoid(e, a);
    case EX_SOFTPLUS: return emit_softplus(e, a);
    case EX_LT: return fcmp(e, LLVMRealOLT, a, b);
    case EX_LE: return fcmp(e, LLVMRealOLE, a, b);
    case EX_GT: return fcmp(e, LLVMRealOGT, a, b);
    case EX_GE: return fcmp(e, LLVMRealOGE, a, b);
    case EX_EQ: return fcmp(e, LLVMRealOEQ, a, b);
    case EX_AND: return LLVMBuildAnd(B, a, b, "");
    case EX_OR: return LLVMBuildOr(B, a, b, "");
    case EX_SEL: return sel(e, a, b, c);
    case EX_IADD: return iadd(e, a, b);
    case EX_IMUL: return LLVMBuildMul(B, a, b, "");
    case EX_IXOR: return LLVMBuildXor(B, a, b, "");
    case EX_ISHR: return LLVMBuildLShr(B, a, b, "");
    case EX_ULT: return LLVMBuildICmp(B, LLVMIntULT, a, b, "");
    case EX_IEQ: return LLVMBuildICmp(B, LLVMIntEQ, a, b, "");
    case EX_TOINT: return emit_to_int(e, a);
    case EX_TOFLOAT: return emit_to_float(e, a);
    default: BUG("scalar operation %d is not one of ir/scalars.def", (int)op);
    }
}
