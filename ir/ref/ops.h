/* What the reference functions share: the arguments of one node's evaluation, and three views of a shape.
 * Nothing here owns memory; output arrays are allocated, zeroed, before an op's function is called. */
#ifndef CNNC_IR_REF_OPS_H
#define CNNC_IR_REF_OPS_H
#include "ir/ref/ref.h"

/* One node with its tensors. in[i] is NULL for an absent optional input; out[i].data is NULL for an output without meaning. */
typedef struct {
    const Node *node;
    const RefTensor *const *in;
    int n_in;
    RefTensor *out;
} RefCall;

/* One prototype per `ref` column of the table. */
#define OP(id, text, n_in, n_out, flags, attrs, shape, grad, lower, ref) void ref(const RefCall *c);
#include "ir/ops.def"
#undef OP

/* A shape seen from one axis: element (o, i, j) lies at (o * size + i) * inner + j. */
typedef struct { int64_t outer, size, inner; } AxisView;
static inline AxisView axis_view(const Shape *s, int axis)
{
    AxisView v = {1, s->dim[axis], 1};
    for (int d = 0; d < s->rank; d++)
        *(d < axis ? &v.outer : d == axis ? &(int64_t){0} : &v.inner) *= s->dim[d];
    return v;
}

/* A shape as planes of exactly three spatial axes (missing leading ones have size 1). */
typedef struct { int64_t planes, size[3], elements; } PlaneView;
static inline PlaneView plane_view(const Shape *s, int nd)
{
    PlaneView v = {1, {1, 1, 1}, 1};
    for (int d = 0; d < s->rank - nd; d++)
        v.planes *= s->dim[d];
    for (int d = 0; d < nd; d++)
        v.size[3 - nd + d] = s->dim[s->rank - nd + d];
    v.elements = v.size[0] * v.size[1] * v.size[2];
    return v;
}

/* Spatial attributes spread over three axes, missing leading ones filled with `missing`. */
typedef struct { int64_t v[3]; } Three;
static inline Three three(const int64_t *from, int nd, int64_t missing)
{
    Three t = {{missing, missing, missing}};
    for (int d = 0; d < nd; d++)
        t.v[3 - nd + d] = from[d];
    return t;
}

static inline int64_t elements(const RefTensor *t) { return shape_elements(&t->shape); }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline double square(double x) { return x * x; }
static inline double sigmoid(double x) { return x >= 0 ? 1 / (1 + __builtin_exp(-x)) : __builtin_exp(x) / (1 + __builtin_exp(x)); }
#endif
