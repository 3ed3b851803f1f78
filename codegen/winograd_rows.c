/* The one-dimensional transforms of Winograd convolutions, written with the points' symmetry: a pair +-p shares its even and odd part.
 * In: a form and the values of a row. Out: expressions of a kernel, or numbers for weights known ahead.
 *
 * A form F(m, r) multiplies polynomials at a = m + r - 1 points, 0, +-p, .., infinity, by the matrices B' (inputs), G (taps) and
 * A' (results):   y = A' (G t . B' d).   The points 0, +-5/8, +-3/2, infinity have less rounding error than 0, +-1, +-2, infinity (for
 * F(4x4, 3x3) 1.7 times direct float32's, against 4 times). */
#include "codegen/winograd_impl.h"

#include <math.h>
#include <string.h>

enum { MAX_PAIRS = MAX_A / 2 - 1 };

const WinogradForm winograd_forms[WINOGRAD_FORMS] = {
    {"F(5x5,2x2)", 5, 2, 6, 1.4e-6, {0.625, 1.5}, false},
    {"F(3x3,2x2)", 3, 2, 4, 3e-7, {1}, false},
    {"F(4x4,3x3)", 4, 3, 6, 1.3e-6, {0.625, 1.5}, false},
    {"F(2x2,3x3)", 2, 3, 4, 3e-7, {1}, false},
    {"F(3x3,4x4)", 3, 4, 6, 1e-6, {0.625, 1.5}, false},
    {"F(4x4,5x5)", 4, 5, 8, 5e-6, {0.5, 1, 2}, false},
    {"F(2x2,5x5)", 2, 5, 6, 9.5e-7, {0.625, 1.5}, false},
};
const WinogradForm winograd_row_forms[WINOGRAD_ROW_FORMS] = {
    {"F(4x1,3x3)", 4, 3, 6, 1.3e-6, {0.625, 1.5}, true},
    {"F(2x1,3x3)", 2, 3, 4, 3e-7, {1}, true},
    {"F(4x1,5x5)", 4, 5, 8, 5e-6, {0.5, 1, 2}, true},
    {"F(2x1,5x5)", 2, 5, 6, 9.5e-7, {0.625, 1.5}, true},
};

static int64_t products(const WinogradForm *f, int64_t h, int64_t w) { return (h + f->m - 1) / f->m * ((w + f->m - 1) / f->m) * f->a * f->a; }

const WinogradForm *winograd_fewest_products(int r, double error, int64_t h, int64_t w)
{
    const WinogradForm *best = NULL;
    for (size_t i = 0; i < ARRAY_LEN(winograd_forms); i++) {
        const WinogradForm *f = &winograd_forms[i];
        if (f->r == r && f->error <= error && (!best || products(f, h, w) <= products(best, h, w)))
            best = f;
    }
    return best;
}

int64_t winograd_taps_inside(int64_t n, int r, int64_t pad, int64_t inputs)
{
    int64_t inside = 0;
    for (int64_t i = 0; i < n * r; i++)
        inside += i / r + i % r >= pad && i / r + i % r < pad + inputs;
    return inside;
}

static ExprId scaled(KernelList *l, Kernel *k, double c, ExprId x)
{
    return c == 1 ? x : expr_op(l, k, EX_MUL, x, expr_const(l, k, c), 0);
}

/* y + c * x; y == 0: c * x */
static ExprId plus(KernelList *l, Kernel *k, ExprId y, double c, ExprId x)
{
    if (!y)
        return scaled(l, k, c, x);
    if (c == 1 || c == -1)
        return expr_op(l, k, c == 1 ? EX_ADD : EX_SUB, y, x, 0);
    return expr_op(l, k, EX_ADD, y, scaled(l, k, c, x), 0);
}

static int pairs(const WinogradForm *f) { return f->a / 2 - 1; }

/* Coefficients of y^0.. of the product of (y - point[j]^2) over all j but `without`; returns the degree. */
static int polynomial(const WinogradForm *f, int without, double c[MAX_PAIRS + 1])
{
    int degree = 0;
    c[0] = 1;
    for (int j = 0; j < pairs(f); j++) {
        if (j == without)
            continue;
        c[degree + 1] = c[degree];
        for (int i = degree; i >= 0; i--)
            c[i] = (i ? c[i - 1] : 0) - f->point[j] * f->point[j] * c[i];
        degree++;
    }
    return degree;
}

