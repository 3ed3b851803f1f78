/* Shape rules of the layers with weights and windows: convolution, linear, pooling, batch normalisation.
 * In: the node's input shapes, perhaps partly unknown. Out: its output and parameter shapes; errors.
 * Invariant: axis 0 is the batch, axis 1 the channels, the rest are spatial.
 * Idea: PYTORCH.md 1.2's formulas; every error gives both numbers, the arithmetic, the place of the other number, the
 * corrected text and PyTorch's own sentence. */
#include "passes/shape.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- shared by windows ---- */

static const char *const WANTS[] = {"features [F]", "a signal [C, L]", "pictures [C, H, W]", "volumes [C, D, H, W]"};

static const char *window_sizes(const Infer *t, const Window *w, int nd, bool kernel)
{
    int64_t dim[MAX_SPATIAL];
    for (int i = 0; i < nd; i++)
        dim[i] = kernel ? window_reach(&w[i]) : w[i].in + w[i].lo + w[i].hi;
    return dims_text(t->g->arena, dim, nd, " x ");
}

/* What would fit: the largest kernel, or the padding that is missing. */
static void help_too_small(Infer *t, const Window *w, int nd)
{
    int64_t missing = 0, most = INT64_MAX;
    for (int i = 0; i < nd; i++) {
        int64_t room = w[i].in + w[i].lo + w[i].hi, kernel = (room - 1) / w[i].dilation + 1;
        missing = window_reach(&w[i]) - room > missing ? window_reach(&w[i]) - room : missing;
        most = kernel < most ? kernel : most;
    }
    if (t->n->op == OP_CONV)
        diag_help(t->d, "a kernel of at most %" PRId64 " fits here; or write padding=%" PRId64 ", or shrink less before it", most,
                  w[0].lo + (missing + 1) / 2);
    else
        diag_help(t->d, "the picture is used up: leave this layer out, or shrink less before it");
}

static void does_not_fit(Infer *t, const Window *w, int nd)
{
    Arena *a = t->g->arena;
    Shape in = infer_in(t, 0);
    int axis = 0;
    while (axis + 1 < nd && window_output(&w[axis]) > 0 && w[axis].in + w[axis].lo + w[axis].hi >= window_reach(&w[axis]))
        axis++;
    const char *kernel = window_sizes(t, w, nd, true), *image = window_sizes(t, w, nd, false);
    bool conv = t->n->op == OP_CONV, padded = w[axis].lo + w[axis].hi > 0, dilated = w[axis].dilation > 1;
    diag_error(t->d, infer_arg(t, "kernel_size"), conv ? "E0304" : "E0309", "%s's %s window%s does not fit its %s input%s: %s",
               infer_type(t), kernel, dilated ? " (dilation counted)" : "", image, padded ? " (padding counted)" : "",
               window_formula(a, &w[axis]));
    note_origin(t, t->n->in[0]);
    note_use(t);
    help_too_small(t, w, nd);
    if (conv) {
        diag_torch(t->d,
                   "Calculated padded input size per channel: (%s). Kernel size: (%s). Kernel size can't be greater than actual "
                   "input size",
                   image, kernel);
    } else if (nd == 2) {
        int64_t h = window_output(&w[0]), q = window_output(&w[1]), c = in.dim[1];
        diag_torch(t->d,
                   "Given input size: (%" PRId64 "x%" PRId64 "x%" PRId64 "). Calculated output size: (%" PRId64 "x%" PRId64
                   "x%" PRId64 "). Output size is too small",
                   c, in.dim[2], in.dim[3], c, h, q);
    } else if (t->n->op == OP_MAXPOOL && nd == 1) {
        diag_torch(t->d, "max_pool1d() Invalid computed output size: %" PRId64, window_output(&w[0]));
    }
}

