/* Metrics as text and as JSON.
 * In: a Metrics and class names. Out: what `eval` writes to stdout.
 * Relies on the names being as many as the classes. Idea: one function per part; the matrix is left out of the text when
 * it would be wider than a page, and never out of the JSON. */
#include "runtime/json_write.h"
#include "runtime/metrics.h"
#include <math.h>
#include <string.h>

enum { WIDEST_MATRIX = 20, NAME_SIZE = 24 };

static const char *class_name(const char *const *names, int32_t c, char buffer[NAME_SIZE])
{
    if (names)
        return names[c];
    snprintf(buffer, NAME_SIZE, "%d", c);
    return buffer;
}

static int name_width(const Metrics *m, const char *const *names)
{
    char buffer[NAME_SIZE];
    size_t width = 5;
    for (int32_t c = 0; c < m->classes; c++) {
        size_t length = strlen(class_name(names, c, buffer));
        width = length > width ? length : width;
    }
    return width > 30 ? 30 : (int)width;
}

static void print_classes(const Metrics *m, FILE *to, const char *const *names)
{
    char buffer[NAME_SIZE];
    int width = name_width(m, names);
    fprintf(to, "\n%-*s  precision  recall      F1  samples\n", width, "class");
    for (int32_t c = 0; c < m->classes; c++) {
        ClassMetrics r = metrics_class(m, c);
        fprintf(to, "%-*s  %9.4f  %6.4f  %6.4f  %7lld\n", width, class_name(names, c, buffer), r.precision, r.recall, r.f1,
                (long long)r.support);
    }
}

static void print_confusion(const Metrics *m, FILE *to, const char *const *names)
{
    char buffer[NAME_SIZE];
    int width = name_width(m, names), cell = 1;
    for (int32_t i = 0; i < m->classes * m->classes; i++) {
        int digits = snprintf(NULL, 0, "%lld", (long long)m->confusion[i]);
        cell = digits > cell ? digits : cell;
    }
    cell = cell < 4 ? 4 : cell;
    fprintf(to, "\nconfusion matrix (rows: actual, columns: predicted)\n%-*s ", width, "");
    for (int32_t c = 0; c < m->classes; c++)
        fprintf(to, " %*.*s", cell, cell, class_name(names, c, buffer));
    putc('\n', to);
    for (int32_t r = 0; r < m->classes; r++) {
        fprintf(to, "%-*s ", width, class_name(names, r, buffer));
        for (int32_t c = 0; c < m->classes; c++)
            fprintf(to, " %*lld", cell, (long long)m->confusion[(size_t)r * (size_t)m->classes + (size_t)c]);
        putc('\n', to);
    }
}

static void print_top(const Metrics *m, FILE *to, const char *const *names)
{
    char actual[NAME_SIZE], predicted[NAME_SIZE];
    if (m->n_top == 0)
        return;
    fprintf(to, "\nlargest losses\n");
    for (int32_t i = 0; i < m->n_top; i++) {
        const TopLoss *t = &m->top[i];
        if (m->loss == METRICS_MSE)
            fprintf(to, "  sample %lld: loss %.4f\n", (long long)t->index, t->loss);
        else
            fprintf(to, "  sample %lld: loss %.4f, is %s, predicted %s, probability of %s %.4f\n", (long long)t->index, t->loss,
                    class_name(names, t->label, actual), class_name(names, t->predicted, predicted),
                    class_name(names, t->label, actual), t->probability);
    }
}

void metrics_print(const Metrics *m, FILE *to, const char *const *names)
{
    fprintf(to, "samples   %lld\nloss      %.6f\n", (long long)m->n, metrics_loss(m));
    if (m->loss != METRICS_MSE) {
        fprintf(to, "accuracy  %.2f %% (%lld right)\n", 100 * metrics_accuracy(m), (long long)m->correct);
        print_classes(m, to, names);
        if (m->classes <= WIDEST_MATRIX)
            print_confusion(m, to, names);
    }
    print_top(m, to, names);
}

static void put_field(FILE *to, const char *before, double x)
{
    fputs(before, to);
    json_put_number(to, x);
}

static void json_classes(const Metrics *m, FILE *to, const char *const *names)
{
    char buffer[NAME_SIZE];
    fputs(",\n \"classes\": [", to);
    for (int32_t c = 0; c < m->classes; c++) {
        ClassMetrics r = metrics_class(m, c);
        fputs(c ? ",\n  {\"label\": " : "\n  {\"label\": ", to);
        json_put_string(to, class_name(names, c, buffer));
        put_field(to, ", \"precision\": ", r.precision);
        put_field(to, ", \"recall\": ", r.recall);
        put_field(to, ", \"f1\": ", r.f1);
        fprintf(to, ", \"support\": %lld}", (long long)r.support);
    }
    fputs("],\n \"confusion\": [", to);
    for (int32_t r = 0; r < m->classes; r++)
        for (int32_t c = 0; c < m->classes; c++)
            fprintf(to, "%s%lld%s",
                    c   ? ", "
                    : r ? ",\n  ["
                        : "\n  [",
                    (long long)m->confusion[(size_t)r * (size_t)m->classes + (size_t)c], c == m->classes - 1 ? "]" : "");
    putc(']', to);
}

void metrics_print_json(const Metrics *m, FILE *to, const char *const *names)
{
    fprintf(to, "{\"samples\": %lld", (long long)m->n);
    put_field(to, ", \"loss\": ", metrics_loss(m));
    put_field(to, ", \"accuracy\": ", metrics_accuracy(m));
    if (m->loss != METRICS_MSE)
        json_classes(m, to, names);
    fputs(",\n \"top_losses\": [", to);
    for (int32_t i = 0; i < m->n_top; i++) {
        const TopLoss *t = &m->top[i];
        fprintf(to, "%s{\"index\": %lld", i ? ",\n  " : "\n  ", (long long)t->index);
        put_field(to, ", \"loss\": ", t->loss);
        if (m->loss != METRICS_MSE) {
            fprintf(to, ", \"label\": %d, \"predicted\": %d", t->label, t->predicted);
            put_field(to, ", \"probability\": ", t->probability);
        }
        putc('}', to);
    }
    fputs("]}\n", to);
}