/* SUM c[i] * d[2 i], the leading term (its coefficient is 1) first. */
static ExprId even_sum(KernelList *l, Kernel *k, const double *c, int degree, const ExprId *d)
{
    ExprId sum = d[2 * degree];
    for (int i = 0; i < degree; i++)
        sum = plus(l, k, sum, c[i], d[2 * i]);
    return sum;
}

/* o = B' d: the coefficients of x^i in the polynomial that is 0 at all points but one (x * all for infinity); signs and scales match
 * weight_scales. In three steps: d[0, 2, ..] give o[0] and the even part of each pair, then d[1, 3, ..] but the last its odd part. */
static void input_evens(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o, ExprId even[MAX_PAIRS])
{
    double c[MAX_PAIRS + 1];
    o[0] = even_sum(l, k, c, polynomial(f, -1, c), d);
    for (int i = 0; i < pairs(f); i++)
        even[i] = even_sum(l, k, c, polynomial(f, i, c), d + 2);
}

static void input_pairs(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o, const ExprId even[MAX_PAIRS])
{
    double c[MAX_PAIRS + 1];
    for (int i = 0; i < pairs(f); i++) {
        ExprId odd = even_sum(l, k, c, polynomial(f, i, c), d + 1);
        o[1 + 2 * i] = plus(l, k, even[i], f->point[i], odd);
        o[2 + 2 * i] = plus(l, k, even[i], -f->point[i], odd);
    }
}

static void input_last(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o)
{
    double c[MAX_PAIRS + 1];
    o[f->a - 1] = even_sum(l, k, c, polynomial(f, -1, c), d + 1);
}

void winograd_input_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *d, ExprId *o)
{
    ExprId even[MAX_PAIRS];
    input_evens(l, k, f, d, o, even);
    input_pairs(l, k, f, d, o, even);
    input_last(l, k, f, d, o);
}

/* y = A' s: y[i] = SUM over points p^i s, infinity into the last. A pair of points gives a part to the even i and one to the odd. */
static void output_pair(KernelList *l, Kernel *k, const ExprId *s, int pair, ExprId part[2][MAX_PAIRS])
{
    for (int odd = 0; odd < 2; odd++)
        part[odd][pair] = plus(l, k, s[1 + 2 * pair], odd ? -1 : 1, s[2 + 2 * pair]);
}

/* y[0] needs s[0] beside the parts, y[m - 1] needs s[a - 1]. */
static void output_sums(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *s, ExprId part[2][MAX_PAIRS], int odd, ExprId *y)
{
    for (int i = odd; i < f->m; i += 2) {
        y[i] = i == 0 ? s[0] : i == f->m - 1 ? s[f->a - 1] : 0;
        for (int j = 0; j < pairs(f); j++)
            y[i] = plus(l, k, y[i], pow(f->point[j], i), part[odd][j]);
    }
}

void winograd_output_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *s, ExprId *y)
{
    ExprId part[2][MAX_PAIRS];
    for (int i = 0; i < pairs(f); i++)
        output_pair(l, k, s, i, part);
    output_sums(l, k, f, s, part, 0, y);
    output_sums(l, k, f, s, part, 1, y);
}

/* Rows of G: u[0] = scale[0] f[0], u[1 + 2i], u[2 + 2i] = scale[1 + i] SUM (+-p)^t f[t], u[a - 1] = f[r - 1]. */
static void weight_scales(const WinogradForm *f, double scale[MAX_PAIRS + 1])
{
    double c[MAX_PAIRS + 1];
    polynomial(f, -1, c);
    scale[0] = 1 / c[0];
    for (int i = 0; i < pairs(f); i++) {
        double p2 = f->point[i] * f->point[i], at = 0;
        int degree = polynomial(f, i, c);
        for (int j = degree; j >= 0; j--)
            at = at * p2 + c[j];
        scale[1 + i] = 1 / (2 * p2 * at);
    }
}