/* Fills out->dim[2..] from the windows; false when one does not fit (told). */
static bool window_dims(Infer *t, const Window *w, int nd, Shape *out)
{
    bool fits = true;
    for (int i = 0; i < nd; i++) {
        if (w[i].in == UNKNOWN) {
            out->dim[i + 2] = UNKNOWN;
            continue;
        }
        out->dim[i + 2] = window_output(&w[i]);
        bool narrow = t->n->op == OP_CONV && w[i].in + w[i].lo + w[i].hi < window_reach(&w[i]);
        fits = fits && out->dim[i + 2] >= 1 && !narrow;
    }
    bool all = true;
    for (int i = 0; i < nd; i++)
        all = all && w[i].in != UNKNOWN;
    if (!fits) {
        if (all)
            does_not_fit(t, w, nd);
        for (int i = 0; i < nd; i++)
            out->dim[i + 2] = UNKNOWN;
    }
    return fits;
}

static Shape windows_unknown(const Infer *t, int nd, int64_t channels)
{
    Shape s = {.rank = nd + 2, .dim = {t->g->batch, channels}};
    for (int i = 0; i < nd; i++)
        s.dim[i + 2] = UNKNOWN;
    return s;
}

/* ---- convolution ---- */

/* True: the input was written channels last, so that its rows and columns mean nothing either. */
static bool wrong_channels(Infer *t, const Shape *in)
{
    const ConvAttrs *c = &t->n->attrs.conv;
    Arena *a = t->g->arena;
    int64_t given = c->in_channels, got = in->dim[1];
    diag_error(t->d, infer_arg(t, "in_channels"), "E0303", "%s expects %" PRId64 " input channels but receives %" PRId64,
               infer_type(t), given, got);
    note_origin(t, t->n->in[0]);
    note_use(t);
    const Node *from = graph_node(t->g, shape_origin(t->g, t->n->in[0]));
    bool channels_last = from->op == OP_INPUT && in->rank >= 3 && in->dim[in->rank - 1] == given;
    if (channels_last) {
        Shape first = *in;
        first.dim[1] = given;
        for (int i = 2; i < in->rank; i++)
            first.dim[i] = in->dim[i - 1];
        diag_help(t->d, "channels come first: write input(%s)", dims_text(a, first.dim + 1, in->rank - 1, ", "));
    } else {
        help_argument(t, "in_channels", arena_printf(a, "%" PRId64, got));
    }
    int64_t w[MAX_SPATIAL + 2] = {c->out_channels, given / (c->groups > 0 ? c->groups : 1)};
    memcpy(w + 2, c->kernel, sizeof *w * (size_t)c->nd);
    if (!shape_is_known(in))
        return channels_last;
    diag_torch(t->d,
               "Given groups=%" PRId64 ", weight of size [%s], expected input%s to have %" PRId64 " channels, but got %" PRId64
               " channels instead",
               c->groups, dims_text(a, w, c->nd + 2, ", "), infer_sizes(t, in), given, got);
    return channels_last;
}

static bool check_groups(Infer *t)
{
    const ConvAttrs *c = &t->n->attrs.conv;
    bool in_bad = c->in_channels > 0 && c->in_channels % c->groups != 0, out_bad = c->out_channels % c->groups != 0;
    if (!in_bad && !out_bad)
        return true;
    const char *which = in_bad ? "in_channels" : "out_channels";
    int64_t n = in_bad ? c->in_channels : c->out_channels;
    diag_error(t->d, infer_arg(t, "groups"), "E0305",
               "%s's groups=%" PRId64 " does not divide %s=%" PRId64 ": %" PRId64 " = %" PRId64 " * %" PRId64 " + %" PRId64,
               infer_type(t), c->groups, which, n, n, c->groups, n / c->groups, n % c->groups);
    note_use(t);
    diag_help(t->d, "both channel counts must be multiples of groups");
    diag_torch(t->d, "%s must be divisible by groups", which);
    return false;
}

