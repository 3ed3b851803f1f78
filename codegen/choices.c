/* choices.c: a plan's differences from the cost model as text and back. */
#include "codegen/choices.h"

#include <stdlib.h>
#include <string.h>

static const char *const layout_names[LAYOUT_WANTS] = {[LAYOUT_WANT_IMAGES] = "images", [LAYOUT_WANT_CHANNELS] = "channels"};

const char *choices_text(Arena *a, const Choices *c)
{
    const char *text = "", *gap = "";
    if (c->layout != LAYOUT_BY_COST) {
        text = arena_printf(a, "layout=%s", layout_names[c->layout]);
        gap = " ";
    }
    if (c->strip > 0) {
        text = arena_printf(a, "%s%sstrip=%d", text, gap, c->strip);
        gap = " ";
    }
    const char *before = "direct=";
    for (int i = 0; i < 64; i++)
        if (c->direct >> i & 1) {
            text = arena_printf(a, "%s%s%s%d", text, gap, before, i);
            gap = "";
            before = ",";
        }
    return text;
}

static bool parse_layout(const char *value, size_t n, Choices *out)
{
    for (int i = LAYOUT_BY_COST + 1; i < LAYOUT_WANTS; i++)
        if (n == strlen(layout_names[i]) && !strncmp(value, layout_names[i], n)) {
            out->layout = (LayoutWant)i;
            return true;
        }
    return false;
}

/* "3" or "0,3": numbers below `limit`, each handed to `take`. */
static bool parse_numbers(const char *value, size_t n, long limit, void (*take)(Choices *, long), Choices *out)
{
    const char *end = value + n;
    while (value < end) {
        char *after;
        long number = strtol(value, &after, 10);
        if (after == value || number < 0 || number >= limit || (after < end && *after != ',') || after + 1 == end)
            return false;
        take(out, number);
        value = after + 1;
    }
    return n > 0;
}

static void take_strip(Choices *c, long n) { c->strip = (int32_t)n; }
static void take_direct(Choices *c, long n) { c->direct |= (uint64_t)1 << n; }

bool choices_parse(const char *text, Choices *out)
{
    *out = (Choices){0};
    while (*text) {
        size_t n = strcspn(text, " "), key = strcspn(text, "=");
        bool fine = key < n;
        if (fine && key == 6 && !strncmp(text, "layout", key))
            fine = parse_layout(text + 7, n - 7, out);
        else if (fine && key == 5 && !strncmp(text, "strip", key))
            fine = parse_numbers(text + 6, n - 6, 1 << 16, take_strip, out);
        else
            fine = fine && key == 6 && !strncmp(text, "direct", key) && parse_numbers(text + 7, n - 7, 64, take_direct, out);
        if (!fine)
            return false;
        text += n + (text[n] == ' ');
    }
    return true;
}