/* u = G t for one row of r taps. */
void winograd_weight_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *tap, ExprId *u)
{
    double scale[MAX_PAIRS + 1];
    weight_scales(f, scale);
    u[0] = scaled(l, k, scale[0], tap[0]);
    u[f->a - 1] = tap[f->r - 1];
    for (int i = 0; i < pairs(f); i++) {
        ExprId part[2] = {0};   /* of even and odd powers */
        for (int t = 0; t < f->r; t++)
            part[t & 1] = plus(l, k, part[t & 1], scale[1 + i] * pow(f->point[i], t), tap[t]);
        u[1 + 2 * i] = plus(l, k, part[0], 1, part[1]);
        u[2 + 2 * i] = plus(l, k, part[0], -1, part[1]);
    }
}

/* z = A y: the transpose of winograd_output_row. */
void winograd_spread_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *y, ExprId *z)
{
    z[0] = y[0];
    z[f->a - 1] = y[f->m - 1];
    for (int i = 0; i < pairs(f); i++) {
        ExprId part[2] = {0};   /* of even and odd powers */
        for (int t = 0; t < f->m; t++)
            part[t & 1] = plus(l, k, part[t & 1], pow(f->point[i], t), y[t]);
        z[1 + 2 * i] = plus(l, k, part[0], 1, part[1]);
        z[2 + 2 * i] = plus(l, k, part[0], -1, part[1]);
    }
}

/* t = G' u: the transpose of winograd_weight_row. */
void winograd_taps_row(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *u, ExprId *tap)
{
    double scale[MAX_PAIRS + 1];
    ExprId part[2][MAX_PAIRS];
    weight_scales(f, scale);
    for (int i = 0; i < pairs(f); i++)
        for (int odd = 0; odd < 2; odd++)
            part[odd][i] = plus(l, k, u[1 + 2 * i], odd ? -1 : 1, u[2 + 2 * i]);
    for (int t = 0; t < f->r; t++) {
        tap[t] = t == 0 ? scaled(l, k, scale[0], u[0]) : t == f->r - 1 ? u[f->a - 1] : 0;
        for (int i = 0; i < pairs(f); i++)
            tap[t] = plus(l, k, tap[t], scale[1 + i] * pow(f->point[i], t), part[t & 1][i]);
    }
}

/* Column j of R in: half[i][j]. */
static void transform_column(KernelList *l, Kernel *k, const WinogradForm *f, WinogradRow row, const ExprId *in, int n_in, int j,
                             ExprId half[MAX_A][MAX_A], int n_out)
{
    ExprId line[MAX_A], o[MAX_A];
    for (int i = 0; i < n_in; i++)
        line[i] = in[i * n_in + j];
    row(l, k, f, line, o);
    for (int i = 0; i < n_out; i++)
        half[i][j] = o[i];
}

/* Columns `from` to `to` - 1 of all rows are known. */
static int known(int *order, int n, int rows, int columns, int from, int to, int step)
{
    for (int i = 0; i < rows; i++)
        for (int j = from; j < to; j += step)
            order[n++] = i * columns + j;
    return n;
}

/* Of a row that waits for more columns, two even parts stand for three halves. */
void winograd_input_square(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out, int *order)
{
    int a = f->a, n = 0;
    ExprId half[MAX_A][MAX_A], even[MAX_A][MAX_PAIRS];
    for (int j = 0; j < a; j += 2)
        transform_column(l, k, f, winograd_input_row, in, a, j, half, a);
    for (int i = 0; i < a; i++)
        input_evens(l, k, f, half[i], out + i * a, even[i]);
    n = known(order, n, a, a, 0, 1, 1);
    for (int j = 1; j < a - 1; j += 2)
        transform_column(l, k, f, winograd_input_row, in, a, j, half, a);
    for (int i = 0; i < a; i++)
        input_pairs(l, k, f, half[i], out + i * a, even[i]);
    n = known(order, n, a, a, 1, a - 1, 1);
    transform_column(l, k, f, winograd_input_row, in, a, a - 1, half, a);
    for (int i = 0; i < a; i++)
        input_last(l, k, f, half[i], out + i * a);
    known(order, n, a, a, a - 1, a, 1);
}