static bool check_conv_sizes(Infer *t)
{
    const ConvAttrs *c = &t->n->attrs.conv;
    int bad = 0;
    if (c->in_channels != INFER)
        require_size(t, "in_channels", c->in_channels, 1, &bad);
    require_size(t, "out_channels", c->out_channels, 1, &bad);
    static const char *const names[] = {"kernel_size", "stride", "padding", "dilation"};
    for (int k = 0; k < 4; k++) {
        const int64_t *v = k == 0 ? c->kernel : k == 1 ? c->stride : k == 2 ? c->pad_lo : c->dilation;
        int found = 0;
        for (int i = 0; i < c->nd && !found; i++)
            if (k != 2 || c->padding == PADDING_NUMBERS)
                require_size(t, names[k], v[i], k == 2 ? 0 : 1, &found);
        bad += found;
    }
    require_size(t, "groups", c->groups, 1, &bad);
    return bad == 0;
}

static bool resolve_padding(Infer *t)
{
    ConvAttrs *c = &t->n->attrs.conv;
    for (int i = 0; i < c->nd; i++) {
        if (c->padding == PADDING_NUMBERS)
            continue;
        if (c->padding == PADDING_SAME && c->stride[i] != 1) {
            diag_error(t->d, infer_arg(t, "padding"), "E0312", "%s's padding='same' needs stride 1, not %" PRId64, infer_type(t),
                       c->stride[i]);
            note_use(t);
            if (c->kernel[i] % 2 == 1)
                diag_help(t->d,
                          "write padding=%" PRId64 ": with a %" PRId64
                          "-wide kernel the output is the input divided by the stride, rounded up",
                          c->dilation[i] * (c->kernel[i] - 1) / 2, c->kernel[i]);
            diag_torch(t->d, "padding='same' is not supported for strided convolutions");
            return false;
        }
        int64_t total = c->padding == PADDING_SAME && c->mode == PAD_ZEROS ? c->dilation[i] * (c->kernel[i] - 1) : 0;
        c->pad_lo[i] = total / 2;
        c->pad_hi[i] = total - total / 2;
    }
    return true;
}

void shape_conv(Infer *t)
{
    ConvAttrs *c = &t->n->attrs.conv;
    Shape in = infer_in(t, 0),
          out = windows_unknown(t, c->nd, c->out_channels >= 1 && c->out_channels <= INT32_MAX ? c->out_channels : UNKNOWN);
    bool fine = check_conv_sizes(t) && resolve_padding(t);
    if (in.rank >= 0 && in.rank != c->nd + 2) {
        fine = bad_rank(t, WANTS[c->nd]);
        in = out = shape_unknown();
    }
    if (in.rank >= 0 && c->in_channels == INFER)
        c->in_channels = in.dim[1];
    else if (in.rank >= 0 && in.dim[1] != UNKNOWN && c->in_channels > 0 && in.dim[1] != c->in_channels && wrong_channels(t, &in))
        in = shape_unknown();
    if (!fine) {
        infer_out(t, 0, out, true);
        return;
    }
    Window w[MAX_SPATIAL];
    for (int i = 0; i < c->nd; i++)
        w[i] = conv_window(c, &in, i);
    if (in.rank >= 0)
        window_dims(t, w, c->nd, &out);
    if (check_groups(t) && c->in_channels > 0) {
        Shape weight = {.rank = c->nd + 2, .dim = {c->out_channels, c->in_channels / c->groups}},
              bias = {.rank = 1, .dim = {c->out_channels}};
        memcpy(weight.dim + 2, c->kernel, sizeof *c->kernel * (size_t)c->nd);
        int64_t fan_in = shape_sample_elements(&weight);
        infer_param(t, 1, weight, fan_in);
        infer_param(t, 2, bias, fan_in);
    }
    infer_out(t, 0, out, true);
}

/* ---- linear ---- */

/* `hidden * 26 * 26` where 24 x 24 arrives: keeps the user's factors and replaces the last ones. NULL when it is not such text.
 */
static const char *fixed_product(const Infer *t, const char *text, int64_t given, const Shape *flat)
{
    const char *last = strrchr(text, '*');
    if (flat->rank != 4 || !last || last == text)
        return NULL;
    const char *mid = last - 1;
    while (mid > text && *mid != '*')
        mid--;
    char *end_a, *end_b;
    int64_t a = strtoll(mid + 1, &end_a, 10), b = strtoll(last + 1, &end_b, 10);
    bool plain = *mid == '*' && mid > text && mid[-1] != '*' && end_a <= last && strspn(end_a, " ") == (size_t)(last - end_a) &&
                 *end_b == '\0' && end_b > last + 1;
    if (!plain || a < 1 || b < 1 || a > given || given % a != 0 || given / a % b != 0 || given / a / b != flat->dim[1])
        return NULL;
    return arena_printf(t->g->arena, "%.*s* %" PRId64 " * %" PRId64, (int)(mid - text), text, flat->dim[2], flat->dim[3]);
}

/* The number given fits an earlier size: points at the layer that had it, since the layers below were forgotten. */
static void note_earlier_size(Infer *t, NodeId flatten, int64_t given)
{
    NodeId id = shape_origin(t->g, graph_node(t->g, flatten)->in[0]);
    Shape now = graph_value(t->g, graph_node(t->g, flatten)->in[0])->shape;
    if (now.rank != 4 || !shape_is_known(&now))
        return;
    for (int steps = 0; id && steps < 64; steps++) {
        const Node *n = graph_node(t->g, id);
        Shape s = n->n_out ? graph_value(t->g, n->out[0])->shape : shape_unknown();
        if (s.rank != 4 || !shape_is_known(&s))
            return;
        if ((s.dim[2] != now.dim[2] || s.dim[3] != now.dim[3]) && now.dim[1] * s.dim[2] * s.dim[3] == given) {
            diag_note(t->d, n->span,
                      "%" PRId64 " = %" PRId64 " * %" PRId64 " * %" PRId64 " is the size here; the layers after it leave %" PRId64
                      "x%" PRId64,
                      given, now.dim[1], s.dim[2], s.dim[3], now.dim[2], now.dim[3]);
            return;
        }
        if (n->op == OP_INPUT || !n->n_in || !n->in[0])
            return;
        id = shape_origin(t->g, n->in[0]);
    }
}

static void help_number(Infer *t, int64_t given, int64_t got, NodeId origin)
{
    Arena *a = t->g->arena;
    Span at;
    const char *text = arena_printf(a, "%" PRId64, got);
    const Node *from = origin ? graph_node(t->g, origin) : NULL;
    if (from && from->op == OP_RESHAPE && infer_arg_written(t, "in_features", &at)) {
        const char *product = fixed_product(t, infer_source(t, at), given, &graph_value(t->g, from->in[0])->shape);
        text = product ? product : text;
    }
    help_argument(t, "in_features", text);
}

static void wrong_features(Infer *t, const Shape *in)
{
    const LinearAttrs *l = &t->n->attrs.linear;
    Arena *a = t->g->arena;
    int64_t got = in->dim[in->rank - 1], all = shape_sample_elements(in), rows = infer_batch(t);
    NodeId origin = shape_origin(t->g, t->n->in[0]);
    if (in->rank > 2) {
        diag_error(t->d, infer_arg(t, "in_features"), "E0307",
                   "%s expects %" PRId64 " input features but the last axis of %s has %" PRId64, infer_type(t), l->in_features,
                   infer_sample(t, in), got);
        note_origin(t, t->n->in[0]);
        if (all == l->in_features)
            diag_help(t->d, "put Flatten() before it: %s = %" PRId64, dims_text(a, in->dim + 1, in->rank - 1, " * "), all);
        else if (all != UNKNOWN)
            diag_help(t->d, "Linear works on the last axis; Flatten() before it would make %s = %" PRId64 " features",
                      dims_text(a, in->dim + 1, in->rank - 1, " * "), all);
    } else {
        diag_error(t->d, infer_arg(t, "in_features"), "E0307", "%s expects %" PRId64 " input features but receives %" PRId64,
                   infer_type(t), l->in_features, got);
        note_origin(t, t->n->in[0]);
        if (origin && graph_node(t->g, origin)->op == OP_RESHAPE)
            note_earlier_size(t, origin, l->in_features);
        help_number(t, l->in_features, got, origin);
    }
    note_use(t);
    for (int i = 1; i < in->rank - 1; i++)
        rows = in->dim[i] == UNKNOWN ? rows : rows * in->dim[i];
    diag_torch(t->d, "mat1 and mat2 shapes cannot be multiplied (%" PRId64 "x%" PRId64 " and %" PRId64 "x%" PRId64 ")", rows, got,
               l->in_features, l->out_features);
}