/* The parts of a pair of columns. Large tiles add and subtract the columns first: a few sums more, but fewer values wait. */
static void column_pair(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, int pair, ExprId part[MAX_A][2][MAX_PAIRS])
{
    enum { LARGE = 5 };
    int a = f->a, first = 1 + 2 * pair;
    ExprId half[MAX_A][MAX_A], column[MAX_A], y[MAX_A];
    if (f->m < LARGE) {
        transform_column(l, k, f, winograd_output_row, in, a, first, half, f->m);
        transform_column(l, k, f, winograd_output_row, in, a, first + 1, half, f->m);
        for (int i = 0; i < f->m; i++)
            output_pair(l, k, half[i], pair, part[i]);
        return;
    }
    for (int odd = 0; odd < 2; odd++) {
        for (int i = 0; i < a; i++)
            column[i] = plus(l, k, in[i * a + first], odd ? -1 : 1, in[i * a + first + 1]);
        winograd_output_row(l, k, f, column, y);
        for (int i = 0; i < f->m; i++)
            part[i][odd][pair] = y[i];
    }
}

/* Of a row, after the pairs, the odd results are made before the columns that only the even ones need: the first and, of an odd m, the
 * last. */
void winograd_output_square(KernelList *l, Kernel *k, const WinogradForm *f, const ExprId *in, ExprId *out, int *order)
{
    int a = f->a, m = f->m, n = 0;
    ExprId half[MAX_A][MAX_A], part[MAX_A][2][MAX_PAIRS];
    for (int p = 0; p < pairs(f); p++)
        column_pair(l, k, f, in, p, part);
    for (int odd = 1; odd >= 0; odd--) {
        if (!odd)
            transform_column(l, k, f, winograd_output_row, in, a, 0, half, m);
        if (odd != m % 2)
            transform_column(l, k, f, winograd_output_row, in, a, a - 1, half, m);
        for (int i = 0; i < m; i++)
            output_sums(l, k, f, half[i], part[i], odd, out + i * m);
        n = known(order, n, m, m, odd, m, 2);
    }
}

void winograd_square(KernelList *l, Kernel *k, const WinogradForm *f, WinogradRow row, const ExprId *in, int n_in, ExprId *out, int n_out)
{
    ExprId half[MAX_A][MAX_A];
    for (int j = 0; j < n_in; j++)
        transform_column(l, k, f, row, in, n_in, j, half, n_out);
    for (int i = 0; i < n_out; i++)
        row(l, k, f, half[i], out + i * n_out);
}

static void weight_matrix(const WinogradForm *f, double g[MAX_A][MAX_R])
{
    double scale[MAX_PAIRS + 1];
    weight_scales(f, scale);
    memset(g, 0, MAX_A * sizeof g[0]);
    g[0][0] = scale[0];
    g[f->a - 1][f->r - 1] = 1;
    for (int i = 0; i < pairs(f); i++)
        for (int t = 0; t < f->r; t++) {
            g[1 + 2 * i][t] = scale[1 + i] * pow(f->point[i], t);
            g[2 + 2 * i][t] = scale[1 + i] * pow(-f->point[i], t);
        }
}

void winograd_weights(const WinogradForm *f, const double *w, int64_t filters, int64_t channels, double *u)
{
    double g[MAX_A][MAX_R];
    weight_matrix(f, g);
    for (int64_t k = 0; k < filters; k++)
        for (int64_t c = 0; c < channels; c++) {
            const double *taps = w + (k * channels + c) * f->r * f->r;
            double half[MAX_A][MAX_R] = {{0}};
            for (int i = 0; i < f->a; i++)
                for (int s = 0; s < f->r; s++)
                    for (int t = 0; t < f->r; t++)
                        half[i][s] += g[i][t] * taps[t * f->r + s];
            for (int i = 0; i < f->a * f->r && f->rows; i++)
                u[(i * filters + k) * channels + c] = half[i / f->r][i % f->r];
            for (int i = 0; i < f->a && !f->rows; i++)
                for (int j = 0; j < f->a; j++) {
                    double sum = 0;
                    for (int s = 0; s < f->r; s++)
                        sum += half[i][s] * g[j][s];
                    u[((i * f->a + j) * filters + k) * channels + c] = sum;
                }
        }
}