void shape_linear(Infer *t)
{
    LinearAttrs *l = &t->n->attrs.linear;
    Shape in = infer_in(t, 0);
    int bad = 0;
    if (l->in_features != INFER)
        require_size(t, "in_features", l->in_features, 1, &bad);
    require_size(t, "out_features", l->out_features, 1, &bad);
    /* Nothing known of the input: features, as nearly always. */
    Shape out = in.rank >= 2 ? in : (Shape){.rank = 2, .dim = {t->g->batch}};
    out.dim[out.rank - 1] = bad ? UNKNOWN : l->out_features;
    if (in.rank >= 2 && in.dim[in.rank - 1] != UNKNOWN) {
        if (l->in_features == INFER)
            l->in_features = in.dim[in.rank - 1];
        else if (!bad && in.dim[in.rank - 1] != l->in_features) {
            wrong_features(t, &in);
            if (shape_sample_elements(&in) == l->in_features) /* goes on as with the Flatten that was forgotten */
                out = (Shape){.rank = 2, .dim = {t->g->batch, l->out_features}};
        }
    }
    if (!bad && l->in_features > 0) {
        infer_param(t, 1, (Shape){.rank = 2, .dim = {l->out_features, l->in_features}}, l->in_features);
        infer_param(t, 2, (Shape){.rank = 1, .dim = {l->out_features}}, l->in_features);
    }
    infer_out(t, 0, out, true);
}

/* ---- pooling ---- */

static bool check_pool(Infer *t)
{
    PoolAttrs *p = &t->n->attrs.pool;
    int bad = 0, half = 0;
    for (int i = 0; i < p->nd; i++) {
        if (p->dilation[i] == 0 && t->n->op == OP_AVGPOOL)
            p->dilation[i] = 1;
        int before = bad;
        require_size(t, "kernel_size", p->kernel[i], 1, &bad);
        require_size(t, "stride", p->stride[i], 1, &bad);
        require_size(t, "padding", p->pad[i], 0, &bad);
        require_size(t, "dilation", p->dilation[i], 1, &bad);
        if (bad > before)
            return false;
    }
    for (int i = 0; i < p->nd && !half; i++) {
        if (p->pad[i] <= p->kernel[i] / 2)
            continue;
        half++;
        diag_error(t->d, infer_arg(t, "padding"), "E0308",
                   "%s's padding %" PRId64 " is more than half its kernel size %" PRId64
                   ": some windows would hold nothing but padding",
                   infer_type(t), p->pad[i], p->kernel[i]);
        note_use(t);
        diag_help(t->d, "at most padding=%" PRId64, p->kernel[i] / 2);
        diag_fix(t->d, "%" PRId64, p->kernel[i] / 2);
        diag_torch(t->d,
                   "pad should be at most half of effective kernel size, but got pad=%" PRId64 ", kernel_size=%" PRId64
                   " and dilation=%" PRId64,
                   p->pad[i], p->kernel[i], p->dilation[i]);
    }
    return half == 0;
}

void shape_pool(Infer *t)
{
    const PoolAttrs *p = &t->n->attrs.pool;
    Shape in = infer_in(t, 0), out = windows_unknown(t, p->nd, UNKNOWN);
    bool fine = check_pool(t);
    if (in.rank >= 0 && in.rank != p->nd + 2) {
        fine = bad_rank(t, WANTS[p->nd]);
        in = out = shape_unknown();
    }
    if (in.rank >= 0)
        out.dim[1] = in.dim[1];
    if (fine && in.rank >= 0) {
        Window w[MAX_SPATIAL];
        for (int i = 0; i < p->nd; i++)
            w[i] = pool_window(p, &in, i);
        window_dims(t, w, p->nd, &out);
    }
    for (int i = 0; i < t->n->n_out; i++)
        infer_out(t, i, out, true);
}

void shape_adaptive(Infer *t)
{
    const AdaptiveAttrs *p = &t->n->attrs.adaptive;
    Shape in = infer_in(t, 0), out = windows_unknown(t, p->nd, UNKNOWN);
    int bad = 0;
    if (in.rank >= 0 && in.rank != p->nd + 2) {
        bad_rank(t, WANTS[p->nd]);
        in = shape_unknown();
    }
    if (in.rank >= 0)
        out.dim[1] = in.dim[1];
    for (int i = 0; i < p->nd; i++) {
        if (p->out[i] != 0)
            require_size(t, "output_size", p->out[i], 1, &bad);
        out.dim[i + 2] = p->out[i] > 0 && p->out[i] <= INT32_MAX ? p->out[i]
                         : p->out[i] == 0 && in.rank >= 0        ? in.dim[i + 2]
                                                                 : UNKNOWN;
    }
    for (int i = 0; i < t->n->n_out; i++)
        infer_out(t, i, out, true);
}

/* ---- batch normalisation ---- */

static bool norm_rank_is_fine(const Infer *t, int rank)
{
    const char *type = infer_type(t);
    size_t n = strlen(type);
    if (n < 2 || type[n - 1] != 'd')
        return rank >= 2;
    return type[n - 2] == '1' ? rank == 2 || rank == 3 : rank == type[n - 2] - '0' + 2;
}

static void wrong_norm_features(Infer *t, const Shape *in)
{
    int64_t given = t->n->attrs.norm.features, got = in->dim[1];
    diag_error(t->d, infer_arg(t, "num_features"), "E0310", "%s expects %" PRId64 " channels but receives %" PRId64,
               infer_type(t), given, got);
    note_origin(t, t->n->in[0]);
    note_use(t);
    help_argument(t, "num_features", arena_printf(t->g->arena, "%" PRId64, got));
    diag_torch(t->d, "running_mean should contain %" PRId64 " elements not %" PRId64, got, given);
}

void shape_batchnorm(Infer *t)
{
    NormAttrs *b = &t->n->attrs.norm;
    Shape in = infer_in(t, 0);
    int bad = 0;
    if (b->features != INFER)
        require_size(t, "num_features", b->features, 1, &bad);
    if (in.rank >= 0 && !norm_rank_is_fine(t, in.rank)) {
        const char *type = infer_type(t);
        int nd = type[strlen(type) - 2] - '0';
        bad_rank(t, nd == 1 ? "features [F] or a signal [C, L]" : nd >= 0 && nd <= 3 ? WANTS[nd] : "channels");
    } else if (in.rank >= 0 && in.dim[1] != UNKNOWN) {
        if (b->features == INFER)
            b->features = in.dim[1];
        else if (!bad && in.dim[1] != b->features) {
            wrong_norm_features(t, &in);
            in.dim[1] = UNKNOWN; /* either number may have been meant */
        }
    }
    Shape per_channel = {.rank = 1, .dim = {b->features}};
    for (int i = 1; i < t->n->n_in && b->features > 0; i++)
        infer_param(t, i, per_channel, 0);
    infer_out(t, 0, in, true);
}

void shape_bn_stats(Infer *t)
{
    Shape in = infer_in(t, 0);
    for (int i = 0; i < t->n->n_out; i++)
        infer_out(t, i, in.rank >= 2 ? (Shape){.rank = 1, .dim = {in.dim[1]}} : shape_unknown(), false);
}
